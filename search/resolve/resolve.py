"""Resolve a study: load its task and build its space, arms and reference network."""

import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from partialnas.runs.config.design import Design, DesignArm
from partialnas.runs.config.overrides import PlainData
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.memory import check_size
from partialnas.runs.datasets.task import Task, resolve_task, task_facts
from partialnas.runs.records.subject import Subject, parse_subject
from partialnas.runs.trials.build import check_subject
from partialnas.search.ablation.compile import compile_ablation
from partialnas.search.ablation.control_arms import ControlArm, is_control, parse_control_arm
from partialnas.search.ablation.cost_matching import make_matcher
from partialnas.search.resolve.resolved_study import ResolvedStudy, count_arm_trials, sample_space
from partialnas.search.study.directions import check_directions
from partialnas.search.study.fidelity import Condition, min_trials_per_rung, resolve_rung
from partialnas.search.study.study import Study
from partialnas.search.study.variant import override_plan
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import PRESETS, preset, preset_plan
from partialnas.space.axes.spec import SpaceSpec
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError
from partialnas.space.search_space.space import Space
from partialnas.space.validation import first_messages

T = TypeVar("T")

_REFERENCE_SAMPLE = 64
_REFERENCE_WIDTHS = range(4, 257, 2)


def resolve_study(study: Study, base_dir: Path, recorded: Design | None = None) -> ResolvedStudy:
    """Resolve everything that a study names.

    Args:
        study: the study.
        base_dir: folder that the study's relative paths start from.
        recorded: the design in the ledger of an earlier session, if any.

    Raises:
        UserError: the study cannot run; the message lists every mistake with its path.
    """
    errors = _ErrorCollector()
    errors.collect("", partial(check_directions, study))
    resolved_conditions = [
        errors.collect(
            f"conditions.{name}" if name else "task", partial(_condition, study, name, base_dir)
        )
        for name in study.conditions or ("",)
    ]
    errors.collect("base", study.base.architecture)
    errors.raise_all()
    conditions = tuple(condition for condition in resolved_conditions if condition is not None)
    tasks, spec = tuple(condition.task for condition in conditions), study.space
    space = errors.collect("space", lambda: _space(study.base, spec, tasks[0])) if spec else None
    compiled = errors.collect("ablation", lambda: _ablation(study, conditions[0], space, recorded))
    design, networks = compiled or (None, {})
    arms = networks | _named_arms(study, networks, tasks, base_dir, errors)
    controls = _controls(study, arms, errors)
    reference = errors.collect("reference", lambda: _reference(study, space, tasks, base_dir))
    errors.raise_all()
    assert reference is not None, "a missing reference is an error"
    resolved = ResolvedStudy(study, conditions, space, arms, controls, reference, design)
    resolved = errors.collect("search.rungs", lambda: _with_rungs(resolved, base_dir)) or resolved
    errors.collect("budget.trials", lambda: _check_budget(resolved))
    errors.raise_all()
    return resolved


