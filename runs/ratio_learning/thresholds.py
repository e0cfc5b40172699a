"""Learned thresholds: one continuous size per learned part, projected to the budget."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import fmean
from typing import Any, NamedTuple

import torch

from partialnas.runs.ratio_learning.learner import RatioLearner, cost_polynomials, evaluate_costs
from partialnas.space.cost.learned_blocks import LearnedBlock
from partialnas.space.nn.dpconv import Boundaries, LearnedMixer, set_boundaries

_TRAVEL = 3.0  # widths that a boundary can move in all steps together
_MOMENTUM = 0.9
_SCALE_MOMENTUM = 0.98
_WIDEST_RAMP = 0.25  # initial ramp as a share of the width
_TOLERANCE = 1e-3  # accuracy of a projection, as a share of the budget
_PROJECTIONS = 12


class _Layout(NamedTuple):
    """Facts of a block that every step uses.

    Attributes:
        width: channels of the block.
        learned: positions of the learned parts.
        start: initial channels of all parts but the last, which has what remains.
        grain: smallest share of a learned part.
        room: share that the learned parts have together at most.
        polynomials: coefficients of the cost of each part.
    """

    width: int
    learned: tuple[int, ...]
    start: list[float]
    grain: float
    room: float
    polynomials: list[tuple[float, float]]

    @classmethod
    def of(cls, block: LearnedBlock) -> "_Layout":
        width, learned, start = block.block.width, block.learning.parts, block.start[:-1]
        fixed = sum(size for part, size in enumerate(start) if part not in learned)
        room = (width - fixed - block.block.parts[-1].heads) / width
        grain = block.learning.grain / width
        return cls(width, learned, [*map(float, start)], grain, room, cost_polynomials(block))


class ThresholdLearner(RatioLearner):
    """One continuous size per learned part.

    Gradients reach a boundary through a ramp that narrows during training. Each step moves along
    the surface of equal cost and is projected back to the budget. In the end a knapsack over legal
    sizes finds those within the budget. `multiplier` is a running estimate of the decrease of the
    loss per doubling of the budget, from its gradient.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._layouts = [_Layout.of(block) for block in self.learned_blocks]
        self._momentum = [0.0 for block in self.learned_blocks for _ in block.learning.parts]
        self._scale = 0.0
        self._steps_taken = 0

    def _update_boundaries(self, step: int) -> None:
        set_boundaries(
            [
                (mixer, Boundaries(self.sizes[block_index], self.ramp(step, mixer.width)))
                for block_index, mixer in self.mixers.items()
            ]
        )

    def ramp(self, step: int, width: int) -> float:
        """Return the channels over which a boundary is soft: from a quarter of the width to 1."""
        widest = max(_WIDEST_RAMP * width, 1.0)
        return float(widest ** (1 - step / self.freeze_step))

    def _update_sizes(self, step: int, scale: float, count: int) -> None:
        gradients = [gradient / (scale * count) for gradient in self._gradients()]
        if not all(map(math.isfinite, gradients)):
            return
        self._record_gradients(gradients)
        blocks = self.learned_blocks
        shares = [size / b.block.width for b in blocks for size in self.learned_sizes(b)]
        if self.budget_macs is not None:
            slopes = self._slopes(shares)
            price = -_across(gradients, slopes) * self.budget_macs
            self.multiplier += (1 - _MOMENTUM**count) * (price - self.multiplier)
            gradients = _along(gradients, slopes)
        moves = self._moves(gradients, step, count)
        moved = [share - move for share, move in zip(shares, moves, strict=True)]
        moved_sizes = self._block_sizes(self._projected(moved))
        for block, sizes in zip(blocks, moved_sizes, strict=True):
            self._set_sizes(block, sizes, step)

    def _gradients(self) -> list[float]:
        """Return the gradients of the loss with respect to the learned shares of the widths."""
        blocks = self.learned_blocks
        flat = torch.cat([self._shares_gradient(block).flatten() for block in blocks]).tolist()
        rows: list[float] = []
        start = 0
        for block in blocks:
            mixer: LearnedMixer = self.mixers[block.block_index]
            ends = []
            for end in accumulate(mixer.sizes[:-1]):
                low = max(math.floor(end - mixer.ramp / 2 - 0.5) + 1, 0)
                high = min(math.ceil(end + mixer.ramp / 2 - 0.5), mixer.width)
                ends.append(sum(flat[start + low : start + high]) * mixer.width / mixer.ramp)
                start += mixer.width
            rows += [sum(ends[position:]) for position in block.learning.parts]
        return rows

    def _moves(self, gradients: Sequence[float], step: int, count: int) -> list[float]:
        """Return moves with momentum on a common scale, so that larger gradients move more.

        Gradients are means over `count` steps, and momenta decay as over that many. Where noise
        prevails, the scale of means is smaller by the root of `count`. With the root in the rate as
        well, boundaries go about as far as with a move in every step.
        """
        self._steps_taken += count
        momentum, scale_momentum = _MOMENTUM**count, _SCALE_MOMENTUM**count
        square = fmean(gradient * gradient for gradient in gradients)
        self._scale = scale_momentum * self._scale + (1 - scale_momentum) * square
        pairs = zip(self._momentum, gradients, strict=True)
        self._momentum = [momentum * before + (1 - momentum) * new for before, new in pairs]
        scale = math.sqrt(self._scale / (1 - _SCALE_MOMENTUM**self._steps_taken)) + 1e-12
        fading = 0.5 * (1 + math.cos(math.pi * step / self.freeze_step)) * math.sqrt(count)
        rate = _TRAVEL / self.freeze_step * fading / (1 - _MOMENTUM**self._steps_taken) / scale
        return [rate * momentum for momentum in self._momentum]

    def _projected(self, shares: Sequence[float]) -> list[float]:
        """Move the shares along the gradient of the cost until they meet the budget."""
        clipped = self._clipped(shares)
        if self.budget_macs is None:
            return clipped
        held = [False] * len(clipped)
        for _ in range(_PROJECTIONS):
            excess = self._macs(clipped) - self.budget_macs
            if abs(excess) <= _TOLERANCE * self.budget_macs:
                break
            slopes = self._slopes(clipped)
            direction = [0.0 if fixed else s for s, fixed in zip(slopes, held, strict=True)]
            if not sum(slope * slope for slope in direction):
                break
            targets = self._onto_budget(clipped, direction, excess)
            clipped = self._clipped(targets)
            # Shares at an end of their range are held; the others move on.
            ends = zip(clipped, targets, held, strict=True)
            held = [fixed or abs(share - target) > 1e-9 for share, target, fixed in ends]
        return clipped

    def _onto_budget(
        self, shares: Sequence[float], direction: Sequence[float], excess: float
    ) -> list[float]:
        """Move the shares against a direction until the excess over the budget is gone.

        The cost is a parabola along a line. A step by its slope, which may be far too long, gives
        the curvature.
        """
        step = excess / sum(slope * slope for slope in direction)
        trial = [share - step * slope for share, slope in zip(shares, direction, strict=True)]
        bend = (self._macs(trial) - (self.budget_macs or 0)) / excess
        step *= 2 / (1 + math.sqrt(max(1 - 4 * bend, 0.0)))
        return [share - step * slope for share, slope in zip(shares, direction, strict=True)]

    def _clipped(self, shares: Sequence[float]) -> list[float]:
        """Clip the shares: each is at least the grain, together they fit in the room left."""
        clipped: list[float] = []
        remaining = iter(shares)
        for layout in self._layouts:
            block_shares = [max(next(remaining), layout.grain) for _ in layout.learned]
            scale = min(layout.room / sum(block_shares), 1.0)
            clipped += [share * scale for share in block_shares]
        return clipped

    def _macs(self, shares: Sequence[float]) -> float:
        return sum(
            evaluate_costs(layout.polynomials, sizes)
            for layout, sizes in zip(self._layouts, self._block_sizes(shares), strict=True)
        )

    def _slopes(self, shares: Sequence[float]) -> list[float]:
        """Return the derivatives of the cost with respect to the learned shares."""
        slopes: list[float] = []
        for layout, sizes in zip(self._layouts, self._block_sizes(shares), strict=True):
            (square, linear), last = layout.polynomials[-1], sizes[-1]
            by_last = 2 * square * last + linear
            for part in layout.learned:
                square, linear = layout.polynomials[part]
                slopes.append(layout.width * (2 * square * sizes[part] + linear - by_last))
        return slopes

    def _block_sizes(self, shares: Sequence[float]) -> list[list[float]]:
        """Return the sizes of the parts of each block."""
        remaining = iter(shares)
        blocks: list[list[float]] = []
        for layout in self._layouts:
            sizes = [*layout.start]
            for part in layout.learned:
                sizes[part] = next(remaining) * layout.width
            sizes.append(max(layout.width - sum(sizes), 0.0))
            blocks.append(sizes)
        return blocks

    def state_dict(self) -> dict[str, Any]:
        """See `RatioLearner.state_dict`."""
        moments = {"momentum": self._momentum, "scale": self._scale, "taken": self._steps_taken}
        return super().state_dict() | moments

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `RatioLearner.load_state_dict`."""
        super().load_state_dict(state)
        self._momentum, self._scale = list(state["momentum"]), state["scale"]
        self._steps_taken = state["taken"]


def _across(gradients: Sequence[float], slopes: Sequence[float]) -> float:
    """Return the gradient of the loss with respect to the cost."""
    square = sum(slope * slope for slope in slopes)
    return sum(g * slope for g, slope in zip(gradients, slopes, strict=True)) / (square or 1)


def _along(gradients: Sequence[float], slopes: Sequence[float]) -> list[float]:
    """Remove from the gradients the component across the surface of equal cost."""
    across = _across(gradients, slopes)
    return [g - across * slope for g, slope in zip(gradients, slopes, strict=True)]
