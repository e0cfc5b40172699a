"""Which trials and axes a table or figure shows."""

import pandas as pd

from partialnas.runs.config.quantities import differs_by_seed
from partialnas.space.errors import UserError


def select_condition(frame: pd.DataFrame, condition: str | None) -> pd.DataFrame:
    """The trials that were run under a condition; all of them where none is named.

    Raises:
        UserError: no trial was run under it.
    """
    if condition is None:
        return frame
    chosen = frame[frame["condition"].eq(condition)]
    if chosen.empty:
        names = ", ".join(filter(None, frame["condition"].unique())) or "none"
        raise UserError(f"no trial was run under condition {condition!r}; there are {names}")
    chosen.attrs = frame.attrs
    return chosen


def default_axes(frame: pd.DataFrame) -> tuple[str, str]:
    """The study's first counted or measured objective across, its first trained one upwards.

    Without such objectives: throughput where any was measured, else multiply–accumulates, and
    validation log-likelihood.
    """
    objectives = list(frame.attrs.get("objectives", {}))
    trained = [key for key in objectives if differs_by_seed(key)]
    costs = [key for key in objectives if key not in trained]
    measured = frame["throughput_img_s"].notna().any()
    costs.append("throughput_img_s" if measured else "macs")
    return costs[0], [*trained, "val_nll"][0]
