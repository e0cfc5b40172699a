"""From a study's values to the things that run: task, space, arms, reference."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from partialnas.runs.config.design import Design, DesignArm
from partialnas.runs.config.overrides import PlainData
from partialnas.runs.datasets.task import Task, resolve_task
from partialnas.runs.records.subject import Subject, check_subject, parse_subject
from partialnas.search.ablation.compile import compile_ablation
from partialnas.search.ablation.control_arms import ControlArm, is_control, parse_control_arm
from partialnas.search.ablation.cost_matching import make_matcher
from partialnas.search.resolve.resolved_study import ResolvedStudy, count_arm_trials
from partialnas.search.study.condition import Condition
from partialnas.search.study.fidelity import min_trials_per_rung, resolve_rung
from partialnas.search.study.study import Study
from partialnas.search.study.variant import override_plan
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import PRESETS, preset, preset_plan
from partialnas.space.axes.spec import SpaceSpec
from partialnas.space.cost.cost import cost
from partialnas.space.errors import UserError
from partialnas.space.search_space.space import Space

T = TypeVar("T")

_REFERENCE_SAMPLE = 64
_REFERENCE_WIDTHS = range(2, 257, 2)


def resolve_study(study: Study, folder: Path, known: Design | None = None) -> ResolvedStudy:
    """Resolve everything that a study names.

    Args:
        study: the study.
        folder: where its relative paths start.
        known: the design of its ablation as an earlier sitting compiled it.

    Raises:
        UserError: names every mistake with its path in the study.
    """
    attempts = _Attempts()
    found = [
        attempts.make(
            f"conditions.{name}" if name else "task", partial(_condition, study, name, folder)
        )
        for name in study.conditions or ("",)
    ]
    attempts.make("base", study.base.architecture)
    attempts.end()
    conditions = tuple(condition for condition in found if condition is not None)
    task, spec = conditions[0].task, study.space
    space = attempts.make("space", lambda: _space(study.base, spec, task)) if spec else None
    compiled = attempts.make("ablation", lambda: _ablation(study, conditions[0], space, known))
    design, networks = compiled or (None, {})
    arms = networks | _stated(study, networks, conditions, folder, attempts)
    controls = _controls(study, arms, attempts)
    reference = attempts.make(
        "reference", lambda: _reference(study, study.base, space, _tasks(conditions), folder)
    )
    attempts.end()
    assert reference is not None, "or that was an end"
    prepared = ResolvedStudy(
        study, conditions, study.base, space, arms, controls, reference, design
    )
    prepared = attempts.make("search.rungs", lambda: _with_rungs(prepared, folder)) or prepared
    attempts.make("budget.trials", lambda: _check_budget(prepared))
    attempts.end()
    return prepared


class _Attempts:
    """Tries to make things, and keeps every mistake with its path in the study."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def make(self, at: str, make: Callable[[], T]) -> T | None:
        """What is made at a place of the study; None where it was a mistake."""
        try:
            return make()
        except UserError as error:
            self.refuse(at, str(error))
            return None

    def refuse(self, at: str, told: str) -> None:
        """Keeps a mistake."""
        self._problems.append(told if told.startswith(at) else f"{at}: {told}")

    def end(self) -> None:
        """Raises all mistakes, if there were any."""
        if self._problems:
            raise UserError("the study cannot run:\n  " + "\n  ".join(self._problems))


def _tasks(conditions: tuple[Condition, ...]) -> tuple[Task, ...]:
    return tuple(condition.task for condition in conditions)


def _stated(
    study: Study,
    networks: Mapping[str, Subject],
    conditions: tuple[Condition, ...],
    folder: Path,
    attempts: _Attempts,
) -> dict[str, Subject]:
    """The arms that a study names beside those of its ablation, without controls."""
    stated = {name: arm for name, arm in study.arms.items() if not is_control(arm)}
    for name in stated.keys() & networks.keys():
        attempts.refuse(f"arms.{name}", "the ablation has an arm of this name")
    tasks = _tasks(conditions)
    subjects = {
        name: attempts.make(f"arms.{name}", partial(_subject, arm, name, study.base, tasks, folder))
        for name, arm in stated.items()
    }
    return {name: subject for name, subject in subjects.items() if subject is not None}


def _controls(
    study: Study, arms: Mapping[str, Subject], attempts: _Attempts
) -> dict[str, ControlArm]:
    """The arms that follow from what others have learned."""
    controls = {
        name: attempts.make(f"arms.{name}", partial(parse_control_arm, arm, arms))
        for name, arm in study.arms.items()
        if isinstance(arm, dict) and is_control(arm)
    }
    return {name: control for name, control in controls.items() if control is not None}


def _ablation(
    study: Study, condition: Condition, space: Space | None, known: Design | None
) -> tuple[Design, dict[str, Subject]] | None:
    """The design of a study's ablation and the networks of its arms; None without an ablation."""
    spec = study.ablation
    if spec is None:
        return None
    match = make_matcher(spec.match, spec.effective_tolerance, condition)
    design, networks = compile_ablation(spec, study.base, study.recipe, match, known)
    for arm in design.arms:
        _check_network(arm, networks[arm.name], condition.task, space)
    return design, {**networks}


