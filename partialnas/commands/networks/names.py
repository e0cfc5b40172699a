"""Names of networks on the command line, and their inputs.

A name is that of a preset, a JSON file, a trial `DIR:7`, or `timm:NAME`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import condition_of, rung_of, stage_of
from partialnas.runs.records.frozen_model import final_subject
from partialnas.runs.records.subject import Subject, parse_subject
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.presets import PRESETS, preset
from partialnas.space.errors import UserError

_TRIAL = re.compile(r"(.+):([0-9]{1,9})", re.DOTALL)

_COLOR_IMAGE = InputSpec.square(224)
"""Input of networks without a task, as in ImageNet."""


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


def network_input(
    name: str,
    resolution: int | None = None,
    channels: int | None = None,
    classes: int | None = None,
) -> InputSpec:
    """Return the input of a network: the stated sizes, and those of the trial's task for the rest.

    Other networks than trials have color images of 224 pixels and 1000 classes, as ImageNet; so
    have trials of old ledgers, which do not record the task.

    Args:
        name: the network as the user named it.
        resolution: height and width in pixels, or None if not stated.
        channels: channels of an image, or None if not stated.
        classes: number of classes, or None if not stated.

    Raises:
        UserError: there is no such trial.
    """
    trial = None if name.startswith("timm:") else parse_trial(name)
    spec = _trial_input(*trial) if trial else _COLOR_IMAGE
    return InputSpec.square(
        resolution or spec.height, channels or spec.channels, classes or spec.classes
    )


def common_input(names: Sequence[str], resolution: int | None) -> InputSpec:
    """Return the input at which networks are timed together: that of the trials among them.

    Raises:
        UserError: trials have different inputs.
    """
    trials = [name for name in names if not name.startswith("timm:") and parse_trial(name)]
    specs = dict.fromkeys(network_input(name, resolution) for name in trials or names)
    if len(specs) > 1:
        raise UserError(
            f"the trials have different inputs ({'; '.join(map(str, specs))}); measure them one "
            "input at a time, or set --resolution if only the resolution differs"
        )
    return next(iter(specs))


def random_task(spec: InputSpec) -> Task:
    """Return the task of random images, for networks that are built but not trained."""
    return Task(data="random", resolution=spec.height, channels=spec.channels, classes=spec.classes)


def parse_trial(name: str) -> tuple[Path, int] | None:
    """Return the folder and the number in `DIR:7`, or None if `name` has another form."""
    match = _TRIAL.fullmatch(name)
    return (Path(match[1]), int(match[2])) if match else None


def _trial_input(folder: Path, number: int) -> InputSpec:
    """Return the input that a trial was trained at, on a lower rung with the rung's resolution."""
    with Ledger.open(folder) as ledger:
        trial = ledger.trial(number)
        proposal = next(row for row in ledger.proposals() if row.number == trial.proposal)
        study = ledger.study
    if "task" not in study.meta:
        return _COLOR_IMAGE
    spec = study.tasks[condition_of(proposal)].input_spec
    rung = rung_of(proposal) if proposal.arm is None else 0
    changes = study.rung_settings(stage_of(proposal), rung)
    return InputSpec.square(
        changes.get("task.resolution") or spec.height, spec.channels, spec.classes
    )


def _trial_subject(folder: Path, number: int) -> Subject:
    with Ledger.open(folder) as ledger:
        trial = ledger.trial(number)
        proposals = {row.number: row for row in ledger.proposals()}
        last = ledger.last_ratios(trial.key)
    return final_subject(parse_subject(proposals[trial.proposal].subject), last)
