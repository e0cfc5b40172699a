"""Input-dependent ratios: a predictor per block, with their mean cost kept at the budget."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.space.cost.learned_blocks import BlockIndex, LearnedBlock
from partialnas.space.nn.dpconv import InputDependentMixer

_GAIN = 0.1  # change of the multiplier per step
_REACH = 8.0  # range of multipliers that the final calibration searches, each way
_HALVINGS = 12

OptionIndices = Mapping[BlockIndex, Tensor]
"""For each block, the position of each image's sizes in the options of the mixer."""


class InputDependentLearner(RatioLearner):
    """Shifts all predictors by one multiplier until the mean cost of the images is the budget."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        blocks = self.learned_blocks
        self._costs = {block.block_index: self._option_costs(block) for block in blocks}
        self._initial_offset = {block.block_index: self._first_offset(block) for block in blocks}
        starts = [tuple(map(int, self.initial_sizes[block.block_index])) for block in blocks]
        self._used = float(sum(b.costs[start] for b, start in zip(blocks, starts, strict=True)))
        self._set_multiplier(0.0)

    def _option_costs(self, block: LearnedBlock) -> Tensor:
        mixer: InputDependentMixer = self.mixers[block.block_index]
        costs = [float(block.costs[option]) for option in mixer.options]
        return torch.tensor(costs, device=next(mixer.predictor.parameters()).device)

    def _first_offset(self, block: LearnedBlock) -> float:
        """Return the logit of the initial size."""
        initial = self.initial_sizes[block.block_index]
        sizes = [block.learned_sizes(option)[0] for option in block.options]
        start, low, high = block.learned_sizes(initial)[0], min(sizes), max(sizes)
        share = min(max((start - low) / max(high - low, 1), 0.02), 0.98)
        return math.log(share / (1 - share))

    def _set_multiplier(self, multiplier: float) -> None:
        self.multiplier = multiplier
        for block_index, mixer in self.mixers.items():
            mixer.logit_offset = self._initial_offset[block_index] - multiplier

    def _update_boundaries(self, step: int) -> None:  # noqa: ARG002
        for mixer in self.mixers.values():
            mixer.predictor_trainable = True

    def _freeze(self) -> None:
        """Stop training the predictors; from now on they only follow the budget."""
        for mixer in self.mixers.values():
            mixer.predictor_trainable = False
        self.is_frozen = True

    def update_sizes(self, step: int, scale: float = 1.0) -> None:  # noqa: ARG002
        """Follow the budget after every step; the optimizer has already unscaled the gradients."""
        macs = self._mean_macs({index: m.option_indices for index, m in self.mixers.items()})
        parameters = (p for m in self.mixers.values() for p in m.predictor.parameters())
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.is_frozen_at(step) or not gradients:
            self._used = float(macs)
        else:
            total = nn.utils.get_total_norm(gradients)
            self._used, norm = torch.stack((macs, total.to(macs))).tolist()
            if math.isfinite(norm):
                self._record_gradients([norm])
        if self.budget_macs is not None:
            self._set_multiplier(self.multiplier + _GAIN * math.log(self._used / self.budget_macs))

    def _update_sizes(self, step: int, scale: float, count: int) -> None:
        """Do nothing: there are no boundaries that gradients move."""

    def _mean_macs(self, indices: OptionIndices) -> Tensor:
        costs = ((self._costs[block_index], index) for block_index, index in indices.items())
        means = [cost.to(index.device)[index].mean() for cost, index in costs]
        return torch.stack(means).sum()

    def mean_macs(self, indices: OptionIndices) -> float:
        """Return the mean multiply-accumulates of the mixers with these sizes."""
        return float(self._mean_macs(indices))

    def record_sizes(self, indices: OptionIndices) -> None:
        """Set the sizes of the blocks to the means of these images."""
        for block in self.learned_blocks:
            mixer: InputDependentMixer = self.mixers[block.block_index]
            options = torch.tensor(mixer.options, dtype=torch.float64)
            sizes: Sequence[float] = options[indices[block.block_index].cpu()].mean(0).tolist()
            self._set_sizes(block, sizes, 0)

    def used_macs(self) -> float:
        """Return the mean multiply-accumulates of the learned mixers over the last images."""
        return self._used

    def calibrate(self, choose: Callable[[], OptionIndices]) -> None:
        """Find the smallest multiplier with which the images cost at most the budget.

        Args:
            choose: function that runs the network over the images to calibrate on.
        """
        if self.budget_macs is None:
            self._used = self.mean_macs(choose())
            return
        low, high = self.multiplier - _REACH, self.multiplier + _REACH
        best = high, math.inf
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            self._set_multiplier(middle)
            used = self.mean_macs(choose())
            if used > self.budget_macs:
                low = middle
            else:
                high, best = middle, (middle, used)
        self._set_multiplier(best[0])
        self._used = self.mean_macs(choose())

    def state_dict(self) -> dict[str, Any]:
        """See `RatioLearner.state_dict`."""
        return super().state_dict() | {"used": self._used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `RatioLearner.load_state_dict`."""
        super().load_state_dict(state)
        self._used = float(state["used"])
        self._set_multiplier(self.multiplier)
