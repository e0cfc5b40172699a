"""Figure of convergence: hypervolume of the front over trials and device hours."""

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.figures.base import (
    LINE_COLORS,
    FigureRequest,
    FigureSpec,
    load_requested_trials,
)
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import compute_sentence, kind_of_work
from partialnas.analysis.frames.arrays import Floats, Mask, Objectives
from partialnas.analysis.frames.feasibility import infeasible_message
from partialnas.analysis.frames.seed_means import (
    FAILED_STATES,
    aggregate,
    architecture_codes,
    completed_mask,
)
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import front, reference_point
from partialnas.analysis.pareto.table import empty_figure_message
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.axes import set_ticks
from partialnas.analysis.plotting.labels import elide, study_names
from partialnas.analysis.plotting.legends import draw_legend
from partialnas.analysis.plotting.style import Style
from partialnas.analysis.stats.dominance import dominated_hypervolume, finite_mask
from partialnas.runs.config.quantities import (
    differs_by_seed,
    format_significant,
    is_measured,
    name_in_sentence,
)
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import UserError

Integers = npt.NDArray[np.integer[Any]]

_MAX_STEPS = 200
_SECONDS_PER_HOUR = 3600
_SPREAD = [0.25, 0.5, 0.75]
_MARGIN = 0.05
_LATE = 0.1
"""Share of a horizontal axis without a front from which on that part is left out."""

_NARROW = 4.0
"""Width of a figure in inches, below which more ticks in its panels would overlap."""


def convergence_figure_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of the front's hypervolume over finished trials and device hours.

    Folders whose studies have one name are repeats: their median and quartiles are drawn up to the
    end of the shortest. The reference point is that of the first study.
    """
    trials = load_requested_trials(folders, request)
    objectives = _common_objectives(trials)
    trials = trials.where(~trials.frame["baseline"])
    frame = trials.frame
    if frame.empty:
        raise UserError("nothing to draw: the study has baselines and no searched architecture")
    rows = front(trials, objectives)
    if not rows["on_front"].any():
        outside = infeasible_message(rows, trials.limits)
        raise UserError(
            f"nothing to draw: {outside}"
            if outside
            else empty_figure_message(frame, " and ".join(objectives))
        )
    corner = reference_point(trials, rows, objectives)
    histories = [
        _history(folder, trials.where(frame["folder"].eq(str(folder))), corner)
        for folder in dict.fromkeys(folders)
    ]
    table = pd.concat(histories, ignore_index=True)
    lines = pd.concat([_lines(table, by) for by in ("trials", "hours")], ignore_index=True)
    return FigureSpec(
        table=table,
        readable=_readable(table),
        caption=_caption(frame, table, corner),
        plot_data=lines,
        draw=partial(_draw, lines),
    )


def _common_objectives(trials: Trials) -> Objectives:
    """Return the objectives of all studies, which must be the same to share a reference point."""
    of_study = {
        study: trials.objectives_of(str(study)) for study in trials.frame["folder"].unique()
    }
    first, *others = of_study.items()
    for folder, objectives in others:
        if objectives != first[1]:
            names = (f"{', '.join(of)} in {name}" for name, of in (first, (folder, objectives)))
            raise UserError(
                f"hypervolumes of different objectives cannot be compared: {'; '.join(names)}; "
                "draw a figure for each study"
            )
    if not first[1]:
        raise UserError("convergence needs objectives; the study states none")
    return first[1]


def _history(folder: Path, trials: Trials, corner: dict[str, float]) -> pd.DataFrame:
    """Return the hypervolume at up to 200 numbers of finished trials."""
    frame = trials.frame
    with Ledger.open(folder) as ledger:
        finished = {row.number: row.finished for row in ledger.trials() if row.finished}
    ended = frame[frame["trial"].isin(finished)]
    ended = ended.iloc[np.argsort(ended["trial"].map(finished).to_numpy(str), kind="stable")]
    steps = np.unique(np.linspace(1, len(ended), min(len(ended), _MAX_STEPS)).round().astype(int))
    hours = ended["seconds"].fillna(0).cumsum().to_numpy() / _SECONDS_PER_HOUR
    covered = _hypervolumes(trials.with_frame(ended), steps, corner)
    name = frame["study"].iloc[0] if len(frame) else folder.name
    columns = {"trials": steps, "hours": hours[steps - 1], "hypervolume": covered}
    return pd.DataFrame({"study": name, "folder": str(folder), **columns})


def _hypervolumes(trials: Trials, steps: Integers, corner: dict[str, float]) -> list[float]:
    ended, objectives = trials.frame, trials.objectives
    keys = [*objectives]
    counts = completed_mask(ended, [key for key in keys if differs_by_seed(key)]).to_numpy()
    code = architecture_codes(ended).to_numpy()
    values = ended[keys].to_numpy(float, copy=True)
    usable = counts & finite_mask(values) & _feasible(trials)
    reference = [corner[key] for key in keys]
    volumes = []
    failed = ended["state"].isin(FAILED_STATES).to_numpy()
    for step in steps:
        chosen = usable[:step] & ~np.isin(code[:step], code[:step][failed[:step]])
        means = _means(values[:step][chosen], code[:step][chosen])
        volumes.append(dominated_hypervolume(means, reference, objectives))
    return volumes


def _feasible(trials: Trials) -> Mask:
    """Return for each trial whether its network satisfies the study's limits."""
    rows = aggregate(trials, trials.objectives)
    if "feasible" not in rows:
        return np.ones(len(trials.frame), dtype=bool)
    feasible = dict(zip(rows["digest"], rows["feasible"], strict=True))
    return np.array([feasible.get(digest, False) for digest in trials.frame["digest"]], dtype=bool)


