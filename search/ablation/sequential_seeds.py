"""Two-stage choice of the number of seeds (Stein 1945).

The first seeds of all arms estimate the spread between seeds. This estimate alone determines how
many seeds are needed for confidence intervals of a given width. Intervals that use the first-stage
spread and the means of all seeds have their nominal coverage. A rule that tests repeatedly while
seeds are added does not.
"""

from collections.abc import Mapping, Sequence

from partialnas.analysis.stats.multiple_comparisons import compare, seeds_needed
from partialnas.runs.config.design import SequentialSeeds
from partialnas.search.study.sections import SeedRule


def decide_seed_counts(
    rule: SeedRule,
    quantity: str,
    values: Mapping[str, Mapping[int, float]],
    pairs: Sequence[tuple[str, str]],
    same: Mapping[str, str],
) -> SequentialSeeds:
    """Return the number of seeds that each arm needs.

    Args:
        rule: the study's seed rule.
        quantity: the quantity that is compared.
        values: values of the finished trials, by arm and seed.
        pairs: each arm and the arm that it is compared with.
        same: arms that share the trainings of another arm, by name; these count once.
    """
    first = range(rule.min)
    stage = {arm: {s: v for s, v in cells.items() if s in first} for arm, cells in values.items()}
    comparison = compare(stage, pairs, same=same)
    needed = seeds_needed(comparison, rule.until, rule.max)
    return SequentialSeeds(
        quantity=quantity,
        min=rule.min,
        max=rule.max,
        until=rule.until,
        first_stage=tuple(first),
        deviation=comparison.deviation,
        degrees=comparison.degrees,
        critical=comparison.critical,
        method=comparison.method,
        seeds={arm: max(rule.min, needed.get(arm, rule.min)) for arm in values},
    )
