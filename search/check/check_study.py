"""Check a study: validate it, count its trials and estimate its time, without running it."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.memory import check_free_memory
from partialnas.runs.datasets.overview import split_sizes
from partialnas.runs.records.subject import subject_name
from partialnas.runs.trials.user_function import import_function
from partialnas.search.check.arm_check import check_networks
from partialnas.search.check.compute_estimate import (
    ComputeEstimate,
    compute_lines,
    estimate_compute,
)
from partialnas.search.check.design_report import (
    design_lines,
    detectable_difference,
    power_lines,
)
from partialnas.search.check.pilot import pilot_values
from partialnas.search.check.study_check import StudyCheck
from partialnas.search.check.time_estimate import (
    LoadSplits,
    TrialTimeEstimate,
    estimate_trial_time,
)
from partialnas.search.check.training_steps import gpu_notes, step_lines
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import (
    ResolvedStudy,
    arm_notes,
    count_arm_trials,
    data_notes,
    expected_trials,
)
from partialnas.search.resolve.resources import Resources, check_precision, resolve_resources
from partialnas.search.samplers.registry import SAMPLERS
from partialnas.search.study.sections import SeedRule
from partialnas.search.study.study import Study
from partialnas.search.study.study_fields import QUICK_NOTE
from partialnas.space.search_space.advice import space_warnings
from partialnas.space.search_space.size import SpaceSize

_NOTE = "note: "


def check_study(
    study: Study,
    *,
    base_dir: Path,
    show: Callable[[str], None],
    pilot: int = 0,
    quick: bool = False,
) -> StudyCheck:
    """Report what a study will do, and warn about settings without effect.

    Args:
        study: the study.
        base_dir: folder that the study's relative paths start from.
        show: called with one line of the report at a time.
        pilot: number of seeds to train the first arm with, to estimate the standard deviation
            between seeds; 0 for none.
        quick: whether the study was read with its settings under `quick`.

    Raises:
        UserError: the study cannot run; the message lists every mistake.
        MachineError: the study needs a device that is not available.
    """
    resolved = resolve_study(study, base_dir)
    resources = resolve_resources(study)
    check_precision(resolved, resources.device)
    if study.trial is not None:
        import_function(study.trial, base_dir)  # before anything is shown
    else:
        check_free_memory(resolved.tasks)
        check_networks(resolved)
    load = cache(load_splits)
    notes, lines = [*_notes(resolved)], list[str]()
    if study.trial is None:
        notes += [f"{_NOTE}{line}" for line in gpu_notes(resolved, resources.device, load)]
    if quick and not study.quick:
        notes.insert(0, f"{_NOTE}{QUICK_NOTE}")

    def report(*further: str) -> None:
        lines.extend(further)
        for line in further:
            show(line)

    size = resolved.space.size() if resolved.space else None
    report(*_plan(resolved, size), *_data(resolved, load), *notes)
    seconds = None if study.trial else estimate_trial_time(resolved, resources.device, load)
    compute = estimate_compute(seconds, resolved, resources) if seconds else None
    report(*_time(resolved, resources, seconds, compute))
    stated = study.ablation.deviation if study.ablation else {}
    deviation = stated.get(study.decision_quantity)
    if pilot:
        deviation, line = _pilot(resolved, resources, pilot)
        report(line)
    report(*power_lines(resolved, deviation))
    return StudyCheck(
        study=study, lines=(*lines,),
        notes=(*(line.removeprefix(_NOTE) for line in lines if line.startswith(_NOTE)),),
        trials=expected_trials(resolved), seeds=study.first_seeds,
        space_size=size, design=resolved.design,
        device=resources.device, workers=resources.workers, trial_seconds=seconds, compute=compute,
        deviation=deviation, detectable=detectable_difference(resolved, study.first_seeds),
    )  # fmt: skip


def _plan(resolved: ResolvedStudy, size: SpaceSize | None) -> Iterator[str]:
    study = resolved.study
    yield f"study {study.study}: {study.question}" if study.question else f"study {study.study}"
    for condition in resolved.conditions:
        task = condition.task
        label = f" under {condition.name}" if condition.name else ""
        batch = "" if study.trial else f", batch size {condition.recipe.batch_size}"
        yield f"task{label}: {task.data}, {task.input_spec}{batch}"
    if study.trial is not None:
        yield f"function: {study.trial} with epochs = {study.recipe.epochs}, in place of training"
    if size is not None:
        assert resolved.space is not None  # its size
        yield f"space: {size.text(str(resolved.space.constraints))}"
    yield from design_lines(resolved)
    other = [name for name in resolved.arms if not resolved.design or not resolved.design.arm(name)]
    if other:
        yield f"arms: {', '.join(other)}"
    for name, control in resolved.controls.items():
        yield f"arm {name}: static network with the ratios of {control.origin} ({control.ratios})"
    if study.times_networks:
        yield f"reference: {subject_name(resolved.reference)}"
    yield from _rungs(resolved)
    yield from _sampler(resolved)
    yield from _measuring(resolved)
    trials, seeds = expected_trials(resolved), study.first_seeds
    count = "as many as the budget of hours allows" if trials is None else str(trials)
    per_network = f"{seeds} seed{'s' * (seeds > 1)} for each network"
    if isinstance(study.seeds, SeedRule):
        per_network += f", up to {study.seeds.max} until intervals are ±{study.seeds.until:g}"
    yield f"trials: {count} ({per_network})"


def _sampler(resolved: ResolvedStudy) -> Iterator[str]:
    """Yield how many networks the sampler proposes before it uses results, if any."""
    search, trials = resolved.study.search, expected_trials(resolved)
    if search is None:
        return
    initial = SAMPLERS[search.sampler].initial_networks(search.population)
    if not initial or trials is None or resolved.rungs:
        yield f"sampler: {search.sampler}"
        return
    seeds, arms = resolved.study.first_seeds, count_arm_trials(resolved)
    networks = (trials - arms) // seeds
    if networks > initial:
        yield (
            f"sampler: {search.sampler}; the first {initial} of {networks} networks are spread "
            "over the space, later ones use results"
        )
        return
    has_population = "population" in SAMPLERS[search.sampler].options
    smaller = " search.population to a smaller number," if has_population else ""
    yield (
        f"sampler: {search.sampler} uses results from network {initial + 1} on, but the budget has "
        f"room for {networks}: the study is then a plain space-filling design. Set budget.trials "
        f"to more than {arms + initial * seeds},{smaller} or search.sampler to quasi-random"
    )


def _measuring(resolved: ResolvedStudy) -> Iterator[str]:
    """Yield that nothing is measured, or only briefly."""
    study = resolved.study
    if study.measure.when == "never":
        yield "measuring: none; tables and figures will have no speeds"
    elif study.times_networks and study.protocol != study.measure:
        yield (
            f"measuring: at most {study.protocol.max_seconds:g} s per network, because no speed "
            "decides; change measure.max_seconds for more, or set measure: none"
        )


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
    """Yield the sizes of splits, what their reader leaves out, and the steps of a training."""
    yield from data_notes(resolved)
    if resolved.study.trial is not None:
        return
    for task in resolved.data_sets:
        splits = load(task)
        labels = {"train": splits.train_y, "val": splits.val_y, "test": splits.test_y}
        yield f"data: {split_sizes({name: len(y) for name, y in labels.items()})}"
    yield from step_lines(resolved, load)


def _notes(resolved: ResolvedStudy) -> Iterator[str]:
    lines = space_warnings(resolved.space) if resolved.space is not None else []
    study = resolved.study
    if study.trial is not None and study.needs_measurement and not study.times_networks:
        lines = [*lines, f"{study.trial} must return speeds; measure.when: during measures them"]
    for line in (*lines, *arm_notes(resolved)):
        yield f"{_NOTE}{line}"


def _time(
    resolved: ResolvedStudy,
    resources: Resources,
    trial_time: TrialTimeEstimate | None,
    compute: ComputeEstimate | None,
) -> Iterator[str]:
    if trial_time is None:
        yield f"time: not estimated, because {resolved.study.trial} replaces training"
        return
    line = f"time: about {trial_time.mean:.1f} s per trial on {resources.device}"
    if trial_time.high > trial_time.low:
        line += f" ({trial_time.low:.1f} to {trial_time.high:.1f})"
    trials = expected_trials(resolved)
    count = "" if trials is None else f"{trials} trials, "
    yield f"{line}; {count}{resources.workers} in parallel"
    if compute is not None:
        yield from compute_lines(compute, resolved)


def _pilot(resolved: ResolvedStudy, resources: Resources, seeds: int) -> tuple[float, str]:
    """Return the deviation between the seeds of the first arm, and the line that reports it."""
    quantity = resolved.study.decision_quantity
    name, subject = next(iter(resolved.arms.items()))
    condition = resolved.arm_condition(name, resolved.conditions[0])
    values = pilot_values(subject, condition, resources.device, seeds, quantity)
    deviation = stdev(values)
    line = f"pilot: {name}, {seeds} seeds: {quantity} {fmean(values):.4g} ± {deviation:.4g}"
    return deviation, line
