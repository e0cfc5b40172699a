"""The ladder plot: mean and seeds of each rung, and the difference that each step makes."""

import math

import pandas as pd

from partialnas.analysis.ablation.arm_axes import (
    arm_figure,
    direction_arrow,
    draw_values,
    finish_figure,
    shown_bounds,
)
from partialnas.analysis.ablation.effects import Effects, mark_arms, mean_half_width
from partialnas.analysis.formats.table_columns import format_signed
from partialnas.analysis.formats.text_table import format_interval
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.limit_lines import draw_limit_lines
from partialnas.analysis.plotting.style import DARK_COLOR, LEADER_COLOR, Style
from partialnas.space.errors import UserError

_LABEL_SHARE = 0.35
"""Largest share of the width for names, since the steps are on the other side."""


def ladder_points(result: Effects) -> pd.DataFrame:
    """Return the mean, interval and step of each rung, followed by the values of its seeds.

    A row without a `seed` is a mean over all seeds; `state` is the reason if there is none.

    Raises:
        UserError: the design is not a ladder.
    """
    if result.steps is None:
        raise UserError(
            "not a ladder: the arms of this study do not build on each other; draw the kind effect"
        )
    steps = {step.arm: step for step in result.steps.contrasts}
    rows: list[dict[str, object]] = []
    for arm in result.table.to_dict("records"):
        name, step = arm["arm"], steps.get(arm["arm"])
        half_width = mean_half_width(result.comparison, arm["n"])
        rows.append(
            {
                "arm": name,
                "seed": pd.NA,
                "value": arm["mean"],
                "low": arm["mean"] - half_width,
                "high": arm["mean"] + half_width,
                "step": step.difference if step else math.nan,
                "step_low": step.low if step else math.nan,
                "step_high": step.high if step else math.nan,
                "state": arm["state"],
            }
        )
        values = result.values.get(name, {})
        rows.extend({"arm": name, "seed": seed, "value": v} for seed, v in values.items())
    return pd.DataFrame(rows).astype({"seed": "Int64"}).fillna({"state": ""})


def draw(result: Effects, points: pd.DataFrame, style: Style) -> AnyFigure:
    """Return the figure of `ladder_points`; call it inside `figure_style`."""
    rungs = points[points["seed"].isna()].reset_index(drop=True)
    arms = [*map(str, rungs["arm"])]
    figure, axes = arm_figure(mark_arms(result, arms, arms), style, label_share=_LABEL_SHARE)
    means = draw_values(axes, points, f"{result.comparison.level:.0%} interval")
    axes.plot(means["value"], means["row"], color=LEADER_COLOR, linewidth=0.8, zorder=2)
    draw_limit_lines(axes, x=shown_bounds(result, points))
    _draw_steps(axes, rungs, result, style.small_font_size)
    label = f"{result.quantity.label} {direction_arrow(result.quantity)}"
    finish_figure(figure, axes, result, label, [label], style)
    return figure


def _draw_steps(axes: Axes, rungs: pd.DataFrame, result: Effects, size: float) -> None:
    """Write each step to the right, between its two rungs; pale if its interval includes zero."""
    spec = result.quantity.spec
    for row, rung in rungs.iterrows():
        step = [format_signed(rung[key], spec) for key in ("step", "step_low", "step_high")]
        if step[0]:
            clear = rung["step_low"] > 0 or rung["step_high"] < 0
            axes.annotate(
                format_interval(*step), (1.02, float(str(row)) - 0.5), va="center",
                xycoords=axes.get_yaxis_transform(), fontsize=size, annotation_clip=False,
                color=DARK_COLOR if clear else LEADER_COLOR,
            )  # fmt: skip
