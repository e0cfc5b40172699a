"""What the verbs print: tables for readers, JSON for programs."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from partialnas.commands.terminal import plain_table
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from partialnas.analysis.frames.trials import Trials
    from partialnas.runs.ledger.ledger import Ledger

_SHOWN = ("val_accuracy", "params", "macs")
"""Columns that a front on the terminal has beside its two axes."""


def show_status(folder: Path) -> None:
    """Print a study's trials by state, its front, and what failed and why."""
    from partialnas.analysis.frames.load import load, load_trials
    from partialnas.analysis.ratios.tables import load_warnings
    from partialnas.runs.ledger.ledger import Ledger
    from partialnas.runs.ledger.study_meta import DRY_RUN_NOTICE, is_dry_run

    console = Console()
    with Ledger.open(folder) as ledger:
        counts, replays = ledger.state_counts(), ledger.count_repeated_proposals()
        timed = ledger.count_measured_networks()
        name = ledger.study.name or folder.name
        stages, taken = ledger.study.stages, usage_line(ledger)
    states = [f"{n} {state}" for state, n in counts.items() if n] or ["no trials yet"]
    extra = [f"{replays} repeated"] if replays else []
    console.print(f"{name}: " + ", ".join([*states, *extra, f"{timed} networks timed"]))
    console.print(taken, markup=False, highlight=False)
    if is_dry_run(name):
        console.print(DRY_RUN_NOTICE, style="yellow")
    study = load_trials(folder)
    frame = study.frame
    for condition in frame.loc[frame["state"].eq("done"), "condition"].unique():
        trials = study.under(condition)
        if condition:
            console.print(f"under {condition}:", markup=False)
        try:
            console.print(front_table(trials))
            for line in _hypervolume(trials):
                console.print(line, markup=False, soft_wrap=True)
        except UserError as error:  # trials that have no front yet are no mistake of the reader's
            console.print(f"no front: {error}", markup=False, soft_wrap=True)
    for stage in stages.values():
        fresh = len(load(folder, stage=stage.name))
        console.print(f"stage {stage.name}: {fresh} of the trials; {stage.chosen}", markup=False)
    for line in (*_failures(frame), *warning_lines(load_warnings(folder))):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"ledger: {folder / 'ledger.sqlite'}", soft_wrap=True)


def usage_line(ledger: "Ledger") -> str:
    """What a study has spent, by what became of it, and what of its device-hours."""
    from partialnas.runs.ledger.usage import DeviceShare, compute_usage

    frozen = ledger.study.frozen
    line = compute_usage(ledger.usage_rows(), DeviceShare.from_study(frozen)).summary()
    limit = frozen.get("budget", {}).get("device_hours")
    return line if limit is None else f"{line} of {limit:g}"


def front_table(trials: "Trials", x: str | None = None, y: str | None = None) -> Table:
    """The front of a study, and its baselines below it, as a table for the terminal."""
    from partialnas.analysis.frames.feasibility import infeasible_message
    from partialnas.analysis.pareto.table import NOISE_NOTE, make_pareto_table
    from partialnas.runs.config.quantities import QUANTITIES

    pareto = make_pareto_table(trials, x, y)
    points = pareto.rows
    shown = points[points["on_front"] | points["arm"].ne("")]
    axes = {quantity.key: quantity for quantity in (pareto.x, pareto.y)}
    arms_alone = points["arm"].ne("").all() and not points["baseline"].any()
    table = plain_table(
        "arms, those on the front first" if arms_alone else "front, and baselines below it"
    )
    table.add_column("")
    keys = [key for key in dict.fromkeys((*axes, *_SHOWN)) if key in shown]
    limited = ["feasible"] if "feasible" in shown else []
    for key in (*keys, "seeds", *limited):
        table.add_column(key, justify="right")
    quantities = [axes.get(key) or QUANTITIES[key] for key in keys]
    for _, row in shown.iterrows():
        texts = [each.text(row[each.key], noisy=row["noisy"]) for each in quantities]
        marks = ["yes" if row[key] else "no" for key in limited]
        table.add_row(row["label"], *texts, str(row["n"]), *marks)
    told = [infeasible_message(points, trials.limits)]
    if shown["noisy"].any() and any(each.timed for each in quantities):
        told.append(NOISE_NOTE)
    table.caption, table.caption_justify = "\n".join(filter(None, told)) or None, "left"
    return table


