"""Names of networks on the command line: a preset, a JSON file, a trial `DIR:7`, or `timm:NAME`."""

import re
from collections.abc import Sequence
from pathlib import Path

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.frozen_model import final_subject
from partialnas.runs.records.subject import Subject, parse_subject
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.presets import PRESETS, preset
from partialnas.space.errors import UserError

_TRIAL = re.compile(r"(.+):([0-9]{1,9})", re.DOTALL)


def find_architecture(name: str) -> Architecture:
    """Return the architecture called `name`.

    Raises:
        UserError: unknown name, or a timm model, which has no architecture.
    """
    subject = find_subject(name)
    if not isinstance(subject, Architecture):
        raise UserError(f"{name} is a timm model; expected an architecture of partialnas")
    return subject


def find_subject(name: str) -> Subject:
    """Return the architecture or timm model called `name`.

    A trial with learned ratios gives the static network that it froze to.

    Raises:
        UserError: unknown name; the message suggests similar ones.
    """
    if name in PRESETS:
        return preset(name)
    if name.startswith("timm:"):
        return parse_subject(name)
    if name.endswith(".json"):
        return Architecture.from_file(Path(name))
    trial = parse_trial(name)
    return _trial_subject(*trial) if trial else preset(name)


def network_labels(names: Sequence[str], subjects: Sequence[Subject]) -> list[str]:
    """Return how output names networks: by their arm or name, or by the trial such as `#7`.

    Trials of several studies with the same number are named as they were given: `DIR:7`.

    Args:
        names: networks as the user named them.
        subjects: what the names stand for.
    """
    labels = []
    for name, subject in zip(names, subjects, strict=True):
        trial = parse_trial(name)
        stated = subject.name if isinstance(subject, Architecture) else ""
        labels.append(stated or (f"#{trial[1]}" if trial else name))
    given = dict(zip(names, labels, strict=True))
    return labels if len(set(given.values())) == len(given) else [*names]


def parse_trial(name: str) -> tuple[Path, int] | None:
    """Return the folder and the number in `DIR:7`, or None if `name` has another form."""
    match = _TRIAL.fullmatch(name)
    return (Path(match[1]), int(match[2])) if match else None


def _trial_subject(folder: Path, number: int) -> Subject:
    with Ledger.open(folder) as ledger:
        trial = ledger.trial(number)
        proposals = {row.number: row for row in ledger.proposals()}
        last = ledger.last_ratios(trial.key)
    return final_subject(parse_subject(proposals[trial.proposal].subject), last)