class _ErrorCollector:
    """Collects the errors of several steps, each with its path in the study."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    def collect(self, path: str, step: Callable[[], T]) -> T | None:
        """Return the result of a step, or None if it raised a UserError."""
        try:
            return step()
        except UserError as error:
            self.add(path, str(error))
            return None

    def add(self, path: str, message: str) -> None:
        """Add an error."""
        self._messages.append(message if message.startswith(path) else f"{path}: {message}")

    def raise_all(self) -> None:
        """Raise one UserError with all errors so far, if any."""
        if self._messages:
            errors = "\n  ".join(first_messages(self._messages))
            raise UserError(f"the study cannot run:\n  {errors}")


def _named_arms(
    study: Study,
    networks: Mapping[str, Subject],
    tasks: tuple[Task, ...],
    base_dir: Path,
    errors: _ErrorCollector,
) -> dict[str, Subject]:
    """Return the subjects under `arms`, without control arms."""
    arms = {name: arm for name, arm in study.arms.items() if not is_control(arm)}
    for name in arms.keys() & networks.keys():
        errors.add(f"arms.{name}", "the ablation already has an arm of this name")
    subjects = {
        name: errors.collect(
            f"arms.{name}", partial(_subject, arm, name, study.base, tasks, base_dir)
        )
        for name, arm in arms.items()
    }
    return {name: subject for name, subject in subjects.items() if subject is not None}


def _controls(
    study: Study, arms: Mapping[str, Subject], errors: _ErrorCollector
) -> dict[str, ControlArm]:
    """Return the control arms by name."""
    controls = {
        name: errors.collect(f"arms.{name}", partial(parse_control_arm, arm, arms))
        for name, arm in study.arms.items()
        if isinstance(arm, dict) and is_control(arm)
    }
    return {name: control for name, control in controls.items() if control is not None}


def _ablation(
    study: Study, condition: Condition, space: Space | None, recorded: Design | None
) -> tuple[Design, dict[str, Subject]] | None:
    """Return the design of a study's ablation and its networks, or None without an ablation."""
    spec = study.ablation
    if spec is None:
        return None
    match = make_matcher(spec.match, spec.effective_tolerance, condition)
    design, networks = compile_ablation(spec, study.base, study.recipe, match, recorded)
    for arm in design.arms:
        _check_network(arm, networks[arm.name], condition.task, space)
    return design, {**networks}


def _check_network(arm: DesignArm, network: Architecture, task: Task, space: Space | None) -> None:
    """Check that images are large enough for an arm, and that a baseline is in the space."""
    try:
        _macs(network, task)
        if arm.against is None and space is not None and not space.contains(network):
            raise UserError("not in the study's space; extend its axes or remove `space`")
    except UserError as error:
        raise UserError(f"{arm.name}: {error}") from None


def _condition(study: Study, name: str, base_dir: Path) -> Condition:
    """Return the task, recipe and protocol of the study or of one of its conditions."""
    changed = study.under(name) if name else study
    task = resolve_task(_resolve_path(changed.task.data, base_dir), changed.task.resolution)
    if study.trial is None:  # a user function reads no images
        check_size(task, task_facts(task).images)
    return Condition(name, task, changed.recipe, changed.protocol)


def _with_rungs(resolved: ResolvedStudy, base_dir: Path) -> ResolvedStudy:
    """Return the study with the rungs of its search below the last one.

    Raises:
        UserError: the images of a rung are larger than those of the last rung, or too small for
            the networks.
    """
    study, last = resolved.study, resolved.conditions[0]
    if study.search is None or not study.search.rungs or resolved.space is None:
        return resolved
    full = replace(last, branches=study.scheme == "cool-down")
    rungs = []
    for number, settings in enumerate(study.search.rungs, start=1):
        recipe, spec = resolve_rung(settings, study.recipe, study.task)
        task = resolve_task(_resolve_path(spec.data, base_dir), spec.resolution)
        if task.resolution > full.task.resolution:
            raise UserError(
                f"{number}: task.resolution: {task.resolution} is more than the last rung's "
                f"{full.task.resolution}"
            )
        _macs(sample_space(resolved.space, 1)[0], task)
        label = f"rung {number} of {len(study.search.rungs) + 1}"
        rungs.append(replace(full, task=task, recipe=recipe, rung=label, full_fidelity=full))
    return replace(resolved, conditions=(full,), rungs=tuple(rungs))


def _resolve_path(data: str, base_dir: Path) -> str:
    """Return a data set's name with its relative path, if any, below `base_dir`."""
    kind, colon, path = data.partition(":")
    return f"{kind}:{base_dir / path}" if colon and path else data


def _space(base: Plan, spec: SpaceSpec, task: Task) -> Space:
    space = Space(base, spec, task.input_spec)
    space.sample(random.Random(0))
    return space