def _hypervolume(trials: "Trials") -> list[str]:
    """How much the front of a search covers; nothing of arms alone, which look for no front."""
    from partialnas.analysis.pareto.front import front, hypervolume, reference_point
    from partialnas.runs.config.quantities import format_significant

    objectives, frame = trials.objectives, trials.frame
    searched = trials.where(~frame["baseline"] & frame["state"].ne("early"))
    if len(objectives) < 2 or searched.frame["arm"].ne("").all():
        return []
    corner = reference_point(searched, front(searched, objectives), objectives)
    told = ", ".join(f"{key} {format_significant(value)}" for key, value in corner.items())
    covered = format_significant(hypervolume(searched, objectives))
    return [f"hypervolume of the front: {covered}, up to {told}"]


def _failures(frame: "pd.DataFrame") -> list[str]:
    """One line per reason, the most frequent first, with the trials it struck."""
    struck = frame[frame["state"].isin(["failed", "timeout"])]
    told = struck["state"] + ": " + struck["reason"].fillna("no reason known")
    return _by_reason(struck["trial"], told)


def warning_lines(warned: "pd.DataFrame") -> list[str]:
    """One line per warning of learned ratios, the most frequent first, with the trials it is of.

    Args:
        warned: as `load_warnings` gives them.
    """
    once = warned.drop_duplicates(["trial", "warning"])
    return _by_reason(once["trial"], "warn: " + once["warning"])


def _by_reason(trials: "pd.Series[int]", told: "pd.Series[str]") -> list[str]:
    reasons = trials.groupby(told, sort=False).agg(list)
    ordered = sorted(reasons.items(), key=lambda pair: -len(pair[1]))
    return [f"{len(struck)} {what} (trials {_few(struck)})" for what, struck in ordered]


def _few(trials: list[int]) -> str:
    listed = ", ".join(f"#{number}" for number in trials[:5])
    return listed + (", ..." if len(trials) > 5 else "")


if TYPE_CHECKING:
    from partialnas.runs.ledger.ledger import Ledger

_REST = 3
"""Times as long as a look takes until the next one: a long ledger is not read all the time."""


def watch_status(folder: Path, every_s: float, console: Console | None = None) -> None:
    """Show how a study stands until nobody works on it any more, or until Ctrl-C.

    On a terminal the view is renewed in place; elsewhere each change is one plain line.

    Args:
        folder: the study's.
        every_s: seconds between two looks, at least.
        console: where it is shown; standard output unless given.

    Raises:
        UserError: there is no ledger in the folder.
        MachineError: it is damaged.
    """
    from partialnas.runs.ledger.ledger import Ledger

    console = console or Console()
    with Ledger.open(folder) as ledger:
        try:
            if console.is_terminal:
                with Live(console=console, auto_refresh=False) as live:
                    _watch(_Looks(folder, ledger), every_s, live, console)
            else:
                _watch(_Looks(folder, ledger), every_s, None, console)
        except KeyboardInterrupt:
            return


class _Looks:
    """Looks at a study: what has changed, and whether somebody works on it."""

    def __init__(self, folder: Path, ledger: "Ledger") -> None:
        self._folder = folder
        self._ledger = ledger
        self._seen = -1

    def changed(self) -> bool:
        """Whether the ledger has been written since this was last asked."""
        before, self._seen = self._seen, self._ledger.data_version()
        return before != self._seen

    def driven(self) -> bool:
        """Whether a driver works on the study."""
        from partialnas.runs.system.study_lock import driver_pid

        return driver_pid(self._folder) is not None

    def line(self) -> str:
        """One line: trials by state, and what they took."""
        counts = self._ledger.state_counts()
        states = [f"{n} {state}" for state, n in counts.items() if n] or ["no trials yet"]
        name = self._ledger.study.name or self._folder.name
        return f"{name}: {', '.join(states)}; {usage_line(self._ledger)}"

    def view(self) -> RenderableType:
        """The line, and the front below it."""
        from partialnas.analysis.frames.load import load_trials

        parts: list[RenderableType] = [Text(self.line(), overflow="ellipsis")]
        try:
            parts.append(front_table(load_trials(self._folder)))
        except UserError as error:  # there is no front yet
            parts.append(Text(f"no front: {error}"))
        return Group(*parts)


def _watch(looks: _Looks, every_s: float, live: Live | None, console: Console) -> None:
    while True:
        driven = looks.driven()  # asked first, so that its last words are seen
        began = time.monotonic()
        if looks.changed():
            if live is not None:
                live.update(looks.view(), refresh=True)
            else:
                console.print(looks.line(), markup=False, highlight=False, soft_wrap=True)
        if not driven:
            return
        time.sleep(max(every_s, _REST * (time.monotonic() - began)))
