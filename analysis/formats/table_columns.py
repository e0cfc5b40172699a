"""Columns of printed tables: texts of rows, means with deviations, costs in suitable units."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from partialnas.analysis.formats.caption_sentences import count_seeds
from partialnas.analysis.formats.text_table import MINUS, PLUS_MINUS, Cell, Column
from partialnas.runs.config.quantities import QUANTITIES, Quantity

COSTS = {
    **{"params": ("params", "Params"), "macs": ("macs", "MACs")},
    **{"throughput": ("throughput_img_s", "images/s"), "latency": ("latency_ms", "ms")},
}
"""Quantity and header of each column of costs, by its name on the command line."""


def text_column(
    header: str, table: pd.DataFrame, text: Callable[[dict[Any, Any]], str], group: str = ""
) -> Column:
    """Return a column of numbers with the text of each row of a table."""
    cells = [Cell(text(row)) for row in table.to_dict("records")]
    return Column(header=header, cells=cells, group=group)


def cost_column(table: pd.DataFrame, key: str, eager: "pd.Series[bool]") -> Column:
    """Return a column of costs, scaled by a unit prefix that suits the largest one.

    Args:
        table: table with the costs and the column `noisy`.
        key: name of the column on the command line.
        eager: rows whose timings are marked as eager.
    """
    quantity_key, header = COSTS[key]
    quantity = QUANTITIES[quantity_key]
    values = table[quantity.key].astype("float64")
    label, factor = quantity.scaled_label(values.abs().max())
    unit = label.rpartition("(")[2].split(",")[0].rstrip(")") if factor != 1 else ""
    spec = replace(quantity, spec=_decimals(values.abs().max() / factor)) if unit else quantity
    cells = [
        Cell(spec.text(value / factor, noisy=bool(noisy), eager=bool(is_eager)))
        for value, noisy, is_eager in zip(values, table["noisy"], eager, strict=True)
    ]
    return Column(header=f"{header} ({unit})" if unit else header, cells=cells)


def _decimals(largest: float) -> str:
    """Return a format specification with four significant digits for the largest value."""
    return f".{3 - int(math.log10(largest))}f"


def seed_counts(row: Mapping[Any, Any]) -> str:
    """Return the number of seeds of a row, such as `3` or `2 (1 failed)`."""
    return count_seeds(row["n"], failed=row["failed"], missing=row.get("missing", 0))


def format_spread(quantity: Quantity, mean: float, sd: float) -> str:
    """Return the mean of a quantity, with its standard deviation if available."""
    text = quantity.text(mean).replace("-", MINUS)
    return text if math.isnan(sd) else f"{text} {PLUS_MINUS} {quantity.text(sd)}"


def format_signed(value: float, spec: str) -> str:
    """Return a number with its sign, using a true minus, or "" for NaN."""
    if math.isnan(value):
        return ""
    text = format(value, f"+z{spec}") if spec else f"{value:+z.4g}"
    return text.replace("-", MINUS)


def drop_empty(columns: Sequence[Column], *, keep: bool = False) -> Sequence[Column]:
    """Return the columns with any content, or all of them to `keep` a user's selection."""
    return columns if keep else [c for c in columns if any(cell.text for cell in c.cells)]