def _subject(
    arm: str | PlainData, name: str, base: Plan, tasks: tuple[Task, ...], base_dir: Path
) -> Subject:
    subject = _named_subject(arm, base_dir) if isinstance(arm, str) else _changed_base(base, arm)
    if isinstance(subject, Architecture):
        for task in tasks:  # raises if images are too small or a budget is out of reach
            _macs(subject, task)
        return subject.model_copy(update={"name": name})
    check_subject(subject)
    return subject


def _changed_base(base: Plan, arm: PlainData) -> Architecture:
    start = preset_plan(str(arm["preset"])) if "preset" in arm else base
    changes = {key: value for key, value in arm.items() if key != "preset"}
    return override_plan(start, changes).architecture()


def _named_subject(arm: str, base_dir: Path) -> Subject:
    if arm not in PRESETS and arm.endswith(".json"):
        return Architecture.from_file(base_dir / arm)
    return parse_subject(arm) if arm.startswith("timm:") else preset(arm)


def _check_budget(resolved: ResolvedStudy) -> None:
    study, needed = resolved.study, count_arm_trials(resolved)
    trials, seeds = study.budget.trials, study.first_seeds
    if trials is None:
        return
    if needed > trials:
        conditions = f" x {len(study.conditions)} conditions" if study.conditions else ""
        raise UserError(
            f"{trials} is too small for the arms, which need "
            f"{len(resolved.arms) + len(resolved.controls)} arms{conditions} x {seeds} seeds = "
            f"{needed} trials"
        )
    if resolved.rungs and study.search is not None:
        counts = min_trials_per_rung(len(resolved.rungs), study.search.promote, seeds)
        if needed + sum(counts) > trials:
            raise UserError(
                f"{trials} is too small to train any network in full: the rungs need "
                f"{' + '.join(map(str, counts))} trials for the first one"
                + (f", and the arms {needed} more" if needed else "")
            )


def _reference(
    study: Study, space: Space | None, tasks: tuple[Task, ...], base_dir: Path
) -> Subject:
    """Return the stated reference, or a FasterNet near the median cost of the space."""
    base, task = study.base, tasks[0]
    if study.reference is not None:
        return _subject(study.reference, "reference", base, tasks, base_dir)
    networks = sample_space(space, _REFERENCE_SAMPLE) or [base.architecture()]
    return fasternet_near(median(_macs(network, task) for network in networks), base, task)


def fasternet_near(macs: float, base: Plan, task: Task) -> Architecture:
    """Return the FasterNet with the base's depths and stem that is closest to a number of MACs."""
    plain = {"attention": "none", "pat_sp": False, "parts": 2, "operations": None}
    plain |= {"ratio": "1/4", "mlp_ratio": 2, "name": "fasternet_reference"}
    settings = {**base.model_dump(mode="json"), **plain}

    def network(width: int) -> Architecture:
        return Plan.model_validate({**settings, "width": width}).architecture()

    def cost(width: int) -> int:  # grows with the width
        return _macs(network(width), task)

    above = bisect_left(_REFERENCE_WIDTHS, macs, key=cost)
    nearest = _REFERENCE_WIDTHS[max(above - 1, 0) : above + 1]
    return network(min(nearest, key=lambda width: abs(cost(width) - macs)))


def _macs(architecture: Architecture, task: Task) -> int:
    return compute_cost(architecture, task.input_spec).macs


def check_reference(resolved: ResolvedStudy, *, on_cpu: bool = False) -> None:
    """Run the reference once under each condition to check that it can be measured, if it will be.

    Args:
        resolved: the study.
        on_cpu: whether to run it on two images on the CPU, because only workers use the GPU.

    Raises:
        UserError: it cannot run on the images of a task.
        MachineError: the device is missing or out of memory.
    """
    if not resolved.study.times_networks:
        return
    from partialnas.runs.measure.measure import check_measurable  # imports torch

    for condition in resolved.conditions:
        protocol = condition.protocol
        if on_cpu:
            protocol = Protocol(batch_size=2, form=protocol.form)
        check_measurable(resolved.reference, condition.task, protocol)
