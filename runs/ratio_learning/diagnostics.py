"""Warnings about ratio learning that may have failed."""

from collections.abc import Iterator, Sequence

from partialnas.runs.ratio_learning.learner import RatioLearner, mixer_macs, size_differences
from partialnas.space.cost.learned_blocks import LearnedBlock, mac_range

_DOMINANT = 0.8  # share of the multiply-accumulates in one of at least three layers
_OVER_UNIFORM = 2.0  # times its share at a ratio common to all layers
_UNMOVED = 0.5  # grains within which a boundary counts as not moved
_OSCILLATES = 10.0  # total movement of boundaries over their net movement
_MAX_GAP = 1e-3  # difference of logits over the largest logit


def learning_warnings(learner: RatioLearner) -> list[str]:
    """Return warnings about the ratios at the end of learning."""
    blocks = learner.learned_blocks
    return [
        *_extreme(learner, blocks),
        *_dominant(learner, blocks),
        *_unmoved(learner, blocks),
        *_oscillating(learner, blocks),
    ]


def gap_warnings(gap: float) -> list[str]:
    """Return a warning if the trained and the frozen form differ."""
    if gap <= _MAX_GAP:
        return []
    return [f"the trained and the frozen form differ: logits by {gap:.2g} of the largest logit"]


def _name(block: LearnedBlock) -> str:
    return f"stage {block.block_index[0] + 1}, block {block.block_index[1] + 1}"


def _extreme(learner: RatioLearner, blocks: Sequence[LearnedBlock]) -> Iterator[str]:
    if len(blocks) < 2:
        return
    for word, end in (("smallest", 0), ("largest", -1)):
        if _forced(learner, blocks, end):
            continue
        if all(learner.learned_sizes(block) == _ends(block)[end] for block in blocks):
            yield f"all layers ended at their {word} ratio"


def _ends(block: LearnedBlock) -> list[tuple[float, ...]]:
    """Return the sizes of the learned parts of all options, in ascending order."""
    return sorted(map(block.learned_sizes, block.options))


def _forced(learner: RatioLearner, blocks: Sequence[LearnedBlock], end: int) -> bool:
    """Return whether the budget allows only this end of the range, or all of it."""
    if learner.budget_macs is None:
        return False
    least, most = mac_range(blocks)
    if end:
        return learner.budget_macs >= most
    steps = (
        min((cost - min(costs) for cost in costs if cost > min(costs)), default=0)
        for costs in (block.costs.values() for block in blocks)
    )
    return learner.budget_macs < least + min(filter(None, steps), default=1)


def _dominant(learner: RatioLearner, blocks: Sequence[LearnedBlock]) -> Iterator[str]:
    if len(blocks) < 3:
        return
    used = [mixer_macs(block, learner.sizes[block.block_index]) for block in blocks]
    uniform = [mixer_macs(block, learner.initial_sizes[block.block_index]) for block in blocks]
    for block, macs, uniform_macs in zip(blocks, used, uniform, strict=True):
        share, common = macs / (sum(used) or 1), uniform_macs / (sum(uniform) or 1)
        if share > _DOMINANT and share > _OVER_UNIFORM * common:
            yield f"{_name(block)} uses {share:.0%} of the MACs of all learned layers"


def _unmoved(learner: RatioLearner, blocks: Sequence[LearnedBlock]) -> Iterator[str]:
    if any(_forced(learner, blocks, end) for end in (0, -1)):
        return
    if all(learner.max_displacement[b.block_index] <= _UNMOVED * b.learning.grain for b in blocks):
        yield "no ratio moved from its start"


def _oscillating(learner: RatioLearner, blocks: Sequence[LearnedBlock]) -> Iterator[str]:
    for block in blocks:
        before = learner.late_sizes.get(block.block_index)
        if before is None:
            continue
        path = learner.path_lengths[block.block_index]
        forward = sum(size_differences(block, before, learner.sizes[block.block_index]))
        if path > 2 * block.learning.grain and path > _OSCILLATES * max(forward, 1.0):
            yield (
                f"the ratio of {_name(block)} oscillated in the last fifth of learning: it moved "
                f"{path:.0f} channels in total, but {forward:.0f} from start to end"
            )
