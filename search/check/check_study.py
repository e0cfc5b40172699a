"""Check a study: validate it, count its trials and estimate its time, without running it."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

from partialnas.runs.datasets.loaders import load_splits, subset
from partialnas.runs.records.subject import subject_name
from partialnas.runs.training.user_function import import_function
from partialnas.search.check.arm_check import check_networks
from partialnas.search.check.compute_estimate import compute_lines, estimate_compute
from partialnas.search.check.design_report import design_lines, power_lines
from partialnas.search.check.pilot import pilot_values
from partialnas.search.check.time_estimate import LoadSplits, estimate_trial_time
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import (
    ResolvedStudy,
    arm_notes,
    data_notes,
    expected_trials,
)
from partialnas.search.resolve.resources import Resources, resolve_resources
from partialnas.search.study.sections import SeedRule
from partialnas.search.study.study import Study
from partialnas.space.search_space.advice import space_warnings


def check_study(
    study: Study, *, base_dir: Path, show: Callable[[str], None], pilot: int = 0
) -> None:
    """Report what a study will do, and warn about settings without effect.

    Args:
        study: the study.
        base_dir: folder that the study's relative paths start from.
        show: called with one line of the report at a time.
        pilot: number of seeds to train the first arm with, to estimate the standard deviation
            between seeds; 0 for none.

    Raises:
        UserError: the study cannot run; the message lists every mistake.
        MachineError: the study needs a device that is not available.
    """
    resolved = resolve_study(study, base_dir)
    resources = resolve_resources(study)
    if study.trial is not None:
        import_function(study.trial, base_dir)  # before anything is shown
    else:
        check_networks(resolved)
    load = cache(load_splits)
    for line in (*_plan(resolved), *_data(resolved, load), *_notes(resolved)):
        show(line)
    for line in _time(resolved, resources, load):
        show(line)
    for line in _power(resolved, resources, pilot):
        show(line)


def _plan(resolved: ResolvedStudy) -> Iterator[str]:
    study = resolved.study
    yield f"study {study.study}: {study.question}" if study.question else f"study {study.study}"
    for condition in resolved.conditions:
        task = condition.task
        shape = f"{task.channels} x {task.resolution} x {task.resolution}, {task.classes} classes"
        label = f" under {condition.name}" if condition.name else ""
        batch = "" if study.trial else f", batch size {condition.recipe.batch_size}"
        yield f"task{label}: {task.data}, {shape}{batch}"
    if study.trial is not None:
        yield f"function: {study.trial} with epochs = {study.recipe.epochs}, in place of training"
    if resolved.space is not None:
        yield f"space: {resolved.space.size()}"
    yield from design_lines(resolved)
    other = [name for name in resolved.arms if not resolved.design or not resolved.design.arm(name)]
    if other:
        yield f"arms: {', '.join(other)}"
    for name, control in resolved.controls.items():
        yield f"arm {name}: static network with the ratios of {control.origin} ({control.ratios})"
    yield f"reference: {subject_name(resolved.reference)}"
    yield from _rungs(resolved)
    trials, seeds = expected_trials(resolved), study.first_seeds
    count = "as many as the budget of hours allows" if trials is None else str(trials)
    per_network = f"{seeds} seed{'s' * (seeds > 1)} for each network"
    if isinstance(study.seeds, SeedRule):
        per_network += f", up to {study.seeds.max} until intervals are ±{study.seeds.until:g}"
    yield f"trials: {count} ({per_network})"


def _rungs(resolved: ResolvedStudy) -> Iterator[str]:
    """Yield one line for each rung of a search below the last."""
    search = resolved.study.search
    if search is None:
        return
    how = "continue training" if resolved.conditions[0].branches else "are trained from scratch"
    if resolved.study.trial is not None:
        how = "are evaluated again"
    for number, rung in enumerate(search.rungs, start=1):
        settings = ", ".join(f"{key} {value}" for key, value in rung.items())
        yield f"rung {number}: {settings}; the best {search.promote} are promoted and {how}"


def _data(resolved: ResolvedStudy, load: LoadSplits) -> Iterator[str]:
    """Yield the sizes of splits, what their reader leaves out, and batches that exceed them."""
    yield from data_notes(resolved)
    if resolved.study.trial is not None:
        return
    for task in resolved.data_sets:
        splits = load(task)
        counts = (len(y) for y in (splits.train_y, splits.val_y, splits.test_y))
        yield "data: {} training, {} validation and {} test images".format(*counts)
    for condition in (*resolved.rungs, *resolved.conditions):
        recipe = condition.recipe
        images = len(subset(load(condition.task), recipe.data_share).train_y)
        if recipe.batch_size > images:
            name = condition.rung or condition.name
            yield (
                f"note: {f'{name}: ' * bool(name)}recipe.batch_size {recipe.batch_size} exceeds "
                f"the {images} training images; an epoch is one step on all of them"
            )


def _notes(resolved: ResolvedStudy) -> Iterator[str]:
    lines = space_warnings(resolved.space) if resolved.space is not None else []
    for line in (*lines, *arm_notes(resolved)):
        yield f"note: {line}"


def _time(resolved: ResolvedStudy, resources: Resources, load: LoadSplits) -> Iterator[str]:
    study = resolved.study
    if study.trial is not None:
        yield f"time: not estimated, because {study.trial} replaces training"
        return
    trial_time = estimate_trial_time(resolved, resources.device, load)
    line = f"time: about {trial_time.mean:.1f} s per trial on {resources.device}"
    if trial_time.high > trial_time.low:
        line += f" ({trial_time.low:.1f} to {trial_time.high:.1f})"
    trials = expected_trials(resolved)
    count = "" if trials is None else f"{trials} trials, "
    yield f"{line}; {count}{resources.workers} in parallel"
    estimate = estimate_compute(trial_time, resolved, resources)
    if estimate is not None:
        yield from compute_lines(estimate, resolved)


def _power(resolved: ResolvedStudy, resources: Resources, pilot: int) -> Iterator[str]:
    study, quantity = resolved.study, resolved.study.decision_quantity
    deviation = study.ablation.deviation.get(quantity) if study.ablation else None
    if pilot:
        name, subject = next(iter(resolved.arms.items()))
        condition = resolved.arm_condition(name, resolved.conditions[0])
        values = pilot_values(subject, condition, resources.device, pilot, quantity)
        deviation = stdev(values)
        yield f"pilot: {name}, {pilot} seeds: {quantity} {fmean(values):.4g} ± {deviation:.4g}"
    yield from power_lines(resolved, deviation)
