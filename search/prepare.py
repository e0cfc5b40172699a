"""From a study's values to the things that run: task, space, arms, reference."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from partialnas.runs.design import Design, DesignArm, Stage
from partialnas.runs.measure import rehearse
from partialnas.runs.settings import Plain
from partialnas.runs.subject import Subject, check_subject, subject_digest, subject_from
from partialnas.runs.task import Task, resolve_task
from partialnas.search.compiling import compile_ablation, with_settings
from partialnas.search.condition import Condition
from partialnas.search.controls import ControlArm, control_arm, is_control
from partialnas.search.matching import matcher
from partialnas.search.study import Study
from partialnas.search.variants import changed_plan
from partialnas.space.architecture import Architecture
from partialnas.space.cost import cost
from partialnas.space.errors import UserError
from partialnas.space.plan import Plan
from partialnas.space.presets import PRESETS, preset, preset_plan
from partialnas.space.space import Space
from partialnas.space.spec import SpaceSpec

T = TypeVar("T")

_REFERENCE_SAMPLE = 64
_REFERENCE_WIDTHS = range(2, 257, 2)


@dataclass(frozen=True)
class Prepared:
    """A study whose names have been resolved.

    Attributes:
        study: the study.
        conditions: under each of which every arm is trained and timed; at least one.
        base: the plan that arms and axes start from.
        space: what the search varies; None for a list of arms alone.
        arms: named subjects, in the study's order, those of its ablation first.
        design: the ablation that was compiled into arms, if there is one.
        stage: the later stage that is run, in the place of the study itself.
        controls: arms that follow from what others have learned, by name.
        reference: what throughput is relative to.
    """

    study: Study
    conditions: tuple[Condition, ...]
    base: Plan
    space: Space | None
    arms: dict[str, Subject]
    controls: dict[str, ControlArm]
    reference: Subject
    design: Design | None = None
    stage: Stage | None = None

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """What tables compare: an ablation's arms with their baselines, or all with the first."""
        if self.design is not None:
            return self.design.contrasts
        everyone = [*self.arms, *self.controls]  # none in a search alone
        return tuple((arm, everyone[0]) for arm in everyone[1:])

    def recipe_of(self, arm: str) -> Plain:
        """The settings of the recipe that an arm has in the study's place.

        An arm that follows from another is trained as that one is.
        """
        origin = self.controls[arm].origin if arm in self.controls else arm
        own = self.design.arm(origin) if self.design else None
        return own.recipe if own else {}

    def under(self, arm: str, condition: Condition) -> Condition:
        """How an arm is trained and timed under a condition."""
        recipe = with_settings(condition.recipe, self.recipe_of(arm))
        return replace(condition, recipe=recipe)


def prepare(study: Study, folder: Path, known: Design | None = None) -> Prepared:
    """Resolve everything that a study names.

    Args:
        study: the study.
        folder: where its relative paths start.
        known: the design of its ablation as an earlier sitting compiled it.

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

    base, spec = study.base, study.space
    found = [
        attempt(f"conditions.{name}" if name else "task", partial(_condition, study, name, folder))
        for name in study.conditions or ("",)
    ]
    attempt("base", base.architecture)
    conditions = tuple(condition for condition in found if condition is not None)
    if problems:
        raise _refusal(problems)
    task, tasks = conditions[0].task, tuple(condition.task for condition in conditions)
    space = attempt("space", lambda: _space(base, spec, task)) if spec else None
    stated = {name: arm for name, arm in study.arms.items() if not is_control(arm)}
    subjects = {
        name: attempt(f"arms.{name}", partial(_subject, arm, name, base, tasks, folder))
        for name, arm in stated.items()
    }
    compiled = attempt("ablation", lambda: _ablation(study, conditions[0], space, known))
    design, networks = compiled or (None, {})
    problems += [
        f"arms.{name}: the ablation has an arm of this name" for name in networks if name in stated
    ]
    arms = networks | {name: each for name, each in subjects.items() if each is not None}
    controls = {
        name: attempt(f"arms.{name}", partial(control_arm, arm, arms))
        for name, arm in study.arms.items()
        if isinstance(arm, dict) and is_control(arm)
    }
    reference = attempt("reference", lambda: _reference(study, base, space, tasks, folder))
    if problems or reference is None:
        raise _refusal(problems)
    following = {name: control for name, control in controls.items() if control is not None}
    prepared = Prepared(study, conditions, base, space, arms, following, reference, design)
    attempt("budget.trials", lambda: _check_budget(prepared))
    if problems:
        raise _refusal(problems)
    return prepared


def _ablation(
    study: Study, condition: Condition, space: Space | None, known: Design | None
) -> tuple[Design, dict[str, Subject]] | None:
    """The design of a study's ablation and the networks of its arms; None without an ablation."""
    spec = study.ablation
    if spec is None:
        return None
    match = matcher(spec.match, spec.allowed, condition)
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


