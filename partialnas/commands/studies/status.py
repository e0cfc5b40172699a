"""The verb `status`: a study's trials, front, failures and warnings, once or continuously."""

import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path

import pandas as pd
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from partialnas.analysis.formats.caption_sentences import count_seeds, pluralize
from partialnas.analysis.frames.chance import chance_note
from partialnas.analysis.frames.columns import (
    calls_function,
    find_quantity,
    known_quantities,
    network_names,
)
from partialnas.analysis.frames.feasibility import infeasible_message, undecided_note
from partialnas.analysis.frames.load import METRICS, TRIAL_COLUMNS, load_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.caption import projection_note
from partialnas.analysis.pareto.front import front, hypervolume, reference_point
from partialnas.analysis.pareto.table import (
    EAGER_NOTE,
    NOISE_NOTE,
    make_pareto_table,
    table_quantities,
)
from partialnas.analysis.ratios.tables import load_warnings
from partialnas.commands.terminal import make_console, plain_table, print_lines, print_table
from partialnas.runs.config.quantities import format_significant
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import RESULT_STATES
from partialnas.runs.ledger.study_meta import DRY_RUN_NOTICE, is_dry_run
from partialnas.runs.ledger.usage import DeviceShare, compute_usage
from partialnas.runs.records.timing_choice import FailedTiming
from partialnas.runs.system.study_lock import driver_pid
from partialnas.space.errors import UserError

_COLUMNS = ("val_accuracy", "params", "macs")
"""Columns of the front's table beside its axes and the objectives."""

_MAX_METRICS = 6
_MAX_TRIALS = 5

_PAUSE_FACTOR = 3
"""Minimum pause between two updates, relative to the time that an update took."""


def show_status(folder: Path) -> None:
    """Print a study's trials by state, its front, and its failures and warnings."""
    console = make_console()
    with Ledger.open(folder) as ledger:
        repeated = ledger.count_repeated_proposals()
        counts = [pluralize(repeated, "repeated proposal")] if repeated else []
        frozen = ledger.study.frozen
        measures = frozen.get("measure", {}).get("when") != "never"
        if not frozen.get("trial") and measures:
            counts.append(f"{ledger.count_measured_networks()} networks timed")
        print_lines(console, ", ".join((_states_line(folder, ledger), *counts)))
        print_lines(console, usage_line(ledger))
        name, stages = ledger.study.name, ledger.study.stages
        untimed = [timing for timing in ledger.study.failed_timings if not timing.retried]
    if is_dry_run(name):
        console.print(DRY_RUN_NOTICE, style="yellow")
    study = load_trials(folder)
    frame = study.frame
    print_lines(console, *_functions(frame))
    conditions = frame.loc[frame["state"].eq("done"), "condition"].unique()
    if not len(conditions):
        print_lines(console, "no front yet: no trial has ended with a result at full fidelity")
    for condition in conditions:
        trials = study.under(condition)
        if condition:
            print_lines(console, f"condition {condition}:")
        try:
            print_table(console, front_table(trials))
            print_lines(console, *_hypervolume(trials))
        except UserError as error:  # the trials have no front yet
            print_lines(console, f"no front: {error}")
        print_lines(console, *filter(None, [chance_note(trials)]))
    for stage in stages.values():
        trials_of_stage = len(load_trials(folder, stage=stage.name).frame)
        print_lines(console, f"stage {stage.name}: {trials_of_stage} trials ({stage.chosen})")
    lines = *_failures(frame), *_earlier_failures(frame), *warning_lines(load_warnings(folder))
    print_lines(console, *lines)
    print_lines(console, *_failed_timings(untimed, frame))
    print_lines(console, f"ledger: {folder / 'ledger.sqlite'}")


def _states_line(folder: Path, ledger: Ledger) -> str:
    """Return the study's name with its trials by state, such as `quickstart: 16 done, 2 failed`."""
    states = [f"{count} {state}" for state, count in ledger.state_counts().items() if count]
    return f"{ledger.study.name or folder.name}: {', '.join(states) or 'no trials yet'}"


def usage_line(ledger: Ledger) -> str:
    """Return the compute that a study has used, and its budget of device-hours."""
    frozen = ledger.study.frozen
    usage = compute_usage(ledger.usage_rows(), DeviceShare.from_study(frozen))
    limit = frozen.get("budget", {}).get("device_hours")
    return usage.summary(limit, calls_function=bool(frozen.get("trial")))


def front_table(
    trials: Trials, x: str | None = None, y: str | None = None, *, drawn: bool = False
) -> Table:
    """Return the front of a study, followed by its baselines, as a table for the terminal.

    Args:
        trials: trials of one or several studies.
        x: quantity of the first column, see `make_pareto_table`.
        y: quantity of the second column.
        drawn: whether the table belongs to a figure of these two quantities.
    """
    pareto = make_pareto_table(trials, x, y)
    points = pareto.all_rows
    shown = points[points["on_front"] | points["arm"].ne("")]
    returned = [find_quantity(f"{key}:min", shown) for key in _returned_metrics(trials.frame)]
    columns = {q.key: q for q in (*table_quantities(pareto, _COLUMNS), *returned)}
    quantities = [q for key, q in columns.items() if key in points and points[key].notna().any()]
    limited = ["feasible"] if "feasible" in shown else []
    only_arms = points["arm"].ne("").all() and not points["baseline"].any()
    title = "arms, those on the front first" if only_arms else "front, then baselines"
    table = plain_table(title, "", *(q.key for q in quantities), "seeds", *limited)
    num_front = int(shown["on_front"].sum())
    for index, row in enumerate(shown.to_dict("records")):
        if 0 < num_front == index:
            table.add_section()
        texts = [pareto.text(row, quantity) for quantity in quantities]
        marks = [row["within_limits"] for _ in limited]
        seeds = count_seeds(row["n"], failed=row["failed"])
        table.add_row(row["label"], *texts, seeds, *marks)
    notes = [projection_note(pareto, drawn=drawn), infeasible_message(points, trials.limits)]
    notes.append(undecided_note(shown))
    if any(quantity.timed for quantity in quantities):
        explanations = {"noisy": NOISE_NOTE, "eager": EAGER_NOTE}
        notes += [note for mark, note in explanations.items() if shown[mark].any()]
    caption = "\n".join(filter(None, notes))
    table.caption, table.caption_justify = Text(caption) if caption else None, "left"
    return table


