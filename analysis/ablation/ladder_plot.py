"""The ladder plot: the value of each rung, seeds as dots, and what each step adds."""

import math
from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.ablation.arm_axes import (
    annotate_missing,
    arm_figure,
    direction_arrow,
    draw_axis_title,
    draw_means,
    draw_seeds,
    fit_row_height,
)
from partialnas.analysis.ablation.effects import Effects, mean_half_width, unmatched_arms
from partialnas.analysis.ablation.table import format_signed
from partialnas.analysis.plotting.labels import draw_legend
from partialnas.analysis.plotting.style import DARK_COLOR, LEADER_COLOR, Style
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_NAMES = 0.35
"""Of the width for names: what steps add stands on the other side."""


def ladder_points(found: Effects) -> pd.DataFrame:
    """What the plot shows: of each rung its mean with interval and its step, then its seeds.

    A row without a `seed` is of all seeds; `state` says why a rung has no mean.

    Raises:
        UserError: the design is no ladder.
    """
    if found.steps is None:
        raise UserError("not a ladder: this study's arms are not added one after another")
    steps = {each.arm: each for each in found.steps.contrasts}
    rows: list[dict[str, object]] = []
    for arm in found.table.to_dict("records"):
        name, step = arm["arm"], steps.get(arm["arm"])
        half = mean_half_width(found.comparison, arm["n"])
        rows.append(
            {
                "arm": name,
                "seed": pd.NA,
                "value": arm["mean"],
                "low": arm["mean"] - half,
                "high": arm["mean"] + half,
                "step": step.difference if step else math.nan,
                "step_low": step.low if step else math.nan,
                "step_high": step.high if step else math.nan,
                "state": arm["state"],
            }
        )
        values = found.values.get(name, {})
        rows.extend({"arm": name, "seed": seed, "value": v} for seed, v in values.items())
    return pd.DataFrame(rows).astype({"seed": "Int64"}).fillna({"state": ""})


def draw(found: Effects, points: pd.DataFrame, style: Style) -> "Figure":
    """The figure of `ladder_points`; to be called inside `style.drawing`."""
    rungs = points[points["seed"].isna()].reset_index(drop=True)
    unmatched = unmatched_arms(found)
    names = [f"{arm} †" if arm in unmatched else arm for arm in rungs["arm"]]
    figure, axes = arm_figure(names, style, label_share=_NAMES)
    rows = points.assign(row=points["arm"].map({a: i for i, a in enumerate(rungs["arm"])}))
    draw_seeds(axes, rows[rows["seed"].notna()])
    means = rows[rows["seed"].isna() & rows["value"].notna()]
    axes.plot(means["value"], means["row"], color=LEADER_COLOR, linewidth=0.8, zorder=2)
    draw_means(axes, means, f"{found.comparison.level:.0%} interval")
    absent = rungs[rungs["state"].ne("")]
    middle = float(means["value"].mean()) if len(means) else 0.0
    annotate_missing(axes, [*absent.index], [*absent["state"]], middle)
    _draw_steps(axes, rungs, found)
    title = f"{found.quantity.label} {direction_arrow(found.quantity)}"
    few = "one seed: nothing can be concluded" if found.comparison.method == "none" else ""
    off = f"†: {found.design.match} not equal" if found.design and unmatched else ""
    draw_axis_title(figure, [title, off, few], style)
    draw_legend(figure, axes, style)
    fit_row_height(figure, axes)
    return figure


def _draw_steps(axes: "Axes", rungs: pd.DataFrame, found: Effects) -> None:
    """What each step adds, to the right and between the two rungs; small where it may be zero."""
    spec = found.quantity.spec
    for row, rung in rungs.iterrows():
        middle, low, high = (
            format_signed(rung[key], spec) for key in ("step", "step_low", "step_high")
        )
        if not middle:
            continue
        text = f"{middle} [{low}, {high}]" if low and high else middle
        clear = rung["step_low"] > 0 or rung["step_high"] < 0
        axes.annotate(
            text, (1.02, float(str(row)) - 0.5), xycoords=axes.get_yaxis_transform(), va="center",
            fontsize="x-small", color=DARK_COLOR if clear else LEADER_COLOR, annotation_clip=False,
        )  # fmt: skip
