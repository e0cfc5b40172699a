"""What learning ratios came to: budget, forms, accuracy and warnings of each arm, as a table."""

import math

import pandas as pd

from partialnas.analysis.frames.seed_means import FAILED_STATES
from partialnas.analysis.ratios.tables import SERIES_COLUMNS

_PERCENT = 100.0


def ratio_summary(frame: pd.DataFrame, table: pd.DataFrame, warned: pd.DataFrame) -> pd.DataFrame:
    """One row per series of trials that learned ratios.

    `seeds` are the trials that count, `failed` those that failed or ran out of time, `warned` those
    with a warning. `budget_error` is what is used over what may be, less 1, in percent, its worst
    the farthest from 0; `ratio_gap_worst` the largest difference between the logits of the trained
    and of the frozen form, over the largest logit. `val_accuracy` (percent) and `val_nll` (nats)
    are means, `_sd` their standard deviations (n − 1). `seconds_ratio` and `throughput_ratio` are
    medians over the seeds of what a trial took and how fast it runs, over the mean of the static
    arms with the same seed and condition; missing where there is no such arm.

    Args:
        frame: the study's trials, as `with_series` gives them.
        table: their ratios, as `load_ratios` gives them.
        warned: their warnings, as `load_warnings` gives them.
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
        rows.append(
            dict(zip(SERIES_COLUMNS, key, strict=True))
            | facts
            | _figures(done)
            | _beside(done, static)
        )
    return pd.DataFrame(
        rows, columns=[*SERIES_COLUMNS, "seeds", "failed", "warned", *_FIGURES, *_COSTS]
    )


_FIGURES = (
    *("budget_error_median", "budget_error_worst", "ratio_gap_worst"),
    *("val_accuracy", "val_accuracy_sd", "val_nll", "val_nll_sd"),
)

_COSTS = ("seconds_ratio", "throughput_ratio")


def _beside(done: pd.DataFrame, static: pd.DataFrame) -> dict[str, float]:
    """What trials cost beside the static arms with their seed and condition."""
    columns = ["seconds", "throughput_img_s"]
    same = ["condition", "seed"]
    arms = static[static["arm"].ne("")].groupby(same)[columns].mean()
    ratios = done.set_index(same)[columns] / arms.reindex(pd.MultiIndex.from_frame(done[same]))
    return dict(zip(_COSTS, map(float, ratios.median()), strict=True))


def _figures(done: pd.DataFrame) -> dict[str, float]:
    columns = ("budget_error", "ratio_gap", "val_accuracy", "val_nll")
    told = {key: done[key].dropna() if key in done else pd.Series(dtype=float) for key in columns}
    error = told["budget_error"] * _PERCENT
    values = (
        error.median(),
        max(error, key=abs, default=math.nan),
        told["ratio_gap"].max(),
        *(told["val_accuracy"].mean(), told["val_accuracy"].std()),
        *(told["val_nll"].mean(), told["val_nll"].std()),
    )
    return dict(zip(_FIGURES, map(float, values), strict=True))
