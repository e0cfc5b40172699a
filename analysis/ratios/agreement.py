"""Agreement of learned ratios between seeds, and their convergence during training."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.ratios.tables import SERIES_COLUMNS, final_ratios, freeze_epoch

_TRIAL_COLUMNS = ["trial", *SERIES_COLUMNS, "seed"]
_LATE_FRACTION = 5  # oscillation is measured in the last fifth of the epochs
_MIN_PROGRESS = 1.0  # channels
_TOLERANCE = 1e-9


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Return how well the final ratios of the seeds of each series agree, one row per series.

    Every pair of seeds is compared over the layers. `pearson` and `spearman` are mean correlations
    of the ratios, and `difference_channels` is the mean absolute difference. A correlation is
    undefined if all layers of a seed have the same ratio; `pairs` is the number of defined ones,
    and the means are missing without any. `sd_layers` is the standard deviation (n − 1) over layers
    of the mean ratio; `sd_seeds` is that over seeds, as root mean square over layers. Ratios
    distinguish layers if the first is well above the second. `seeds` and `layers` are their
    numbers.

    Args:
        table: ratios, as returned by `load_ratios`.
    """
    final = final_ratios(table)
    rows = [
        dict(zip(SERIES_COLUMNS, key, strict=True)) | _compare(seeds)
        for key, seeds in final.groupby(SERIES_COLUMNS, sort=False)
    ]
    numbers = ("seeds", "layers", "pairs", "pearson", "spearman", "difference_channels")
    return pd.DataFrame(rows, columns=[*SERIES_COLUMNS, *numbers, "sd_layers", "sd_seeds"])


def _compare(seeds: pd.DataFrame) -> dict[str, float]:
    ratios, channels = (_matrix(seeds, "trial", value) for value in ("ratio", "channels"))
    pairs = list(combinations(range(len(ratios)), 2))
    defined = [correlations(ratios[i], ratios[j]) for i, j in pairs if _both_vary(ratios, i, j)]
    pearson, spearman = np.mean(defined, axis=0) if defined else (math.nan, math.nan)
    differences = [np.abs(channels[i] - channels[j]).mean() for i, j in pairs]
    several_seeds, several_layers = len(ratios) > 1, ratios.shape[1] > 1
    over_seeds = np.sqrt(ratios.var(axis=0, ddof=1).mean()) if several_seeds else math.nan
    over_layers = ratios.mean(axis=0).std(ddof=1) if several_layers else math.nan
    return {
        "seeds": len(ratios),
        "layers": ratios.shape[1],
        "pairs": len(defined),
        "pearson": float(pearson),
        "spearman": float(spearman),
        "difference_channels": float(np.mean(differences)) if differences else math.nan,
        "sd_layers": float(over_layers),
        "sd_seeds": float(over_seeds),
    }


def correlations(left: Floats, right: Floats) -> tuple[float, float]:
    """Return Pearson's and Spearman's correlation of two vectors that are not constant."""
    from scipy.stats import pearsonr, spearmanr  # slow to import

    return float(pearsonr(left, right).statistic), float(spearmanr(left, right).statistic)


def _both_vary(ratios: Floats, *rows: int) -> bool:
    return all(np.ptp(ratios[row]) > _TOLERANCE for row in rows)


def convergence(table: pd.DataFrame, within: float | None = None) -> pd.DataFrame:
    """Return when and how steadily the ratios of each trial that counts converged.

    The table has one row per trial. `convergence_epoch` is the first epoch from which every ratio
    stays near its final value. `oscillation` is the total movement of all boundaries in the last
    fifth of the epochs in which they learned, divided by their net movement (at least one channel):
    1 is steady, 0 is no movement. It is missing if they learned for a single epoch.

    Args:
        table: ratios, as returned by `load_ratios`.
        within: number of channels that is near; by default the grain of each boundary.
    """
    rows = [
        dict(zip(_TRIAL_COLUMNS, key, strict=True)) | _convergence(history, within)
        for key, history in table[table["counts"]].groupby(_TRIAL_COLUMNS, sort=False)
    ]
    columns = [*_TRIAL_COLUMNS, "epochs", "convergence_epoch", "oscillation"]
    return pd.DataFrame(rows, columns=columns)


def _convergence(history: pd.DataFrame, within: float | None) -> dict[str, float]:
    channels = _matrix(history, "epoch", "channels")
    epochs = np.sort(history["epoch"].unique())
    grains = _matrix(history, "epoch", "grain")[-1] if within is None else within
    far = (np.abs(channels - channels[-1]) > grains + _TOLERANCE).any(axis=1)
    frozen = freeze_epoch(history)
    learned = channels if frozen is None else channels[epochs < frozen]
    return {
        "epochs": int(epochs[-1]),
        "convergence_epoch": int(epochs[far.nonzero()[0][-1] + 1 if far.any() else 0]),
        "oscillation": _oscillation(learned),
    }


def _oscillation(learned: Floats) -> float:
    late = learned[-math.ceil(len(learned) / _LATE_FRACTION) - 1 :]
    if len(late) < 2:
        return math.nan
    total = np.abs(np.diff(late, axis=0)).sum()
    net = np.abs(late[-1] - late[0]).sum()
    return float(total / max(net, _MIN_PROGRESS))


def _matrix(rows: pd.DataFrame, down: str, value: str) -> Floats:
    """Return a matrix with one row per trial or epoch and one column per boundary."""
    boundary: Any = ["stage", "block", "part"]
    return np.asarray(rows.pivot(index=down, columns=boundary, values=value).to_numpy(float))
