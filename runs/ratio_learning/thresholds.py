"""Learned thresholds: one continuous size per learned part, projected onto the budget."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from statistics import fmean
from typing import Any

import torch

from partialnas.runs.ratio_learning.learner import (
    RatioLearner,
    cost_polynomials,
    evaluate_polynomials,
)
from partialnas.space.cost.learned_blocks import LearnedBlock
from partialnas.space.nn.dpconv import LearnedMixer

_TRAVEL = 3.0  # how many widths a boundary could move while it learns, going one way all the time
_MOMENTUM = 0.9
_SCALE_MOMENTUM = 0.98
_WIDEST_RAMP = 0.25  # of the width, when learning begins
_TOLERANCE = 1e-3  # of the budget, to which a projection is exact
_PROJECTIONS = 12


class ThresholdLearner(RatioLearner):
    """One continuous size per learned part.

    The gradient of the loss with respect to a boundary comes through a ramp that narrows while the
    training runs. Every step goes along the surface of equal cost and is projected back onto the
    budget; in the end a knapsack over legal sizes takes those below it. `multiplier` is what the
    loss would fall by for a budget twice as large, by its gradient of late.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._polynomials = {slot.block_index: cost_polynomials(slot) for slot in self.learned_blocks}
        self._momentum = [0.0 for slot in self.learned_blocks for _ in slot.learning.parts]
        self._scale = 0.0
        self._taken = 0

    def _update_boundaries(self, step: int) -> None:
        for slot in self.learned_blocks:
            ramp = self.ramp(step, slot.block.width)
            self.mixers[slot.block_index].set_sizes(self.sizes[slot.block_index], ramp)

    def ramp(self, step: int, width: int) -> float:
        """Channels over which a boundary is soft: from a quarter of the width down to one."""
        widest = max(_WIDEST_RAMP * width, 1.0)
        return float(widest ** (1 - step / self.freeze_step))

    def update_sizes(self, step: int, scale: float = 1.0) -> None:
        """See `RatioLearner.learn`; a gradient that is no number moves nothing."""
        if self.is_frozen_at(step):
            return
        gradients = [gradient / scale for gradient in self._gradients()]
        if not all(map(math.isfinite, gradients)):
            return
        self._record_gradients(gradients)
        shares = [
            size / slot.block.width
            for slot in self.learned_blocks
            for size in slot.learned_sizes(self.sizes[slot.block_index])
        ]
        if self.budget_macs is not None:
            slopes = self._slopes(shares)
            price = -_across(gradients, slopes) * self.budget_macs
            self.multiplier += (1 - _MOMENTUM) * (price - self.multiplier)
            gradients = _along(gradients, slopes)
        moves = self._moves(gradients, step)
        moved = [share - move for share, move in zip(shares, moves, strict=True)]
        for slot, sizes in self._divided(self._projected(moved)):
            self._set_sizes(slot, sizes, step)

    def _gradients(self) -> list[float]:
        """Of the loss with respect to each learned share of a width."""
        mixers: list[LearnedMixer] = [self.mixers[slot.block_index] for slot in self.learned_blocks]
        every = torch.cat([_gradient(mixer).flatten() for mixer in mixers]).tolist()
        rows: list[float] = []
        start = 0
        for slot, mixer in zip(self.learned_blocks, mixers, strict=True):
            ends = []
            for end in accumulate(mixer.sizes[:-1]):
                low = max(math.floor(end - mixer.ramp / 2 - 0.5) + 1, 0)
                high = min(math.ceil(end + mixer.ramp / 2 - 0.5), mixer.width)
                ends.append(sum(every[start + low : start + high]) * mixer.width / mixer.ramp)
                start += mixer.width
            rows += [sum(ends[position:]) for position in slot.learning.parts]
        return rows

    def _moves(self, gradients: Sequence[float], step: int) -> list[float]:
        """Steps with momentum, all on one scale, so that what matters more moves more."""
        self._taken += 1
        square = fmean(gradient * gradient for gradient in gradients)
        self._scale = _SCALE_MOMENTUM * self._scale + (1 - _SCALE_MOMENTUM) * square
        self._momentum = [
            _MOMENTUM * before + (1 - _MOMENTUM) * gradient
            for before, gradient in zip(self._momentum, gradients, strict=True)
        ]
        scale = math.sqrt(self._scale / (1 - _SCALE_MOMENTUM**self._taken)) + 1e-12
        fading = 0.5 * (1 + math.cos(math.pi * step / self.freeze_step))
        rate = _TRAVEL / self.freeze_step * fading / (1 - _MOMENTUM**self._taken) / scale
        return [rate * momentum for momentum in self._momentum]

    def _projected(self, shares: Sequence[float]) -> list[float]:
        """The shares moved along the gradient of the cost until they cost what is allowed."""
        inside = self._clipped(shares)
        if self.budget_macs is None:
            return inside
        stuck = [False] * len(inside)
        for _ in range(_PROJECTIONS):
            excess = self._spent(inside) - self.budget_macs
            if abs(excess) <= _TOLERANCE * self.budget_macs:
                break
            slopes = self._slopes(inside)
            free = sum(s * s for s, held in zip(slopes, stuck, strict=True) if not held)
            if not free:
                break
            ways = [0.0 if held else slope for slope, held in zip(slopes, stuck, strict=True)]
            aims = self._onto_budget(inside, ways, excess)
            inside = self._clipped(aims)
            # what has met an end of its range leaves the rest to the others
            stuck = [
                held or abs(share - aim) > 1e-9
                for share, aim, held in zip(inside, aims, stuck, strict=True)
            ]
        return inside

    def _onto_budget(
        self, shares: Sequence[float], ways: Sequence[float], excess: float
    ) -> list[float]:
        """The shares moved along these ways, those of the slopes, by as much as the excess asks.

        The cost is a parabola along a line. A step by its slope alone shows how it bends, and would
        be far too long where it is flat.
        """
        step = excess / sum(way * way for way in ways)
        tried = [share - step * way for share, way in zip(shares, ways, strict=True)]
        bend = (self._spent(tried) - (self.budget_macs or 0)) / excess
        step *= 2 / (1 + math.sqrt(max(1 - 4 * bend, 0.0)))
        return [share - step * way for share, way in zip(shares, ways, strict=True)]

    def _clipped(self, shares: Sequence[float]) -> list[float]:
        """Shares within what is legal: at least the grain each, at most what is left together."""
        clipped: list[float] = []
        remaining = iter(shares)
        for slot in self.learned_blocks:
            width, grain = slot.block.width, slot.learning.grain
            own = [next(remaining) for _ in slot.learning.parts]
            fixed = sum(
                size for i, size in enumerate(slot.start[:-1]) if i not in slot.learning.parts
            )
            room = (width - fixed - slot.block.parts[-1].heads) / width
            own = [max(share, grain / width) for share in own]
            scale = min(room / sum(own), 1.0)
            clipped += [share * scale for share in own]
        return clipped

    def _spent(self, shares: Sequence[float]) -> float:
        return sum(
            evaluate_polynomials(self._polynomials[slot.block_index], sizes)
            for slot, sizes in self._divided(shares)
        )

    def _slopes(self, shares: Sequence[float]) -> list[float]:
        """The derivative of the cost by each learned share."""
        slopes: list[float] = []
        for slot, sizes in self._divided(shares):
            by_size = [
                2 * square * size + linear
                for (square, linear), size in zip(self._polynomials[slot.block_index], sizes, strict=True)
            ]
            slopes += [
                slot.block.width * (by_size[position] - by_size[-1])
                for position in slot.learning.parts
            ]
        return slopes

    def _divided(self, shares: Sequence[float]) -> Iterable[tuple[LearnedBlock, list[float]]]:
        remaining = iter(shares)
        for slot in self.learned_blocks:
            sizes = [float(size) for size in slot.start]
            for position in slot.learning.parts:
                sizes[position] = next(remaining) * slot.block.width
            sizes[-1] = max(slot.block.width - sum(sizes[:-1]), 0.0)
            yield slot, sizes

    def state_dict(self) -> dict[str, Any]:
        """See `RatioLearner.state`."""
        moments = {"momentum": self._momentum, "scale": self._scale, "taken": self._taken}
        return super().state_dict() | moments

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `RatioLearner.restore`."""
        super().load_state_dict(state)
        self._momentum, self._scale = list(state["momentum"]), state["scale"]
        self._taken = state["taken"]


def _gradient(mixer: LearnedMixer) -> torch.Tensor:
    gradient = mixer.shares.grad
    return torch.zeros_like(mixer.shares) if gradient is None else gradient


def _across(gradients: Sequence[float], slopes: Sequence[float]) -> float:
    """The gradient of the loss with respect to what is spent."""
    square = sum(slope * slope for slope in slopes)
    return sum(g * slope for g, slope in zip(gradients, slopes, strict=True)) / (square or 1)


def _along(gradients: Sequence[float], slopes: Sequence[float]) -> list[float]:
    """Gradients without what they have across the surface of equal cost."""
    across = _across(gradients, slopes)
    return [g - across * slope for g, slope in zip(gradients, slopes, strict=True)]
