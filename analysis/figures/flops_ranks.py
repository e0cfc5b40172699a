"""Disagreement between MACs and measured speed, in the ranking and in pairs of networks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from partialnas.analysis.figures.base import network_labels
from partialnas.analysis.frames.arrays import Floats
from partialnas.analysis.stats.rank_correlation import KendallTau, kendall_tau
from partialnas.space.errors import UserError

Pairs = npt.NDArray[np.int64]

MAX_RANKED_NETWORKS = 300
"""Maximum number of ranked networks; of more, a subset spread evenly over MACs is ranked."""


@dataclass(frozen=True, kw_only=True)
class FlopsRanks:
    """Agreement of a study's rankings by MACs and by speed.

    Attributes:
        tau: Kendall's tau-b between MACs and time per image; 1 if fewer MACs are always faster.
        networks: number of networks with both values.
        discordant_share: share of pairs that MACs order wrongly, among pairs whose intervals of
            speed do not overlap.
        pairs: pairs that MACs order most wrongly, worst first: `fewer` and `more` (names of the
            networks), `macs_ratio` (more to fewer, above 1) and `speed_ratio` (speed of the network
            with more MACs relative to the other, above 1).
    """

    tau: KendallTau
    networks: int
    discordant_share: float
    pairs: pd.DataFrame


def flops_ranks(frame: pd.DataFrame, most_pairs: int = 5) -> FlopsRanks:
    """Compare the ranking by MACs with the ranking by measured throughput.

    Args:
        frame: trials of one study, as `load` returns them.
        most_pairs: maximum number of discordant pairs to return.

    Raises:
        UserError: fewer than two networks have been timed.
    """
    rows = frame[frame["macs"].notna() & frame["throughput_img_s"].notna()]
    rows = rows.drop_duplicates("digest").sort_values("macs", kind="stable")
    if len(rows) < 2:
        raise UserError(
            f"{len(rows)} networks have been timed, but a ranking needs two: search with "
            "throughput_img_s as an objective, or state `measure:`"
        )
    networks = len(rows)
    places = np.linspace(0, networks - 1, min(networks, MAX_RANKED_NETWORKS)).round()
    rows = rows.iloc[np.unique(places.astype(int))]
    macs, speed = rows["macs"].to_numpy(float), rows["throughput_img_s"].to_numpy(float)
    wrong, apart = _pairs(rows, macs, speed)
    return FlopsRanks(
        tau=kendall_tau([(macs, 1 / speed)]),
        networks=networks,
        discordant_share=float(len(wrong) / apart) if apart else float("nan"),
        pairs=_worst(rows, macs, speed, wrong, most_pairs),
    )


def _pairs(rows: pd.DataFrame, macs: Floats, speed: Floats) -> tuple[Pairs, int]:
    """Return pairs (fewer, more MACs) with disjoint intervals and the second network faster.

    Also return the number of all pairs with disjoint intervals.
    """
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
    ratios = {"macs_ratio": ratio[order], "speed_ratio": faster[order]}
    return pd.DataFrame({"fewer": names[one[order]], "more": names[other[order]], **ratios})
