"""From a study's values to the things that run: task, space, arms, reference."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from partialnas.runs.subject import Subject, check_subject, subject_digest, subject_from
from partialnas.runs.task import Task, resolve_task
from partialnas.search.study import Plain, Study
from partialnas.space.architecture import Architecture
from partialnas.space.cost import cost
from partialnas.space.errors import UserError
from partialnas.space.plan import Plan
from partialnas.space.presets import PRESETS, preset, preset_plan
from partialnas.space.ratio import started
from partialnas.space.space import Space
from partialnas.space.spec import SpaceSpec
from partialnas.space.values import checked

T = TypeVar("T")

_REFERENCE_SAMPLE = 64
_REFERENCE_WIDTHS = range(2, 257, 2)


@dataclass(frozen=True)
class Prepared:
    """A study whose names have been resolved.

    Attributes:
        study: the study.
        task: data set, resolution, channels and classes.
        base: the plan that arms and axes start from.
        space: what the search varies; None for a list of arms alone.
        arms: named subjects, in the study's order.
        reference: what throughput is relative to.
    """

    study: Study
    task: Task
    base: Plan
    space: Space | None
    arms: dict[str, Subject]
    reference: Subject


def prepare(study: Study, folder: Path) -> Prepared:
    """Resolve everything that a study names; `folder` is where its relative paths start.

    Raises:
        UserError: names every mistake with its path in the study.
    """
    problems: list[str] = []

    def attempt(at: str, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except UserError as error:
            told = str(error)
            problems.append(told if told.startswith(at) else f"{at}: {told}")
            return None

    data = _beside(study.task.data, folder)
    task = attempt("task", lambda: resolve_task(data, study.task.resolution))
    base, spec = study.base, study.space
    attempt("base", base.architecture)
    if task is None or problems:
        raise _refusal(problems)
    space = attempt("space", lambda: _space(base, spec, task)) if spec else None
    arms = {
        name: attempt(f"arms.{name}", partial(_subject, arm, name, base, task, folder))
        for name, arm in study.arms.items()
    }
    reference = attempt("reference", lambda: _reference(study, base, space, task, folder))
    attempt("budget.trials", lambda: _check_budget(study))
    if problems or reference is None:
        raise _refusal(problems)
    known = {name: arm for name, arm in arms.items() if arm is not None}
    return Prepared(study, task, base, space, known, reference)


def _beside(data: str, folder: Path) -> str:
    """The data set's name, a relative path in it starting from `folder`."""
    kind, colon, path = data.partition(":")
    return f"{kind}:{folder / path}" if colon and path else data


def _refusal(problems: list[str]) -> UserError:
    return UserError("the study cannot run:\n  " + "\n  ".join(problems))


def _space(base: Plan, spec: SpaceSpec, task: Task) -> Space:
    space = Space(
        base,
        spec,
        resolution=task.resolution,
        in_chans=task.channels,
        num_classes=task.classes,
    )
    space.sample(random.Random(0))
    return space


def _subject(arm: str | Plain, name: str, base: Plan, task: Task, folder: Path) -> Subject:
    subject = _named(arm, folder) if isinstance(arm, str) else _changed(base, arm)
    if isinstance(subject, Architecture):
        subject.map_sizes(task.resolution)
        return subject.model_copy(update={"name": name})
    check_subject(subject)
    return subject


def _changed(base: Plan, arm: Plain) -> Architecture:
    start = preset_plan(str(arm["preset"])) if "preset" in arm else base
    changes = {key: value for key, value in arm.items() if key != "preset"}
    plan = checked(Plan, {**start.model_dump(), **changes}, "no network")
    return plan.model_copy(update={"ratio": started(plan.ratio, start.ratio)}).architecture()


def _named(arm: str, folder: Path) -> Subject:
    if arm in PRESETS:
        return preset(arm)
    if arm.endswith(".json"):
        return Architecture.from_file(folder / arm)
    if arm.startswith("timm:"):
        return subject_from(arm)
    return preset(arm)


def expected_trials(study: Study) -> int | None:
    """How many trials a study will have; None where only hours bound it.

    A searched network is trained with all its seeds or not at all.
    """
    arms = len(study.arms) * study.seeds
    if study.search is None:
        return arms
    budget = study.budget.trials
    return None if budget is None else arms + (budget - arms) // study.seeds * study.seeds


def _check_budget(study: Study) -> None:
    needed = len(study.arms) * study.seeds
    if study.budget.trials is not None and needed > study.budget.trials:
        raise UserError(
            f"{study.budget.trials} is less than what the arms need: {len(study.arms)} arms x "
            f"{study.seeds} seeds = {needed} trials"
        )


def _reference(study: Study, base: Plan, space: Space | None, task: Task, folder: Path) -> Subject:
    """The stated reference, or a FasterNet near the median cost of the space."""
    if study.reference is not None:
        return _subject(study.reference, "reference", base, task, folder)
    rng = random.Random(0)
    sampled = (
        [space.architecture(space.sample(rng)) for _ in range(_REFERENCE_SAMPLE)] if space else []
    )
    macs = [_macs(architecture, task) for architecture in sampled or [base.architecture()]]
    return fasternet_near(median(macs), base, task)


def fasternet_near(macs: float, base: Plan, task: Task) -> Architecture:
    """The FasterNet with the base's depths and stem whose MACs are nearest to `macs`."""
    plain = {"attention": "none", "pat_sp": False, "parts": 2, "operations": None}
    plain |= {"ratio": "1/4", "mlp_ratio": 2, "name": "fasternet_reference"}
    settings = {**base.model_dump(mode="json"), **plain}
    plans = [Plan.model_validate({**settings, "width": w}) for w in _REFERENCE_WIDTHS if w >= 4]
    return min((p.architecture() for p in plans), key=lambda a: abs(_macs(a, task) - macs))


def _macs(architecture: Architecture, task: Task) -> int:
    return cost(architecture, task.resolution, task.channels, task.classes).macs


def same_network(prepared: Prepared) -> list[str]:
    """Arms that build the same network as another, one line each."""
    first: dict[str, str] = {}
    lines = []
    for name, arm in prepared.arms.items():
        other = first.setdefault(subject_digest(arm), name)
        if other != name:
            lines.append(f"arms.{name} builds the same network as arms.{other}: trained once")
    return lines
