"""Learned gates: the published construction of DPConv (arXiv 2502.01303), corrected."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.space.cost.learned_blocks import BlockIndex, LearnedBlock

_GATE = 0.5  # where gates start, on their side of 0
_TRAVEL = 5.0  # how far a gate could go while it learns, one way all the time
_FASTEST = 0.1  # a step
_PRESSURE = 2.0  # of the budget at most, in usual gradients
_GAIN = 0.05


class GateLearner(RatioLearner):
    """The published construction: gates that double the size one after the other, always hard.

    A gate counts only while all gates before it are open, so that every sequence is legal, and none
    closes before those behind it. Its gradient is that of its rounding taken for the identity
    (straight through). The budget presses on all gates by a multiplier of the logarithm of what is
    used over what is allowed.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gates = {
            slot.block_index: [
                _GATE if option <= self._nearest(slot) else -_GATE
                for option in range(1, len(slot.options))
            ]
            for slot in self.learned_blocks
        }

    def _nearest(self, slot: LearnedBlock) -> int:
        wanted = slot.learned_sizes(self.initial_sizes[slot.block_index])[0]
        sizes = [slot.learned_sizes(option)[0] for option in slot.options]
        return min(range(len(sizes)), key=lambda index: abs(sizes[index] - wanted))

    def _update_boundaries(self, step: int) -> None:  # noqa: ARG002
        for slot in self.learned_blocks:
            count = _open(self.gates[slot.block_index])
            now = slot.options[count]
            widest = slot.options[min(count + 1, len(slot.options) - 1)]
            self.sizes[slot.block_index] = tuple(map(float, now))
            self.mixers[slot.block_index].set_sizes(now, 0.0, widest, slot.options[0])

    def update_sizes(self, step: int, scale: float = 1.0) -> None:
        """See `RatioLearner.learn`; a gradient that is no number moves nothing."""
        if self.is_frozen_at(step):
            return
        gradients = self._gradients()
        every = [value / scale for row in gradients.values() for value in row]
        usual = math.sqrt(fmean(value * value for value in every)) if every else 0.0
        if not math.isfinite(usual):
            return
        self._record_gradients(every)
        if self.budget_macs is not None:
            pressure = self.multiplier + _GAIN * math.log(self.used_macs() / self.budget_macs)
            self.multiplier = min(max(pressure, -_PRESSURE), _PRESSURE)
        fading = 0.5 * (1 + math.cos(math.pi * step / self.freeze_step))
        rate = min(_TRAVEL / self.freeze_step, _FASTEST) * fading
        for slot in self.learned_blocks:
            place = slot.block_index
            forces = [
                gradient / scale / (usual + 1e-12) + self.multiplier
                for gradient in gradients[place]
            ]
            moved = [
                min(max(gate - rate * force, -1.0), 1.0)
                for gate, force in zip(self.gates[place], forces, strict=True)
            ]
            self.gates[place] = _in_order(moved)
            self._set_sizes(slot, slot.options[_open(self.gates[place])], step)

    def _gradients(self) -> dict[BlockIndex, list[float]]:
        """Of the loss with respect to each gate of a block."""
        rows = [self._row(slot) for slot in self.learned_blocks]
        values = torch.cat(rows).tolist()
        found: dict[BlockIndex, list[float]] = {}
        for slot, row in zip(self.learned_blocks, rows, strict=True):
            found[slot.block_index] = self._of_gates(slot, values[: len(row)])
            values = values[len(row) :]
        return found

    def _row(self, slot: LearnedBlock) -> Tensor:
        """The gradient with respect to how far each channel lies before the boundary."""
        (position,) = slot.learning.parts
        shares = self.mixers[slot.block_index].shares
        whole = torch.zeros_like(shares) if shares.grad is None else shares.grad
        row: Tensor = whole[position]
        return row

    def _of_gates(self, slot: LearnedBlock, row: Sequence[float]) -> list[float]:
        (position,) = slot.learning.parts
        ends = [sum(option[: position + 1]) for option in slot.options]
        groups = [sum(row[low:high]) for low, high in pairwise(ends)]
        gates = [gate > 0 for gate in self.gates[slot.block_index]]
        return [
            _through(groups, gates, index) if all(gates[:index]) else 0.0
            for index in range(len(gates))
        ]

    def state_dict(self) -> dict[str, Any]:
        """See `RatioLearner.state`."""
        return super().state_dict() | {
            "gates": [[*place, *gates] for place, gates in self.gates.items()]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `RatioLearner.restore`."""
        super().load_state_dict(state)
        self.gates = {(row[0], row[1]): list(row[2:]) for row in state["gates"]}


def _in_order(gates: Sequence[float]) -> list[float]:
    """The gates, none of them below one behind it, so that sizes change by one halving a time."""
    return list(accumulate(reversed(gates), max))[::-1]


def _open(gates: Sequence[float]) -> int:
    """How many gates are open before the first that is closed."""
    return next((index for index, gate in enumerate(gates) if gate <= 0), len(gates))


def _through(groups: Sequence[float], gates: Sequence[bool], index: int) -> float:
    """The gradient of one gate: of its own channels, and of those that open behind it."""
    total = groups[index]
    for further in range(index + 1, len(gates)):
        if not gates[further]:
            break
        total += groups[further]
    return total
