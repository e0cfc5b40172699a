"""Where multiply-accumulates and measured speed disagree: in the ranking, and pair by pair."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.figures.base import network_labels
from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.stats.rank_correlation import KendallTau, kendall_tau
from partialnas.space.errors import UserError

Pairs = npt.NDArray[np.int64]

MOST = 300
"""Networks that are ranked; of more, so many evenly over the order of MACs."""


@dataclass(frozen=True, kw_only=True)
class FlopsRanks:
    """How far a study's networks rank alike by multiply-accumulates and by speed.

    Attributes:
        tau: Kendall's tau-b between MACs and the time for an image; 1 where fewer are faster.
        networks: that have both.
        discordant_share: share of the pairs whose intervals of speed are apart that MACs order wrongly.
        pairs: the pairs that MACs order most wrongly, intervals apart, the worst first: `fewer` and
            `more` (what the networks are called), `macs_ratio` (of more to fewer, above 1) and
            `speed_ratio` (how much faster the one with more is, above 1).
    """

    tau: KendallTau
    networks: int
    discordant_share: float
    pairs: pd.DataFrame


def flops_ranks(frame: pd.DataFrame, most_pairs: int = 5) -> FlopsRanks:
    """Compares the ranking by MACs with that by measured throughput.

    Args:
        frame: the trials of one study, as `load` gives them.
        most_pairs: how many of the most discordant pairs are told.

    Raises:
        UserError: fewer than two networks have been timed.
    """
    rows = frame[frame["macs"].notna() & frame["throughput_img_s"].notna()]
    rows = rows.drop_duplicates("digest").sort_values("macs", kind="stable")
    if len(rows) < 2:
        raise UserError(
            f"{len(rows)} networks have been timed: a ranking needs two; search with "
            "throughput_img_s as an objective, or state `measure:`"
        )
    networks = len(rows)
    chosen = np.unique(np.linspace(0, networks - 1, min(networks, MOST)).round().astype(int))
    rows = rows.iloc[chosen]
    macs, speed = rows["macs"].to_numpy(float), rows["throughput_img_s"].to_numpy(float)
    wrong, apart = _pairs(rows, macs, speed)
    return FlopsRanks(
        tau=kendall_tau([(macs, 1 / speed)]),
        networks=networks,
        discordant_share=float(len(wrong) / apart) if apart else float("nan"),
        pairs=_worst(rows, macs, speed, wrong, most_pairs),
    )


def _pairs(rows: pd.DataFrame, macs: Floats, speed: Floats) -> tuple[Pairs, int]:
    """The pairs (fewer, more MACs) of which the second is surely faster; how many are sure."""
    relative = rows["relative_throughput"].to_numpy(float)
    low = speed * (rows["relative_low"].to_numpy(float) / relative)
    high = speed * (rows["relative_high"].to_numpy(float) / relative)
    low, high = np.where(np.isnan(low), speed, low), np.where(np.isnan(high), speed, high)
    one, other = np.triu_indices(len(rows), 1)
    differ = macs[one] < macs[other]
    apart = differ & ((low[one] > high[other]) | (low[other] > high[one]))
    wrong = apart & (low[other] > high[one])
    return np.column_stack([one[wrong], other[wrong]]), int(apart.sum())


def _worst(
    rows: pd.DataFrame, macs: Floats, speed: Floats, wrong: Pairs, most: int
) -> pd.DataFrame:
    one, other = wrong[:, 0], wrong[:, 1]
    ratio, faster = macs[other] / macs[one], speed[other] / speed[one]
    order = np.argsort(-np.log(ratio) * np.log(faster), kind="stable")[:most]
    names = network_labels(rows).to_numpy()
    return pd.DataFrame(
        {
            "fewer": names[one[order]],
            "more": names[other[order]],
            "macs_ratio": ratio[order],
            "speed_ratio": faster[order],
        }
    )
