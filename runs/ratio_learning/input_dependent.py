"""Learned predictors: a ratio for every image, their mean cost held at the budget."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.space.cost.learned_blocks import BlockIndex, LearnedBlock
from partialnas.space.nn.dpconv import InputDependentMixer

_GAIN = 0.1  # of the pressure of the budget, a step
_REACH = 8.0  # how far the last calibration looks for the pressure that meets the budget
_HALVINGS = 12

OptionIndices = Mapping[BlockIndex, Tensor]
"""By block, of each image the position of its sizes among the mixer's options."""


class InputDependentLearner(RatioLearner):
    """Presses on all predictors alike until the images cost on average what is allowed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._costs = {slot.block_index: self._option_costs(slot) for slot in self.learned_blocks}
        self._begin = {slot.block_index: self._first_shift(slot) for slot in self.learned_blocks}
        self._used = float(sum(slot.costs[self._start_of(slot)] for slot in self.learned_blocks))
        self._press(0.0)

    def _option_costs(self, slot: LearnedBlock) -> Tensor:
        mixer: InputDependentMixer = self.mixers[slot.block_index]
        costs = [float(slot.costs[option]) for option in mixer.options]
        return torch.tensor(costs, device=next(mixer.predictor.parameters()).device)

    def _start_of(self, slot: LearnedBlock) -> tuple[int, ...]:
        return tuple(int(size) for size in self.initial_sizes[slot.block_index])

    def _first_shift(self, slot: LearnedBlock) -> float:
        """What added to nothing makes a predictor say the size to start from."""
        sizes = [slot.learned_sizes(option)[0] for option in slot.options]
        share = (slot.learned_sizes(self.initial_sizes[slot.block_index])[0] - min(sizes)) / max(
            max(sizes) - min(sizes), 1
        )
        share = min(max(share, 0.02), 0.98)
        return math.log(share / (1 - share))

    def _press(self, multiplier: float) -> None:
        self.multiplier = multiplier
        for place, mixer in self.mixers.items():
            mixer.logit_offset = self._begin[place] - multiplier

    def _update_boundaries(self, step: int) -> None:  # noqa: ARG002
        for mixer in self.mixers.values():
            mixer.predictor_trainable = True

    def _freeze(self) -> None:
        """Fixes the predictors; from now on they only follow the budget."""
        for mixer in self.mixers.values():
            mixer.predictor_trainable = False
        self.settled = True

    def update_sizes(self, step: int, scale: float = 1.0) -> None:  # noqa: ARG002
        """See `RatioLearner.learn`; the optimiser has taken the scale off the gradients."""
        macs = self._mean_macs({place: mixer.option_indices for place, mixer in self.mixers.items()})
        gradients = [
            parameter.grad
            for mixer in self.mixers.values()
            for parameter in mixer.predictor.parameters()
            if parameter.grad is not None
        ]
        if self.is_frozen_at(step) or not gradients:
            self._used = float(macs)
        else:
            norm = nn.utils.get_total_norm(gradients)
            self._used, steepness = torch.stack((macs, norm.to(macs))).tolist()
            if math.isfinite(steepness):
                self._record_gradients([steepness])
        if self.budget_macs is not None:
            self._press(self.multiplier + _GAIN * math.log(self._used / self.budget_macs))

    def _mean_macs(self, chosen: OptionIndices) -> Tensor:
        means = [self._costs[place].to(own.device)[own].mean() for place, own in chosen.items()]
        return torch.stack(means).sum()

    def mean_macs(self, chosen: OptionIndices) -> float:
        """What the mixers cost on average with these sizes."""
        return float(self._mean_macs(chosen))

    def record_sizes(self, chosen: OptionIndices) -> None:
        """Takes the mean sizes of these images for the present ones of the blocks."""
        for slot in self.learned_blocks:
            mixer: InputDependentMixer = self.mixers[slot.block_index]
            options = torch.tensor(mixer.options, dtype=torch.float64)
            sizes: Sequence[float] = options[chosen[slot.block_index].cpu()].mean(0).tolist()
            self._set_sizes(slot, sizes, 0)

    def used_macs(self) -> float:
        """Multiply-accumulates of the mixers that learn, on average over the last images."""
        return self._used

    def calibrate(self, choose: Callable[[], OptionIndices]) -> None:
        """Finds the least pressure under which images cost at most what is allowed.

        Args:
            choose: runs the network over the images that count.
        """
        if self.budget_macs is None:
            self._used = self.mean_macs(choose())
            return
        low, high = self.multiplier - _REACH, self.multiplier + _REACH
        best = high, math.inf
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            self._press(middle)
            used = self.mean_macs(choose())
            if used > self.budget_macs:
                low = middle
            else:
                high, best = middle, (middle, used)
        self._press(best[0])
        self._used = self.mean_macs(choose())

    def state_dict(self) -> dict[str, Any]:
        """See `RatioLearner.state`."""
        return super().state_dict() | {"used": self._used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `RatioLearner.restore`."""
        super().load_state_dict(state)
        self._used = float(state["used"])
        self._press(self.multiplier)
