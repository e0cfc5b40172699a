"""Numbers of printed tables."""

import math

from partialnas.analysis.formats.table_columns import format_signed, format_spread
from partialnas.analysis.formats.text_table import format_mean
from partialnas.runs.config.quantities import QUANTITIES


def test_differences_are_rounded_like_their_intervals() -> None:
    assert format_signed(3.14e-5, ".4f") == "+0.0000"
    assert format_signed(-3.14e-5, ".4f") == "+0.0000"
    assert format_signed(math.nan, ".4f") == ""


def test_spreads_and_bounds_below_the_precision_are_not_shown_as_zero() -> None:
    assert format_spread(QUANTITIES["val_nll"], 2.3026, 2e-6) == "2.3026 ± 0.000002"
    row = {"x": 0.5, "x_low": -4e-5, "x_high": 1.0}
    assert format_mean(row, "x", ".4f") == "0.5000 [-0.00004, 1.0000]"
