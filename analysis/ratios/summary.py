"""Summary of learned ratios by arm: budget, frozen form, accuracy, warnings and cost."""

import math

import pandas as pd

from partialnas.analysis.frames.seed_means import FAILED_STATES
from partialnas.analysis.ratios.tables import SERIES_COLUMNS

_PERCENT = 100.0


def ratio_summary(frame: pd.DataFrame, table: pd.DataFrame, warned: pd.DataFrame) -> pd.DataFrame:
    """Return one row per series of trials with learned ratios.

    `seeds` is the number of trials that count, `failed` of those that failed or timed out, `warned`
    of those with a warning. `budget_error` is the ratio of used to available MACs minus 1, in
    percent; its worst value is the farthest from 0. `ratio_gap_worst` is the largest difference
    between the logits of the trained and the frozen form, relative to the largest logit.
    `val_accuracy` (percent) and `val_nll` (nats) are means, `_sd` their standard deviations
    (n − 1). `seconds_ratio` and `throughput_ratio` are medians over seeds of training time and
    throughput, relative to the mean of the static arms with the same seed and condition; missing
    without such an arm.

    Args:
        frame: trials of the study, as returned by `with_series`.
        table: ratios of the trials, as returned by `load_ratios`.
        warned: warnings of the trials, as returned by `load_warnings`.
    """
    learners = frame[frame["series"].isin(table["series"].unique())]
    counted = table.loc[table["counts"], "trial"].unique()
    static = frame[frame["state"].eq("done") & ~frame["trial"].isin(table["trial"])]
    rows = []
    for key, trials in learners.groupby(SERIES_COLUMNS, sort=False):
        done = trials[trials["trial"].isin(counted)]
        facts = {
            "seeds": len(done),
            "failed": int(trials["state"].isin(FAILED_STATES).sum()),
            "warned": int(trials["trial"].isin(warned["trial"]).sum()),
        }
        series = dict(zip(SERIES_COLUMNS, key, strict=True))
        rows.append(series | facts | _statistics(done) | _relative_costs(done, static))
    columns = [*SERIES_COLUMNS, "seeds", "failed", "warned", *_STATISTICS, *_COSTS]
    return pd.DataFrame(rows, columns=columns)


_STATISTICS = (
    *("budget_error_median", "budget_error_worst", "ratio_gap_worst"),
    *("val_accuracy", "val_accuracy_sd", "val_nll", "val_nll_sd"),
)

_COSTS = ("seconds_ratio", "throughput_ratio")


def _relative_costs(done: pd.DataFrame, static: pd.DataFrame) -> dict[str, float]:
    """Return costs relative to the static arms with the same seed and condition."""
    columns = ["seconds", "throughput_img_s"]
    same = ["condition", "seed"]
    arms = static[static["arm"].ne("")].groupby(same)[columns].mean()
    ratios = done.set_index(same)[columns] / arms.reindex(pd.MultiIndex.from_frame(done[same]))
    return dict(zip(_COSTS, map(float, ratios.median()), strict=True))


def _statistics(done: pd.DataFrame) -> dict[str, float]:
    columns = ("budget_error", "ratio_gap", "val_accuracy", "val_nll")
    values = {key: done[key].dropna() if key in done else pd.Series(dtype=float) for key in columns}
    error = values["budget_error"] * _PERCENT
    statistics = (
        error.median(),
        max(error, key=abs, default=math.nan),
        values["ratio_gap"].max(),
        *(values["val_accuracy"].mean(), values["val_accuracy"].std()),
        *(values["val_nll"].mean(), values["val_nll"].std()),
    )
    return dict(zip(_STATISTICS, map(float, statistics), strict=True))
