"""Figure of the empirical distribution of a study's errors (EDF)."""

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from partialnas.analysis.figures.base import (
    LINE_COLORS,
    FigureRequest,
    FigureSpec,
    requested_architectures,
)
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import (
    compute_sentence,
    evaluation_phrase,
    pluralize,
)
from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.plotting.artists import AnyFigure
from partialnas.analysis.plotting.axes import set_ticks
from partialnas.analysis.plotting.labels import elide, study_names
from partialnas.analysis.plotting.legends import draw_legend
from partialnas.analysis.plotting.limit_lines import (
    draw_limit_lines,
    limit_marks_sentence,
    near_bounds,
)
from partialnas.analysis.plotting.style import Style
from partialnas.runs.config.quantities import Quantity, format_significant

RESAMPLES = 1000
_SEED = 0
_BAND = [0.025, 0.975]
_MAX_STEPS = 400


def edf_figure_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the empirical distribution of errors, one line per study, with bootstrap bands.

    An accuracy in percent is shown as error (100 minus accuracy); for other quantities that are
    maximized, the share of values that are at least as large is shown. Each searched architecture
    counts once, with the mean over its seeds; baselines do not count.
    """
    trials, quantity, rows = requested_architectures(folders, request)
    searched = rows[~rows["baseline"]] if not rows["baseline"].all() else rows
    values = searched[quantity.key].to_numpy(float)
    errors = _error(values, quantity)
    bounds = np.array(near_bounds(trials.limits, quantity.key, values))
    parts = []
    for folder in searched["folder"].unique():
        of_study = searched["folder"].eq(folder)
        study = searched.loc[of_study, "study"].iloc[0]
        part = empirical_cdf(errors[of_study.to_numpy()])
        parts.append(part.assign(study=study, folder=folder))
    marks = limit_marks_sentence(searched[:0], lines=bool(len(bounds)))
    table = pd.concat(parts, ignore_index=True)
    table = table[["study", "folder", "error", "share", "low", "high", "architectures"]]
    return FigureSpec(
        table=table,
        readable=_readable(table),
        caption=_caption(trials.frame, searched, quantity).plus(marks),
        plot_data=table[["study", "error", "share", "low", "high"]],
        draw=partial(_draw, table, quantity, _error(bounds, quantity)),
    )


def empirical_cdf(errors: Floats, *, seed: int = _SEED) -> pd.DataFrame:
    """Return the share of values up to each value, with a pointwise 95 % band.

    The band is the percentile bootstrap over resampled sets of the same size.

    Args:
        errors: finite values.
        seed: seed of the resampling.
    """
    values = np.unique(errors)
    if len(values) > _MAX_STEPS:
        values = np.unique(np.quantile(errors, np.linspace(0, 1, _MAX_STEPS), method="higher"))
    # an error counts from the next grid value on
    bins = np.searchsorted(values, errors, side="left")
    numbers = np.bincount(bins, minlength=len(values))
    total = len(errors)
    drawn = np.random.default_rng(seed).multinomial(total, numbers / total, RESAMPLES)
    low, high = np.quantile(drawn.cumsum(axis=1) / total, _BAND, axis=0)
    share = numbers.cumsum() / total
    band = {"share": share, "low": low, "high": high}
    return pd.DataFrame({"error": values, **band, "architectures": total})


def _error(values: Floats, quantity: Quantity) -> Floats:
    if quantity.unit == "%":
        return 100 - values
    return -values if quantity.better == "max" else values


def _label(quantity: Quantity) -> str:
    if quantity.unit == "%":
        return f"{quantity.name.replace('accuracy', 'error')} (%)"
    return quantity.label


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    rows, names = [], study_names(table)
    for folder, study in table.groupby("folder", sort=False):
        reached = [study["share"].ge(share - 1e-12) for share in (0.1, 0.5, 0.9)]
        quantiles = [study.loc[mask, "error"].iloc[0] for mask in reached]
        texts = [format_significant(abs(v)) for v in (study["error"].iloc[0], *quantiles)]
        rows.append([names[str(folder)], f"{study['architectures'].iloc[0]:,}", *texts])
    heads = ["Study", "Architectures", "Best", "Best 10 %", "Median", "Best 90 %"]
    return pd.DataFrame(rows, columns=heads)


def _caption(frame: pd.DataFrame, rows: pd.DataFrame, quantity: Quantity) -> Caption:
    lacking = int(frame.loc[~frame["digest"].isin(rows["digest"]), "digest"].nunique())
    count = pluralize(lacking, "architecture")
    absent = f"Not counted: {count}, including baselines." if lacking else ""
    seeds = ", means over seeds" if rows["n"].gt(1).any() else ""
    return Caption(
        [
            f"Share of architectures whose {_label(quantity)} is at least as good: "
            f"{pluralize(len(rows), 'architecture')}, {evaluation_phrase(rows)}{seeds}.",
            "Band: 95 % pointwise.",
        ],
        [
            f"The band is a percentile bootstrap over architectures ({RESAMPLES:,} resamples, seed "
            f"{_SEED}); it assumes a random sample, which an adaptive search does not draw.",
            absent,
            compute_sentence(frame),
        ],
    )


def _draw(table: pd.DataFrame, quantity: Quantity, bounds: Floats, style: Style) -> AnyFigure:
    figure, axes = style.new_axes()
    names = study_names(table)
    studies = table.groupby("folder", sort=False)
    for color, (folder, rows) in zip(itertools.cycle(LINE_COLORS[:-1]), studies, strict=False):
        x = rows["error"].abs() if quantity.unit != "%" else rows["error"]
        label = f"{elide(names[str(folder)])} ({rows['architectures'].iloc[0]:,})"
        # the share is zero up to the first value
        start = [x.iloc[0], *x], [0.0, *rows["share"]]
        axes.step(*start, where="post", color=color, linewidth=1.1, label=label)
        axes.fill_between(x, rows["low"], rows["high"], step="post", color=color, alpha=0.18,
                          linewidth=0)  # fmt: skip
    better = quantity.better == "max" and quantity.unit != "%"
    axes.set(xlabel=f"{_label(quantity)} {'↑' if better else '↓'}", ylim=(0, 1.02))
    axes.set_ylabel("Share of architectures")
    set_ticks(axes.xaxis)
    if better:
        axes.invert_xaxis()
    axes.grid(visible=True)
    draw_limit_lines(axes, x=bounds if quantity.unit == "%" else np.abs(bounds))
    draw_legend(figure, axes, style)
    return figure