def _check_network(arm: DesignArm, network: Architecture, task: Task, space: Space | None) -> None:
    """Refuses an arm that images are too small for, and a baseline that the space does not have."""
    try:
        _macs(network, task)
        if arm.against is None and space is not None and not space.contains(network):
            raise UserError("outside the study's space; widen its axes, or leave `space` out")
    except UserError as error:
        raise UserError(f"{arm.name}: {error}") from None


def _condition(study: Study, name: str, folder: Path) -> Condition:
    """The study's own task, recipe and protocol, or those under one of its conditions."""
    changed = study.under(name) if name else study
    task = resolve_task(_beside(changed.task.data, folder), changed.task.resolution)
    return Condition(name, task, changed.recipe, changed.measure)


def _with_rungs(prepared: ResolvedStudy, folder: Path) -> ResolvedStudy:
    """The study with the conditions of the rungs that its search has below the last.

    Raises:
        UserError: a rung has larger images than the data, or smaller ones than networks take.
    """
    study, last = prepared.study, prepared.conditions[0]
    if study.search is None or not study.search.rungs or prepared.space is None:
        return prepared
    full = replace(last, branches=study.scheme == "cool-down")
    rungs = []
    for number, settings in enumerate(study.search.rungs, start=1):
        recipe, spec = resolve_rung(settings, study.recipe, study.task)
        task = resolve_task(_beside(spec.data, folder), spec.resolution)
        if task.resolution > full.task.resolution:
            raise UserError(f"{number}: task.resolution: the last rung has {full.task.resolution}")
        _macs(prepared.space.architecture(prepared.space.sample(random.Random(0))), task)
        told = f"rung {number} of {len(study.search.rungs) + 1}"
        rungs.append(replace(full, task=task, recipe=recipe, rung=told, full_fidelity=full))
    return replace(prepared, conditions=(full,), rungs=tuple(rungs))


def _beside(data: str, folder: Path) -> str:
    """The data set's name, a relative path in it starting from `folder`."""
    kind, colon, path = data.partition(":")
    return f"{kind}:{folder / path}" if colon and path else data


def _space(base: Plan, spec: SpaceSpec, task: Task) -> Space:
    space = Space(base, spec, task.input_spec)
    space.sample(random.Random(0))
    return space


def _subject(
    arm: str | PlainData, name: str, base: Plan, tasks: tuple[Task, ...], folder: Path
) -> Subject:
    subject = _named(arm, folder) if isinstance(arm, str) else _changed(base, arm)
    if isinstance(subject, Architecture):
        for task in tasks:  # refuses images too small for it, and budgets out of reach
            _macs(subject, task)
        return subject.model_copy(update={"name": name})
    check_subject(subject)
    return subject


def _changed(base: Plan, arm: PlainData) -> Architecture:
    start = preset_plan(str(arm["preset"])) if "preset" in arm else base
    changes = {key: value for key, value in arm.items() if key != "preset"}
    return override_plan(start, changes).architecture()


def _named(arm: str, folder: Path) -> Subject:
    if arm in PRESETS:
        return preset(arm)
    if arm.endswith(".json"):
        return Architecture.from_file(folder / arm)
    if arm.startswith("timm:"):
        return parse_subject(arm)
    return preset(arm)


def _check_budget(prepared: ResolvedStudy) -> None:
    study, needed = prepared.study, count_arm_trials(prepared)
    if study.budget.trials is not None and needed > study.budget.trials:
        under = f" x {len(study.conditions)} conditions" if study.conditions else ""
        raise UserError(
            f"{study.budget.trials} is less than what the arms need: "
            f"{len(prepared.arms) + len(prepared.controls)} arms{under} x {study.first_seeds} "
            f"seeds = {needed} trials"
        )
    if study.budget.trials is not None and prepared.rungs and study.search is not None:
        each = min_trials_per_rung(len(prepared.rungs), study.search.promote, study.first_seeds)
        if needed + sum(each) > study.budget.trials:
            raise UserError(
                f"{study.budget.trials} trains no network in full: until a first one has come "
                f"through the rungs, there are {' + '.join(map(str, each))} trials"
                + (f", and {needed} of arms" if needed else "")
            )


def _reference(
    study: Study, base: Plan, space: Space | None, tasks: tuple[Task, ...], folder: Path
) -> Subject:
    """The stated reference, or a FasterNet near the median cost of the space."""
    if study.reference is not None:
        return _subject(study.reference, "reference", base, tasks, folder)
    task, rng = tasks[0], random.Random(0)
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
    return cost(architecture, task.input_spec).macs


def check_reference(prepared: ResolvedStudy) -> None:
    """Run the reference once under each condition, to find out whether it can be measured so.

    Raises:
        UserError: it cannot run on the images of a task.
        MachineError: the device is not there, or out of memory.
    """
    from partialnas.runs.measure.measure import check_measurable  # takes torch

    for condition in prepared.conditions:
        check_measurable(prepared.reference, condition.task, condition.protocol)