def _means(values: Floats, code: Integers) -> Floats:
    """Return the means over the seeds of each architecture."""
    if not len(code):
        return values
    _, place = np.unique(code, return_inverse=True)
    number = np.bincount(place)
    columns = [np.bincount(place, weights=column) / number for column in values.T]
    return np.column_stack(columns)


def _lines(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the median and the quartiles of each study's repeats over `by`."""
    parts = []
    for study, rows in table.groupby("study", sort=False):
        runs = [run for _, run in rows.groupby("folder", sort=False)]
        end = min(run[by].iloc[-1] for run in runs)
        grid = np.unique(rows.loc[rows[by].le(end), by])
        values = np.stack([_at(run, by, grid) for run in runs])
        low, middle, high = np.quantile(values, _SPREAD, axis=0)
        part = pd.DataFrame({"x": grid, "low": low, "hypervolume": middle, "high": high})
        parts.append(part.assign(study=study, by=by, repeats=len(runs)))
    return pd.concat(parts, ignore_index=True)


def _at(run: pd.DataFrame, by: str, grid: Floats) -> Floats:
    """Return a run's hypervolume at each point of the grid; 0 before its first trial."""
    place = np.searchsorted(run[by].to_numpy(float), grid, side="right")
    reached: Floats = np.r_[0.0, run["hypervolume"].to_numpy(float)]
    return reached[place]


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    last = table.groupby(["study", "folder"], sort=False).tail(1)
    halves = []
    for folder, volume in zip(last["folder"], last["hypervolume"], strict=True):
        history = table[table["folder"].eq(folder)]
        reached = history.loc[history["hypervolume"].ge(0.95 * volume), "trials"]
        halves.append(str(reached.iloc[0]))
    return pd.DataFrame(
        {
            "Study": [*last["folder"].map(study_names(last))],
            "Trials": [f"{trials:,}" for trials in last["trials"]],
            "Device hours": [format_significant(hours, 3) for hours in last["hours"]],
            "Hypervolume": [*map(format_significant, last["hypervolume"])],
            "Trials to 95 % of it": halves,
        }
    )


def _caption(frame: pd.DataFrame, table: pd.DataFrame, corner: dict[str, float]) -> Caption:
    point = ", ".join(
        f"{name_in_sentence(key)} {format_significant(value)}" for key, value in corner.items()
    )
    repeats = table.groupby("study", sort=False)["folder"].nunique()
    most = int(repeats.max())
    band = (
        f"Line: median of {most:,} repeated searches; band: quartiles; up to the end of the "
        "shortest." if most > 1 else ""
    )  # fmt: skip
    failed = int(frame["state"].isin(FAILED_STATES).sum())
    lost = f"Failed trials count as trials and hours ({failed})." if failed else ""
    measured = any(map(is_measured, corner))
    largest = format_significant(table["hypervolume"].max())
    return Caption(
        [
            "Hypervolume of the front of seed means over finished trials and over device hours of "
            f"{kind_of_work(frame)}, relative to the largest reached.",
            band,
        ],
        [
            f"Reference point: {point}; largest hypervolume: {largest}.",
            lost,
            "Hours are without timing; measured values are those known at the end."
            if measured
            else "",
            compute_sentence(frame),
        ],
    )


def _draw(lines: pd.DataFrame, style: Style) -> AnyFigure:
    figure, grid = style.new_panels(columns=2, sharey=True)
    panels = grid[0]
    values = ["low", "hypervolume", "high"]
    lines = lines.assign(**(lines[values] / lines["high"].max()))
    unit, per_hour = _unit_of_time(lines)
    lines["x"] *= lines["by"].map({"trials": 1.0, "hours": per_hour})
    labels = {"trials": "Finished trials", "hours": f"Device {unit}"}
    for axes, (by, label) in zip(panels, labels.items(), strict=True):
        studies = lines[lines["by"].eq(by)].groupby("study", sort=False)
        for color, (study, rows) in zip(itertools.cycle(LINE_COLORS[:-1]), studies, strict=False):
            _draw_line(axes, rows, elide(str(study)), color)
        axes.set_xlabel(label)
        axes.set_xlim(*_start_and_end(lines[lines["by"].eq(by)]))
        set_ticks(axes.xaxis, max_ticks=4 if style.width < _NARROW else 6)
        axes.grid(visible=True)
    panels[0].set_ylim(_lowest(lines), 1 + _MARGIN * (1 - _lowest(lines)))
    panels[0].set_ylabel("Relative hypervolume ↑")
    set_ticks(panels[0].yaxis)
    if lines["study"].nunique() > 1 or lines["repeats"].max() > 1:
        draw_legend(figure, panels[0], style)
    return figure


def _unit_of_time(lines: pd.DataFrame) -> tuple[str, float]:
    """Return the unit that suits the longest study, and its number in an hour."""
    longest = float(lines.loc[lines["by"].eq("hours"), "x"].max())
    units = {"hours": 1.0, "minutes": 60.0, "seconds": 3600.0}
    return next((pair for pair in units.items() if longest * pair[1] >= 1), ("seconds", 3600.0))


def _lowest(lines: pd.DataFrame) -> float:
    """Return the lower end of the vertical axis: below the first front, or 0 if it is near."""
    least = float(lines.loc[lines["hypervolume"].gt(0), ["low", "hypervolume"]].min().min())
    start = least - _MARGIN * (1 - least)
    return start if start > 1 - least else 0.0


def _start_and_end(lines: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of a horizontal axis, which starts at the first front."""
    start = float(lines.loc[lines["hypervolume"].gt(0), "x"].min())
    end = float(lines["x"].max())
    first = start if start > _LATE * end else 0.0
    return first, end + _MARGIN * ((end - first) or 1.0)


def _draw_line(axes: Axes, rows: pd.DataFrame, study: str, color: str) -> None:
    repeats = int(rows["repeats"].iloc[0])
    label = study if repeats == 1 else f"{study}: median of {repeats}"
    axes.step(rows["x"], rows["hypervolume"], where="post", color=color, linewidth=1.1, label=label)
    if len(rows) == 1:
        axes.scatter(rows["x"], rows["hypervolume"], s=12, color=color)
    if repeats > 1:
        band: dict[str, Any] = {"color": color, "alpha": 0.2, "linewidth": 0, "step": "post"}
        axes.fill_between(rows["x"], rows["low"], rows["high"], **band, label="quartiles")
