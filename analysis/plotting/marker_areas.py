"""Marker areas that show a third quantity of a figure, with their legend entries."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.plotting.artists import Axes
from partialnas.analysis.plotting.axes import parent_figure
from partialnas.analysis.plotting.style import MUTED_COLOR, POINTS_PER_INCH
from partialnas.runs.config.quantities import Quantity, format_significant
from partialnas.space.errors import UserError

MAX_AREA = 110.0
"""Area of the largest marker in square points."""

_MIN_AREA = 2.0
_NUM_LEGEND_VALUES = 2
_NUM_RIM_POINTS = 12
_MIN_LEGEND_RATIO = 4.0


@dataclass(frozen=True, kw_only=True)
class MarkerAreas:
    """Areas of the markers of a table's rows.

    Attributes:
        values: area of each row in square points; NaN for the default size of the figure.
        quantity: quantity that the areas are proportional to, or None if they show none.
        largest: largest value of the quantity.
    """

    values: "pd.Series[float]"
    quantity: Quantity | None = None
    largest: float = 0.0

    @property
    def has_quantity(self) -> bool:
        """Whether the areas show a quantity."""
        return self.quantity is not None

    def draw_legend_entries(self, axes: Axes) -> None:
        """Add entries to the legend: a few round values with their areas."""
        if self.quantity is None:
            return
        label, factor = self.quantity.scaled_label(self.largest)
        name = self.quantity.name
        unit = label.removeprefix(name).strip(" ()")
        for step in round_values(self.largest / factor):
            area = MAX_AREA * step * factor / self.largest
            look: dict[str, Any] = {
                "facecolors": "white", "edgecolors": MUTED_COLOR, "linewidths": 0.8,
            }  # fmt: skip
            label = f"{name}: {format_significant(step)} {unit}".strip()
            axes.scatter([], [], s=area, **look, label=label)


def compute_marker_areas(table: pd.DataFrame, quantity: Quantity | None) -> MarkerAreas:
    """Return areas proportional to a quantity, or the default size without one.

    Raises:
        UserError: the quantity has no positive value, or a negative one.
    """
    if quantity is None:
        return MarkerAreas(values=pd.Series(np.nan, index=table.index))
    values = table[quantity.key].astype("float64")
    finite = values[np.isfinite(values)]
    if finite.empty or finite.min() < 0 or finite.max() <= 0:
        raise UserError(
            f"size {quantity.key}: marker areas need positive values without negative ones; choose "
            "another quantity"
        )
    largest = float(finite.max())
    areas = (MAX_AREA * values / largest).clip(lower=_MIN_AREA).fillna(_MIN_AREA)
    return MarkerAreas(values=areas, quantity=quantity, largest=largest)


def round_values(largest: float) -> list[float]:
    """Return up to two round numbers in ascending order, none above `largest`."""
    values: list[float] = []
    power = 10.0 ** np.floor(np.log10(largest))
    for step in (5.0, 2.0, 1.0, 0.2):
        value = step * power
        distinct = not values or value <= values[-1] / _MIN_LEGEND_RATIO
        if value <= largest and distinct and len(values) < _NUM_LEGEND_VALUES:
            values.append(float(f"{value:.6g}"))
    return values[::-1]


def add_rim_points(axes: Axes, points: pd.DataFrame) -> pd.DataFrame:
    """Return the points with extra ones inside and on the rim of large markers.

    Labels that cover no point then cover no large marker either.

    Args:
        axes: axes with their final limits.
        points: table with `x`, `y`, `area` and `marker`.
    """
    large = points[points["area"].notna()]
    large = large[large["on_front"] | large["family"].ne("")]
    if large.empty:
        return points
    figure = parent_figure(axes)
    figure.draw_without_rendering()
    scale = figure.dpi / POINTS_PER_INCH
    # half of the diagonal for markers with corners
    extent = np.where(large["marker"].eq("o"), 0.5, np.sqrt(0.5))
    radius = np.sqrt(large["area"].to_numpy(float)) * extent * scale
    center = axes.transData.transform(large[["x", "y"]].to_numpy(float))
    angles = np.linspace(0, 2 * np.pi, _NUM_RIM_POINTS, endpoint=False)
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    rims = [center + share * radius[:, None] * d for d in directions for share in (0.5, 1.0)]
    added = axes.transData.inverted().transform(np.concatenate(rims))
    return pd.concat([points, pd.DataFrame(added, columns=["x", "y"])], ignore_index=True)
