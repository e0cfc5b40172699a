"""Signs that the learning of ratios has failed, as sentences for readers."""

from collections.abc import Iterator, Sequence

from partialnas.runs.ratio_learning.learner import RatioLearner, mixer_macs
from partialnas.space.cost.learned_blocks import LearnedBlock, mac_range

_TAKES_ALL = 0.8  # of what is used, by one of at least three layers
_OVER_UNIFORM = 2.0  # times what the layer would use at a ratio common to all
_STILL = 0.5  # of a grain, that a boundary is away from its start at most if it does not move
_WANDERS = 10.0  # way that boundaries have gone, over what they have come forward
_DISAGREE = 1e-3  # difference of logits over the largest logit


def learning_warnings(learner: RatioLearner) -> list[str]:
    """What is wrong with the ratios at which learning ends."""
    slots = learner.learned_blocks
    return [
        *_extreme(learner, slots),
        *_takes_all(learner, slots),
        *_still(learner, slots),
        *_wandering(learner, slots),
    ]


def gap_warnings(gap: float) -> list[str]:
    """Whether the trained and the frozen form compute something different."""
    if gap <= _DISAGREE:
        return []
    return [f"the trained and the frozen form disagree: logits differ by {gap:.2g} of the largest"]


def _name(slot: LearnedBlock) -> str:
    return f"stage {slot.block_index[0] + 1}, block {slot.block_index[1] + 1}"


def _extreme(learner: RatioLearner, slots: Sequence[LearnedBlock]) -> Iterator[str]:
    if len(slots) < 2:
        return
    for word, end in (("smallest", 0), ("largest", -1)):
        if _forced(learner, slots, end):
            continue
        if all(slot.learned_sizes(learner.sizes[slot.block_index]) == _ends(slot)[end] for slot in slots):
            yield f"all layers have ended at their {word} ratio"


def _ends(slot: LearnedBlock) -> list[tuple[float, ...]]:
    """The sizes of the learned parts of all options, in order."""
    return sorted(map(slot.learned_sizes, slot.options))


def _forced(learner: RatioLearner, slots: Sequence[LearnedBlock], end: int) -> bool:
    """Whether the budget leaves no other choice, or is large enough for all that can be spent."""
    if learner.budget_macs is None:
        return False
    least, most = mac_range(slots)
    if end:
        return learner.budget_macs >= most
    steps = (
        min((cost - min(costs) for cost in costs if cost > min(costs)), default=0)
        for costs in (slot.costs.values() for slot in slots)
    )
    return learner.budget_macs < least + min(filter(None, steps), default=1)


def _takes_all(learner: RatioLearner, slots: Sequence[LearnedBlock]) -> Iterator[str]:
    if len(slots) < 3:
        return
    used = {slot.block_index: mixer_macs(slot, learner.sizes[slot.block_index]) for slot in slots}
    even = {slot.block_index: mixer_macs(slot, learner.initial_sizes[slot.block_index]) for slot in slots}
    for slot in slots:
        share = used[slot.block_index] / (sum(used.values()) or 1)
        common = even[slot.block_index] / (sum(even.values()) or 1)
        if share > _TAKES_ALL and share > _OVER_UNIFORM * common:
            yield f"{_name(slot)} takes {share:.0%} of what all learned layers use"


def _still(learner: RatioLearner, slots: Sequence[LearnedBlock]) -> Iterator[str]:
    if any(_forced(learner, slots, end) for end in (0, -1)):
        return
    if all(learner.max_displacement[slot.block_index] <= _STILL * slot.learning.grain for slot in slots):
        yield "no ratio has moved from where it started"


def _wandering(learner: RatioLearner, slots: Sequence[LearnedBlock]) -> Iterator[str]:
    for slot in slots:
        before = learner.late_sizes.get(slot.block_index)
        if before is None:
            continue
        path = learner.path_lengths[slot.block_index]
        forward = sum(
            abs(a - b)
            for a, b in zip(
                slot.learned_sizes(before), slot.learned_sizes(learner.sizes[slot.block_index]), strict=True
            )
        )
        if path > 2 * slot.learning.grain and path > _WANDERS * max(forward, 1.0):
            yield (
                f"{_name(slot)} has gone to and fro until its ratio was fixed: {path:.0f} channels "
                f"of way for {forward:.0f} in the last fifth of learning"
            )
