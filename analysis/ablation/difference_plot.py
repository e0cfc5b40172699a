"""The effect plot: difference of each arm from its baseline, with seeds and intervals."""

import math

import pandas as pd

from partialnas.analysis.ablation.arm_axes import (
    arm_figure,
    arm_name,
    direction_arrow,
    draw_values,
    finish_figure,
    row_labels,
)
from partialnas.analysis.ablation.arm_rows import no_ablation_message
from partialnas.analysis.ablation.effects import Effects, mark_arms
from partialnas.analysis.plotting.artists import AnyFigure, Axes
from partialnas.analysis.plotting.labels import elide
from partialnas.analysis.plotting.style import DARK_COLOR, SERIES_COLORS, Style
from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError

_MAX_BASELINE_LENGTH = 40

COLUMNS = ("arm", "against", "seed", "value", "low", "high", "state")
"""Columns of the data behind an effect plot."""


def effect_points(result: Effects) -> pd.DataFrame:
    """Return the difference and the interval of each contrast, followed by those of its seeds.

    A row without a `seed` is an estimate over all seeds; `state` is the reason if there is none.

    Raises:
        UserError: there are no contrasts.
    """
    contrasts = {contrast.arm: contrast for contrast in result.comparison.contrasts}
    if not contrasts and result.rows.frame["baseline"].any():
        raise UserError(no_ablation_message(result.rows.trials))
    if not contrasts:
        raise UserError("no comparisons to draw: choose a baseline with `against`")
    rows: list[tuple[object, ...]] = []
    for arm in result.table.to_dict("records"):
        contrast = contrasts.get(arm["arm"])
        if contrast is None:
            continue
        names = (contrast.arm, contrast.against)
        difference = contrast.difference
        state = arm["state"] or ("" if math.isfinite(difference) else "not comparable")
        rows.append((*names, pd.NA, difference, contrast.low, contrast.high, state))
        values, baseline = (result.values.get(name, {}) for name in names)
        rows.extend(
            (*names, seed, values[seed] - baseline[seed], math.nan, math.nan, "")
            for seed in sorted(values.keys() & baseline.keys())
        )
    return pd.DataFrame(rows, columns=[*COLUMNS]).astype({"seed": "Int64"})


def draw(result: Effects, points: pd.DataFrame, style: Style) -> AnyFigure:
    """Return the figure of `effect_points`; call it inside `figure_style`."""
    contrasts = points[points["seed"].isna()]
    arms = [*map(str, contrasts["arm"])]
    labels = mark_arms(result, row_labels(arms, result.design), arms)
    figure, axes = arm_figure(labels, style)
    axes.axvline(0, color=DARK_COLOR, linewidth=0.7, zorder=2)
    interval = f"simultaneous {result.comparison.level:.0%} interval"
    draw_values(axes, points, interval, missing_at=0.0)
    _draw_margin(axes, result.margin)
    quantity = result.quantity
    label, arrow = f"Δ {quantity.name}{difference_unit(quantity)}", direction_arrow(quantity)
    title = [label, f"from {_baseline(result, contrasts['against'])} ({arrow})"]
    finish_figure(figure, axes, result, f"{label} {arrow}", title, style)
    return figure


def difference_unit(quantity: Quantity) -> str:
    """Return the unit of a difference in brackets: percentage points for percent."""
    unit = "percentage points" if quantity.unit == "%" else quantity.unit
    return f" ({unit})" if unit else ""


def _baseline(result: Effects, against: "pd.Series[str]") -> str:
    """Return the name of the common baseline, or a description of the baselines of strata."""
    if against.nunique() == 1 or result.design is None:
        return elide(arm_name(str(against.iloc[0]), result.design), _MAX_BASELINE_LENGTH)
    return f"the baseline with the same {' and '.join(result.design.within)}"


def _draw_margin(axes: Axes, margin: float | None) -> None:
    if margin is not None:
        axes.axvspan(
            -margin, margin, color=SERIES_COLORS[2], alpha=0.12, linewidth=0, zorder=1,
            label=f"within ±{margin:g}",
        )  # fmt: skip
