"""The effect plot: each arm's difference from its baseline, seeds as dots, with intervals."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.ablation.arm_axes import (
    annotate_missing,
    arm_figure,
    difference_unit,
    direction_arrow,
    draw_axis_title,
    draw_means,
    draw_seeds,
    fit_row_height,
    row_labels,
)
from partialnas.analysis.ablation.effects import Effects, unmatched_arms
from partialnas.analysis.plotting.labels import draw_legend, elide
from partialnas.analysis.plotting.style import DARK_COLOR, SERIES_COLORS, Style
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LONGEST_BASELINE = 40

COLUMNS = ("arm", "against", "seed", "value", "low", "high", "state")
"""The columns of what an effect plot shows."""


def effect_points(found: Effects) -> pd.DataFrame:
    """What the plot shows: of each contrast its difference with interval, then its seeds' own.

    A row without a `seed` is of all seeds; `state` says why a contrast has no difference.

    Raises:
        UserError: there are no contrasts.
    """
    told = {each.arm: each for each in found.comparison.contrasts}
    if not told:
        raise UserError("no comparisons to draw: name an arm with --against")
    rows: list[tuple[object, ...]] = []
    for arm in found.table.to_dict("records"):
        each = told.get(arm["arm"])
        if each is None:
            continue
        state = arm["state"] or ("" if math.isfinite(each.difference) else "not comparable")
        name, against = each.arm, each.against
        rows.append((name, against, pd.NA, each.difference, each.low, each.high, state))
        own, other = (found.values.get(key, {}) for key in (name, against))
        rows.extend(
            (name, against, seed, own[seed] - other[seed], math.nan, math.nan, "")
            for seed in sorted(own.keys() & other.keys())
        )
    return pd.DataFrame(rows, columns=[*COLUMNS]).astype({"seed": "Int64"})


def draw(found: Effects, points: pd.DataFrame, style: Style) -> "Figure":
    """The figure of `effect_points`; to be called inside `style.drawing`."""
    contrasts = points[points["seed"].isna()].reset_index(drop=True)
    names, what = row_labels([*map(str, contrasts["arm"])], found.design)
    figure, axes = arm_figure(_marked(found, contrasts["arm"], names), style)
    _draw_margin(axes, found.margin)
    axes.axvline(0, color=DARK_COLOR, linewidth=0.7, zorder=2)
    rows = points.assign(row=points["arm"].map({a: i for i, a in enumerate(contrasts["arm"])}))
    draw_seeds(axes, rows[rows["seed"].notna()])
    level = f"{found.comparison.level:.0%} interval (simultaneous)"
    draw_means(axes, rows[rows["seed"].isna() & rows["value"].notna()], level)
    absent = contrasts[contrasts["state"].ne("")]
    annotate_missing(axes, [*absent.index], [*absent["state"]], 0.0)
    draw_axis_title(figure, _titles(found, _baseline(found, contrasts["against"]), what), style)
    draw_legend(figure, axes, style)
    fit_row_height(figure, axes)
    return figure


def _marked(found: Effects, arms: "pd.Series[str]", names: Sequence[str]) -> list[str]:
    """The names of rows, a mark beside those of arms that could not be matched."""
    unmatched = unmatched_arms(found)
    return [
        f"{name} †" if arm in unmatched else name for arm, name in zip(arms, names, strict=True)
    ]


def _baseline(found: Effects, against: "pd.Series[str]") -> str:
    """What the differences are from: one arm, or that of each stratum."""
    if against.nunique() == 1 or found.design is None:
        return elide(str(against.iloc[0]), _LONGEST_BASELINE)
    return f"the baseline of the same {' and '.join(found.design.within)}"


def _titles(found: Effects, baseline: str, rows: str) -> list[str]:
    quantity = found.quantity
    unit = difference_unit(quantity)
    units = f" ({unit})" if unit else ""
    return [
        f"Δ {quantity.name}{units} {direction_arrow(quantity)}",
        f"from {baseline}",
        f"rows: {rows}" if rows else "",
        f"†: {found.design.match} not equal" if found.design and unmatched_arms(found) else "",
        "one seed: nothing can be concluded" if found.comparison.method == "none" else "",
    ]


def _draw_margin(axes: "Axes", margin: float | None) -> None:
    if margin is not None:
        axes.axvspan(
            -margin, margin, color=SERIES_COLORS[2], alpha=0.12, linewidth=0, zorder=1,
            label=f"no difference (±{margin:g})",
        )  # fmt: skip
