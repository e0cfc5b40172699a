"""What learned ratios of several seeds have in common, and when and how steadily they come."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.plotting.axes import Floats
from partialnas.analysis.ratios.tables import SERIES_COLUMNS, final_ratios, freeze_epoch

_OF_TRIAL = ["trial", *SERIES_COLUMNS, "seed"]
_LATE = 5  # the last one of so many shares of learning
_LEAST_PROGRESS = 1.0  # channels; less than one is none
_CLOSE = 1e-9


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """How far the seeds of each series end with the same ratios; one row per series.

    Every pair of seeds is compared over the layers: `pearson` and `spearman` are the means of the
    correlations of their ratios, `difference_channels` is the mean of the absolute differences.
    A correlation is not defined where all layers of a seed have the same ratio; `pairs` is how
    many are, and without any the means are empty. `sd_layers` is the standard deviation (n − 1)
    over the layers of the mean ratio, `sd_seeds` that over the seeds, root mean square over the
    layers: ratios tell layers apart where the first is well above the second. `seeds` and `layers`
    say over how many.

    Args:
        table: as `load_ratios` gives it.
    """
    final = final_ratios(table)
    rows = [
        dict(zip(SERIES_COLUMNS, key, strict=True)) | _compared(seeds)
        for key, seeds in final.groupby(SERIES_COLUMNS, sort=False)
    ]
    numbers = ("seeds", "layers", "pairs", "pearson", "spearman", "difference_channels")
    return pd.DataFrame(rows, columns=[*SERIES_COLUMNS, *numbers, "sd_layers", "sd_seeds"])


def _compared(seeds: pd.DataFrame) -> dict[str, float]:
    ratios, channels = (_matrix(seeds, "trial", value) for value in ("ratio", "channels"))
    pairs = list(combinations(range(len(ratios)), 2))
    defined = [correlations(ratios[i], ratios[j]) for i, j in pairs if _both_vary(ratios, i, j)]
    pearson, spearman = np.mean(defined, axis=0) if defined else (math.nan, math.nan)
    apart = [np.abs(channels[i] - channels[j]).mean() for i, j in pairs]
    several_seeds, several_layers = len(ratios) > 1, ratios.shape[1] > 1
    over_seeds = np.sqrt(ratios.var(axis=0, ddof=1).mean()) if several_seeds else math.nan
    over_layers = ratios.mean(axis=0).std(ddof=1) if several_layers else math.nan
    return {
        "seeds": len(ratios),
        "layers": ratios.shape[1],
        "pairs": len(defined),
        "pearson": float(pearson),
        "spearman": float(spearman),
        "difference_channels": float(np.mean(apart)) if apart else math.nan,
        "sd_layers": float(over_layers),
        "sd_seeds": float(over_seeds),
    }


def correlations(one: Floats, other: Floats) -> tuple[float, float]:
    """Pearson's and Spearman's correlation of two vectors that are not constant."""
    from scipy.stats import pearsonr, spearmanr  # takes a second

    return float(pearsonr(one, other).statistic), float(spearmanr(one, other).statistic)


def _both_vary(ratios: Floats, *rows: int) -> bool:
    return all(np.ptp(ratios[row]) > _CLOSE for row in rows)


def convergence(table: pd.DataFrame, within: float | None = None) -> pd.DataFrame:
    """When the ratios of each trial that counts came to rest, and how steadily; one row per trial.

    `convergence_epoch` is the first epoch from which every ratio stays near its final value.
    `oscillation` is the way that all boundaries went in the last fifth of the epochs in which they
    learned, there and back, over the way that they came forward in it (at least one channel): 1 is
    steady, 0 at rest, and empty where they learned for a single epoch.

    Args:
        table: as `load_ratios` gives it.
        within: channels that are near; each boundary's grain without it.
    """
    rows = [
        dict(zip(_OF_TRIAL, key, strict=True)) | _course(history, within)
        for key, history in table[table["counts"]].groupby(_OF_TRIAL, sort=False)
    ]
    return pd.DataFrame(rows, columns=[*_OF_TRIAL, "epochs", "convergence_epoch", "oscillation"])


def _course(history: pd.DataFrame, within: float | None) -> dict[str, float]:
    channels = _matrix(history, "epoch", "channels")
    epochs = np.sort(history["epoch"].unique())
    grains = _matrix(history, "epoch", "grain")[-1] if within is None else within
    far = (np.abs(channels - channels[-1]) > grains + _CLOSE).any(axis=1)
    frozen = freeze_epoch(history)
    learned = channels if frozen is None else channels[epochs < frozen]
    return {
        "epochs": int(epochs[-1]),
        "convergence_epoch": int(epochs[far.nonzero()[0][-1] + 1 if far.any() else 0]),
        "oscillation": _oscillation(learned),
    }


def _oscillation(learned: Floats) -> float:
    late = learned[-math.ceil(len(learned) / _LATE) - 1 :]
    if len(late) < 2:
        return math.nan
    way = np.abs(np.diff(late, axis=0)).sum()
    forward = np.abs(late[-1] - late[0]).sum()
    return float(way / max(forward, _LEAST_PROGRESS))


def _matrix(rows: pd.DataFrame, down: str, value: str) -> Floats:
    """One row per trial or epoch, one column per boundary."""
    where: Any = ["stage", "block", "part"]
    matrix: Floats = rows.pivot(index=down, columns=where, values=value).to_numpy(float)
    return matrix