def _returned_metrics(frame: pd.DataFrame) -> list[str]:
    """Return the first metrics that a function in place of training returned."""
    if not calls_function(frame):
        return []
    of_users = [key for key in known_quantities(frame) if key not in TRIAL_COLUMNS]
    metrics = [key for key in (*METRICS, *of_users) if frame[key].notna().any()]
    return metrics[:_MAX_METRICS]


def _hypervolume(trials: Trials) -> list[str]:
    """Return the hypervolume of a search's front; nothing for a study of arms alone."""
    objectives, frame = trials.objectives, trials.frame
    searched = trials.where(~frame["baseline"] & frame["state"].ne("early"))
    if len(objectives) < 2 or searched.frame["arm"].ne("").all():
        return []
    networks = front(searched, objectives)
    if not networks["on_front"].any():
        return []
    point = reference_point(searched, networks, objectives)
    reference = ", ".join(f"{key} {format_significant(value)}" for key, value in point.items())
    volume = format_significant(hypervolume(searched, objectives))
    return [f"hypervolume {volume} (reference point: {reference})"]


def _failures(frame: pd.DataFrame) -> list[str]:
    """Return one line per reason, the most frequent first, with its trials."""
    failed = frame[frame["state"].isin(["failed", "timeout"])]
    reasons = failed["state"] + ": " + failed["reason"].fillna("unknown reason")
    return _count_by_reason(failed["trial"], reasons)


def _earlier_failures(frame: pd.DataFrame) -> list[str]:
    """Return one line per reason of failures after which trials were run again."""
    retried = frame[frame["failures"].gt(0)]
    reasons = "run again, failed before: " + retried["last_failure"]
    return _count_by_reason(retried["trial"], reasons)


def _failed_timings(timings: Iterable[FailedTiming], frame: pd.DataFrame) -> list[str]:
    """Return one line per reason for which networks could not be timed, with these networks."""
    names: dict[str, list[str]] = {}
    labels = dict(zip(frame["digest"][::-1], network_names(frame)[::-1], strict=True))
    for timing in timings:
        label = labels.get(timing.digest, timing.name or timing.digest)
        names.setdefault(timing.reason, []).append(label)
    return [
        f"{len(of_reason)} not timed: {reason} "
        f"({', '.join(of_reason[:_MAX_TRIALS])}{', ...' if len(of_reason) > _MAX_TRIALS else ''})"
        for reason, of_reason in names.items()
    ]


def _functions(frame: pd.DataFrame) -> list[str]:
    """Return the function that replaces training with the trials of each of its sources."""
    ended = frame[frame["function"].ne("") & frame["state"].isin(RESULT_STATES)]
    counts = ended[["function", "function_source"]].value_counts(sort=False)
    return [
        f"function: {function} in place of training, source {source or 'not recorded'} "
        f"({number} results)"
        for function, source, number in counts.reset_index().itertuples(index=False)
    ]


def warning_lines(warnings: pd.DataFrame) -> list[str]:
    """Return one line per warning of learned ratios, the most frequent first, with its trials.

    Args:
        warnings: the frame that `load_warnings` returns.
    """
    once = warnings.drop_duplicates(["trial", "warning"])
    return _count_by_reason(once["trial"], "warn: " + once["warning"])


def _count_by_reason(trials: "pd.Series[int]", reasons: "pd.Series[str]") -> list[str]:
    groups = trials.groupby(reasons, sort=False).agg(list)
    lines = []
    for reason, numbers in sorted(groups.items(), key=lambda pair: -len(pair[1])):
        more = ", ..." if len(numbers) > _MAX_TRIALS else ""
        listed = ", ".join(f"#{number}" for number in numbers[:_MAX_TRIALS])
        lines.append(f"{len(numbers)} {reason} (trials {listed}{more})")
    return lines


def watch_status(folder: Path, every_s: float) -> None:
    """Show the state of a study until it no longer runs, or until Ctrl-C.

    A terminal shows one view that is updated in place; other outputs get a line per change.

    Args:
        folder: the study's folder.
        every_s: minimum seconds between updates.

    Raises:
        UserError: the folder has no ledger.
        MachineError: the ledger is damaged.
    """
    console = make_console()
    live = Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()
    with Ledger.open(folder) as ledger, suppress(KeyboardInterrupt), live as view:
        version = -1
        while True:
            is_running = driver_pid(folder) is not None  # first, so that the last change is shown
            start = time.monotonic()
            before, version = version, ledger.data_version()
            if version != before:
                line = f"{_states_line(folder, ledger)}; {usage_line(ledger)}"
                if view is None:
                    print_lines(console, line)
                else:
                    shown = Group(Text(line, overflow="ellipsis"), _front(folder))
                    view.update(shown, refresh=True)
            if not is_running:
                return
            time.sleep(max(every_s, _PAUSE_FACTOR * (time.monotonic() - start)))


def _front(folder: Path) -> Table | Text:
    try:
        return front_table(load_trials(folder))
    except UserError as error:  # the trials have no front yet
        return Text(f"no front: {error}")
