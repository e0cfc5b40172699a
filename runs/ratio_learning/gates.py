"""Learned gates: the method of DPConv (arXiv 2502.01303), corrected."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Any

import torch

from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.space.cost.learned_blocks import BlockIndex, LearnedBlock
from partialnas.space.nn.dpconv import Boundaries, LearnedMixer, set_boundaries

_GATE = 0.5  # distance of the initial gates from 0
_TRAVEL = 5.0  # distance that a gate can move in all steps together
_FASTEST = 0.1  # largest move in one step
_PRESSURE = 2.0  # largest multiplier, in units of the RMS gradient
_GAIN = 0.05


class GateLearner(RatioLearner):
    """Hard gates, each of which doubles the size, as published.

    A gate counts only if all gates before it are open, so every sequence is legal. No gate closes
    before those after it. The gradient of a gate is that of a straight-through estimator. The
    budget acts on all gates by a multiplier that integrates the logarithm of used over allowed
    multiply-accumulates.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gates = {
            block.block_index: [
                _GATE if option <= self._nearest(block) else -_GATE
                for option in range(1, len(block.options))
            ]
            for block in self.learned_blocks
        }

    def _nearest(self, block: LearnedBlock) -> int:
        """Return the position of the option nearest to the initial size."""
        initial = block.learned_sizes(self.initial_sizes[block.block_index])[0]
        sizes = [block.learned_sizes(option)[0] for option in block.options]
        return min(range(len(sizes)), key=lambda index: abs(sizes[index] - initial))

    def _update_boundaries(self, step: int) -> None:  # noqa: ARG002
        moved: list[tuple[LearnedMixer, Boundaries]] = []
        for block in self.learned_blocks:
            count = _open(self.gates[block.block_index])
            now = block.options[count]
            widest = block.options[min(count + 1, len(block.options) - 1)]
            self.sizes[block.block_index] = tuple(map(float, now))
            boundaries = Boundaries(now, 0.0, widest, block.options[0])
            moved.append((self.mixers[block.block_index], boundaries))
        set_boundaries(moved)

    def _update_sizes(self, step: int, scale: float, count: int) -> None:
        gradients = self._gradients()
        values = [value / (scale * count) for row in gradients.values() for value in row]
        rms = math.sqrt(fmean(value * value for value in values)) if values else 0.0
        if not math.isfinite(rms):
            return
        self._record_gradients(values)
        if self.budget_macs is not None:
            excess = math.log(self.used_macs() / self.budget_macs)
            pressure = self.multiplier + count * _GAIN * excess
            self.multiplier = min(max(pressure, -_PRESSURE), _PRESSURE)
        fading = 0.5 * (1 + math.cos(math.pi * step / self.freeze_step))
        rate = min(_TRAVEL / self.freeze_step, _FASTEST) * fading
        unit = (rms + 1e-12) / math.sqrt(count)  # means over steps have less noise
        remaining = iter(values)
        for block in self.learned_blocks:
            gates = self.gates[block.block_index]
            forces = [next(remaining) / unit + count * self.multiplier for _ in gates]
            pairs = zip(gates, forces, strict=True)
            moved = [min(max(gate - rate * force, -1.0), 1.0) for gate, force in pairs]
            self.gates[block.block_index] = _in_order(moved)
            self._set_sizes(block, block.options[_open(self.gates[block.block_index])], step)

    def _gradients(self) -> dict[BlockIndex, list[float]]:
        """Return the gradients of the loss with respect to the gates of each block."""
        rows = [self._shares_gradient(b)[b.learning.parts[0]] for b in self.learned_blocks]
        values = torch.cat(rows).tolist()
        gradients: dict[BlockIndex, list[float]] = {}
        for block, row in zip(self.learned_blocks, rows, strict=True):
            gradients[block.block_index] = self._gate_gradients(block, values[: len(row)])
            values = values[len(row) :]
        return gradients

    def _gate_gradients(self, block: LearnedBlock, row: Sequence[float]) -> list[float]:
        """Return the gradients of a block's gates from those of its channels."""
        (position,) = block.learning.parts
        ends = [sum(option[: position + 1]) for option in block.options]
        groups = [sum(row[low:high]) for low, high in pairwise(ends)]
        gates = [gate > 0 for gate in self.gates[block.block_index]]
        return [
            _straight_through(groups, gates, index) if all(gates[:index]) else 0.0
            for index in range(len(gates))
        ]

    def state_dict(self) -> dict[str, Any]:
        """See `RatioLearner.state_dict`."""
        gates = [[*block_index, *row] for block_index, row in self.gates.items()]
        return super().state_dict() | {"gates": gates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `RatioLearner.load_state_dict`."""
        super().load_state_dict(state)
        self.gates = {(row[0], row[1]): list(row[2:]) for row in state["gates"]}


def _in_order(gates: Sequence[float]) -> list[float]:
    """Raise each gate to at least those after it, so that sizes change by one halving at a time."""
    return list(accumulate(reversed(gates), max))[::-1]


def _open(gates: Sequence[float]) -> int:
    """Return the number of open gates before the first closed one."""
    return next((index for index, gate in enumerate(gates) if gate <= 0), len(gates))


def _straight_through(groups: Sequence[float], gates: Sequence[bool], index: int) -> float:
    """Return the gradient of one gate: that of its channels and of those that open after it."""
    total = groups[index]
    for later in range(index + 1, len(gates)):
        if not gates[later]:
            break
        total += groups[later]
    return total
