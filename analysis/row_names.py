"""What networks are called in tables and figures."""

import pandas as pd


def row_names(rows: pd.DataFrame) -> "pd.Series[str]":
    """The name of each arm; `#7`, the number of its first trial, of a network that is none."""
    return rows["arm"].where(rows["arm"].ne(""), "#" + rows["trial"].astype(str))
