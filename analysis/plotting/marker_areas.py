"""Areas of markers: a third quantity of a figure, and the key that tells its values."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from partialnas.analysis.plotting.axes import parent_figure
from partialnas.analysis.plotting.style import MUTED_COLOR, POINTS_PER_INCH
from partialnas.runs.config.quantities import Quantity, format_significant
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LARGEST = 110.0
"""The area of the largest marker in square points."""

_LEAST = 2.0
_STEPS = 2
_RIM = 12
_APART = 4.0


@dataclass(frozen=True, kw_only=True)
class MarkerAreas:
    """Areas of the markers of a table's rows.

    Attributes:
        values: each row's, in square points; NaN where the figure's usual size stands.
        quantity: what they are in proportion to; None where they tell nothing.
        largest: its largest value.
    """

    values: "pd.Series[float]"
    quantity: Quantity | None = None
    largest: float = 0.0

    @property
    def has_quantity(self) -> bool:
        """Whether areas tell something."""
        return self.quantity is not None

    def draw_legend_entries(self, axes: "Axes") -> None:
        """Adds entries to the legend: a few round values with the areas that they have."""
        if self.quantity is None:
            return
        label, factor = self.quantity.scaled_label(self.largest)
        for step in round_values(self.largest / factor):
            area = LARGEST * step * factor / self.largest
            look: dict[str, Any] = {
                "facecolors": "white", "edgecolors": MUTED_COLOR, "linewidths": 0.8,
            }  # fmt: skip
            axes.scatter([], [], s=area, **look, label=f"{label}: {format_significant(step)}")


def compute_marker_areas(table: pd.DataFrame, quantity: Quantity | None) -> MarkerAreas:
    """The areas that rows have where they are in proportion to a quantity.

    Raises:
        UserError: it has no values, or some that no area can show.
    """
    if quantity is None:
        return MarkerAreas(values=pd.Series(np.nan, index=table.index))
    values = table[quantity.key].astype("float64")
    finite = values[np.isfinite(values)]
    if finite.empty or finite.min() < 0 or finite.max() <= 0:
        raise UserError(f"size {quantity.key}: an area shows values above zero, and there are none")
    largest = float(finite.max())
    areas = (LARGEST * values / largest).clip(lower=_LEAST).fillna(_LEAST)
    return MarkerAreas(values=areas, quantity=quantity, largest=largest)


def round_values(largest: float) -> list[float]:
    """Up to two round numbers, none above the largest, the small one first."""
    found: list[float] = []
    power = 10.0 ** np.floor(np.log10(largest))
    for step in (5.0, 2.0, 1.0, 0.2):
        value = step * power
        enough = not found or value <= found[-1] / _APART
        if value <= largest and enough and len(found) < _STEPS:
            found.append(float(f"{value:.6g}"))
    return found[::-1]


def add_rim_points(axes: "Axes", points: pd.DataFrame) -> pd.DataFrame:
    """Points, and around each of the large markers places on its rim, for labels to keep clear of.

    Args:
        axes: with limits that will not change.
        points: with `x`, `y`, `area` and `marker`.
    """
    large = points[points["area"].notna()]
    large = large[large["on_front"] | large["family"].ne("")]
    if large.empty:
        return points
    figure = parent_figure(axes)
    figure.draw_without_rendering()
    scale = figure.dpi / POINTS_PER_INCH
    # the corners of squares and diamonds are as far out as half of their diagonal
    reach = np.where(large["marker"].eq("o"), 0.5, np.sqrt(0.5))
    radius = np.sqrt(large["area"].to_numpy(float)) * reach * scale
    middle = axes.transData.transform(large[["x", "y"]].to_numpy(float))
    turns = np.linspace(0, 2 * np.pi, _RIM, endpoint=False)
    ways = np.column_stack([np.cos(turns), np.sin(turns)])
    rims = [middle + share * radius[:, None] * way for way in ways for share in (0.5, 1.0)]
    places = axes.transData.inverted().transform(np.concatenate(rims))
    return pd.concat([points, pd.DataFrame(places, columns=["x", "y"])], ignore_index=True)
