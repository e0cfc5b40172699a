"""Check a study: validate it, count its trials, estimate its time; run none of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, stdev

from partialnas.runs.records.subject import subject_name
from partialnas.runs.training.user_function import import_function
from partialnas.search.check.compute_estimate import compute_lines, estimate_compute
from partialnas.search.check.design_report import design_lines, power_lines
from partialnas.search.check.pilot import pilot_values
from partialnas.search.check.time_estimate import estimate_trial_time
from partialnas.search.resolve.resolve import check_reference, resolve_study
from partialnas.search.resolve.resolved_study import (
    ResolvedStudy,
    duplicate_arm_messages,
    expected_trials,
    unmatched_arm_messages,
)
from partialnas.search.resolve.resources import Resources, resolve_resources
from partialnas.search.study.sections import SeedRule
from partialnas.search.study.study import Study
from partialnas.space.search_space.advice import space_warnings


def check_study(
    study: Study, *, base_dir: Path, show: Callable[[str], None], pilot: int = 0
) -> None:
    """Say what a study will do, and what about it makes no sense.

    Args:
        study: the study.
        base_dir: folder that its relative paths start from.
        show: is handed one line at a time.
        pilot: seeds that the first arm is trained with to learn how far they spread; 0 for none.

    Raises:
        UserError: the study cannot run; names every mistake.
        MachineError: the device it asks for is not there.
    """
    prepared = resolve_study(study, base_dir)
    placement = resolve_resources(study)
    if study.trial is not None:
        import_function(study.trial, base_dir)
    else:
        check_reference(prepared)
    for line in (*_plan(prepared), *_remarks(prepared), *_time(prepared, placement)):
        show(line)
    for line in _power(prepared, placement, pilot):
        show(line)


def _plan(prepared: ResolvedStudy) -> Iterator[str]:
    study = prepared.study
    yield f"study {study.study}: {study.question}" if study.question else f"study {study.study}"
    for condition in prepared.conditions:
        task = condition.task
        shape = f"{task.channels} x {task.resolution} x {task.resolution}, {task.classes} classes"
        under = f" under {condition.name}" if condition.name else ""
        yield f"task{under}: {task.data}, {shape}, batches of {condition.recipe.batch_size}"
    if prepared.space is not None:
        yield f"space: {prepared.space.size()}"
    yield from design_lines(prepared)
    apart = [name for name in prepared.arms if not prepared.design or not prepared.design.arm(name)]
    if apart:
        yield f"arms: {', '.join(apart)}"
    for name, control in prepared.controls.items():
        yield f"arm {name}: static, the ratios of {control.origin} as {control.ratios}"
    yield f"reference: {subject_name(prepared.reference)}"
    yield from _rungs(prepared)
    trials, seeds = expected_trials(prepared), study.first_seeds
    many = "as many as the hours allow" if trials is None else str(trials)
    each = f"{seeds} seed{'s' * (seeds > 1)} for each network"
    if isinstance(study.seeds, SeedRule):
        each += f", up to {study.seeds.max} where intervals stay wider than ±{study.seeds.until:g}"
    yield f"trials: {many} ({each})"


def _rungs(prepared: ResolvedStudy) -> Iterator[str]:
    """What is trained on each rung of a search, if it has several."""
    search = prepared.study.search
    if search is None:
        return
    how = "continue their training" if prepared.conditions[0].branches else "begin anew"
    for number, rung in enumerate(search.rungs, start=1):
        told = ", ".join(f"{key} {value}" for key, value in rung.items())
        yield f"rung {number}: {told}; the best {search.promote} go on and {how}"


def _remarks(prepared: ResolvedStudy) -> Iterator[str]:
    lines = space_warnings(prepared.space) if prepared.space is not None else []
    for line in (*lines, *duplicate_arm_messages(prepared), *unmatched_arm_messages(prepared)):
        yield f"note: {line}"


def _time(prepared: ResolvedStudy, placement: Resources) -> Iterator[str]:
    study = prepared.study
    if study.trial is not None:
        yield f"time: not estimated, {study.trial} stands in for training"
        return
    each = estimate_trial_time(prepared, placement.device)
    trials, workers = expected_trials(prepared), placement.workers
    told = f"time: about {each.mean:.1f} s a trial on {placement.device}"
    if each.high > each.low:
        told += f" ({each.low:.1f} to {each.high:.1f})"
    many = "" if trials is None else f"; {trials} trials"
    yield f"{told}{many}, {workers} at a time"
    found = estimate_compute(each, prepared, placement)
    if found is not None:
        yield from compute_lines(found, prepared)


def _power(prepared: ResolvedStudy, placement: Resources, pilot: int) -> Iterator[str]:
    study = prepared.study
    deviation = study.ablation.deviation.get(study.decision_quantity) if study.ablation else None
    if pilot:
        name, subject = next(iter(prepared.arms.items()))
        how = prepared.arm_condition(name, prepared.conditions[0])
        values = pilot_values(subject, how, placement.device, pilot, study.decision_quantity)
        deviation = stdev(values)
        yield f"pilot: {name}, {pilot} seeds: {study.decision_quantity} {fmean(values):.4g} ± {deviation:.4g}"
    yield from power_lines(prepared, deviation)