def _subject(
    arm: str | Plain, name: str, base: Plan, tasks: tuple[Task, ...], folder: Path
) -> Subject:
    subject = _named(arm, folder) if isinstance(arm, str) else _changed(base, arm)
    if isinstance(subject, Architecture):
        for task in tasks:  # refuses images too small for it, and budgets out of reach
            _macs(subject, task)
        return subject.model_copy(update={"name": name})
    check_subject(subject)
    return subject


def _changed(base: Plan, arm: Plain) -> Architecture:
    start = preset_plan(str(arm["preset"])) if "preset" in arm else base
    changes = {key: value for key, value in arm.items() if key != "preset"}
    return changed_plan(start, changes).architecture()


def _named(arm: str, folder: Path) -> Subject:
    if arm in PRESETS:
        return preset(arm)
    if arm.endswith(".json"):
        return Architecture.from_file(folder / arm)
    if arm.startswith("timm:"):
        return subject_from(arm)
    return preset(arm)


def expected_trials(prepared: Prepared) -> int | None:
    """How many trials a study will have; None where only hours bound it.

    A searched network is trained with all its seeds or not at all; where seeds are added by rule,
    the trials of the first of them.
    """
    study = prepared.study
    arms, seeds = _arm_trials(prepared), study.first_seeds
    if study.search is None:
        return arms
    budget = study.budget.trials
    return None if budget is None else arms + (budget - arms) // seeds * seeds


def _arm_trials(prepared: Prepared) -> int:
    arms = len(prepared.arms) + len(prepared.controls)
    return arms * len(prepared.conditions) * prepared.study.first_seeds


def _check_budget(prepared: Prepared) -> None:
    study, needed = prepared.study, _arm_trials(prepared)
    if study.budget.trials is not None and needed > study.budget.trials:
        under = f" x {len(study.conditions)} conditions" if study.conditions else ""
        raise UserError(
            f"{study.budget.trials} is less than what the arms need: "
            f"{len(prepared.arms) + len(prepared.controls)} arms{under} x {study.first_seeds} "
            f"seeds = {needed} trials"
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
    return cost(architecture, task.resolution, task.channels, task.classes).macs


def rehearse_all(prepared: Prepared) -> None:
    """Run the reference once under each condition, to find out whether it can be measured so.

    Raises:
        UserError: it cannot run on the images of a task.
        MachineError: the device is not there, or out of memory.
    """
    for condition in prepared.conditions:
        rehearse(prepared.reference, condition.task, condition.protocol)


def same_network(prepared: Prepared) -> list[str]:
    """Arms that build the same network as another, one line each."""
    first: dict[tuple[str, Condition], str] = {}
    lines = []
    for name, arm in prepared.arms.items():
        trained = prepared.under(name, prepared.conditions[0])
        other = first.setdefault((subject_digest(arm), trained), name)
        if other != name:
            lines.append(f"arms.{name} builds the same network as arms.{other}: trained once")
    return lines


def unmatched(prepared: Prepared) -> list[str]:
    """Arms for which no twin of equal cost was found, one line each."""
    arms = prepared.design.arms if prepared.design else ()
    return [
        f"{arm.name} cannot be matched: {arm.matched.problem}"
        for arm in arms
        if arm.matched and arm.matched.problem
    ]
