"""Sequential seeds: as many as the differences of a study need, decided once (Stein 1945).

The first seeds of all arms tell how far seeds spread; from that alone follows how many are needed
for the intervals to be as narrow as is wanted. Intervals that keep this first spread with the means
of all seeds cover what they promise, which those of a rule that looks again and again do not.
"""

from collections.abc import Mapping, Sequence

from partialnas.analysis.stats.multiple_comparisons import compare, seeds_needed
from partialnas.runs.config.design import SequentialSeeds
from partialnas.search.study.sections import SeedRule

Values = Mapping[str, Mapping[int, float]]


def decide_seed_counts(
    rule: SeedRule,
    quantity: str,
    values: Values,
    pairs: Sequence[tuple[str, str]],
    same: Mapping[str, str],
) -> SequentialSeeds:
    """How many seeds each arm needs.

    Args:
        rule: what is wanted.
        quantity: that is compared.
        values: of the trials that are done, by arm and seed.
        pairs: each arm with the one that it is compared with.
        same: arms that share the trainings of another arm, which then count once.
    """
    first = range(rule.min)
    stage = {
        arm: {seed: value for seed, value in cells.items() if seed in first}
        for arm, cells in values.items()
    }
    found = compare(stage, pairs, same=same)
    needed = seeds_needed(found, rule.until, rule.max)
    return SequentialSeeds(
        quantity=quantity,
        min=rule.min,
        max=rule.max,
        until=rule.until,
        first_stage=tuple(first),
        deviation=found.deviation,
        degrees=found.degrees,
        critical=found.critical,
        method=found.method,
        seeds={arm: max(rule.min, needed.get(arm, rule.min)) for arm in values},
    )
