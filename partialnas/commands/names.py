"""What a word of the command line names: a preset, a JSON file, a trial `DIR:7`, `timm:NAME`."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.presets import PRESETS, preset
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from partialnas.runs.config.protocol import Protocol
    from partialnas.runs.records.measurement import Measurement
    from partialnas.runs.records.subject import Subject

_CLASSES, _CHANNELS = 1000, 3
_TRIAL = re.compile(r"(.+):(\d+)")


def find_architecture(name: str) -> Architecture:
    """The architecture that `name` stands for.

    Raises:
        UserError: nothing of that name, or a timm model, whose inside is not known.
    """
    subject = find_subject(name)
    if not isinstance(subject, Architecture):
        raise UserError(f"{name} is a timm model; describe works on partialnas architectures")
    return subject


def find_subject(name: str) -> "Subject":
    """The architecture or timm model that `name` stands for.

    A trial with learned ratios stands for the static network that it has become.

    Raises:
        UserError: nothing of that name; says what would be understood.
    """
    if name in PRESETS:
        return preset(name)
    if name.startswith("timm:"):
        from partialnas.runs.records.subject import parse_subject

        return parse_subject(name)
    if name.endswith(".json"):
        return Architecture.from_file(Path(name))
    trial = parse_trial(name)
    return _from_ledger(*trial) if trial else preset(name)


def parse_trial(name: str) -> tuple[Path, int] | None:
    """The folder and the number that `DIR:7` names; None where it names no trial."""
    match = _TRIAL.fullmatch(name)
    return (Path(match[1]), int(match[2])) if match else None


def _from_ledger(folder: Path, number: int) -> "Subject":
    from partialnas.runs.ledger.ledger import Ledger
    from partialnas.runs.records.frozen_model import final_subject
    from partialnas.runs.records.subject import parse_subject

    with Ledger.open(folder) as ledger:
        trial = ledger.trial(number)
        proposals = {row.number: row for row in ledger.proposals()}
        last = ledger.last_ratios(trial.key)
    return final_subject(parse_subject(proposals[trial.proposal].subject), last)


def measure_subjects(
    subjects: Sequence["Subject"], resolution: int, protocol: "Protocol"
) -> Iterator["Measurement"]:
    """Measurements of the subjects in order, each beside the first, one at a time."""
    from partialnas.runs.datasets.task import Task
    from partialnas.runs.measure.measure import measure_many

    task = Task(data="random", resolution=resolution, channels=_CHANNELS, classes=_CLASSES)
    yield from measure_many(subjects, task, protocol, subjects[0])
