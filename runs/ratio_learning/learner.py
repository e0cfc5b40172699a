"""Base class of the methods that learn ratios while a network is trained."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.parts import RealizedPart
from partialnas.space.cost.budget_projection import project_to_budget
from partialnas.space.cost.formulas import part_cost
from partialnas.space.cost.learned_blocks import BlockIndex, LearnedBlock, learned_blocks
from partialnas.space.cost.mac_budget import allowed_macs, uniform_sizes
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.nn.network import Network

_LATE = 0.8  # share of learning after which its last fifth begins


class RatioLearner(ABC):
    """Moves the learned ratios of a network while it is trained, and fixes them in the end.

    The gradients of some steps are added up before the boundaries move; the masks are soft in every
    step. At the end of an epoch and of learning, the boundaries move by what there is.

    Args:
        network: network with its initial weights.
        resolution: side of the images in pixels.
        steps: steps of the whole training.
        freeze: share of the steps after which the ratios are fixed.
        every: steps from one move of the boundaries to the next.

    Attributes:
        learned_blocks: blocks with learned ratios.
        budget_macs: multiply-accumulates that their mixers may cost together; None for no limit.
        freeze_step: first step with fixed ratios.
        sizes: current channels of each part, by block.
        multiplier: pressure of the budget.
        is_frozen: whether the ratios are fixed.
        max_displacement: largest distance of a boundary from its start in channels, by block.
        late_sizes: sizes at the start of the last fifth of learning, by block.
        path_lengths: channels that the boundaries have moved since then in total, by block.
    """

    def __init__(
        self, network: Network, resolution: int, steps: int, freeze: float, every: int = 1
    ) -> None:
        architecture = network.architecture
        input_spec = InputSpec.square(resolution, network.in_chans, network.num_classes)
        self.learned_blocks = learned_blocks(architecture, input_spec)
        self.budget_macs = allowed_macs(architecture, input_spec) or None  # parts that cost nothing
        self.freeze_step = max(math.floor(freeze * steps), 1)
        self.mixers: dict[BlockIndex, Any] = learned_mixers(network)
        self.initial_sizes: dict[BlockIndex, tuple[float, ...]] = {
            block_index: tuple(map(float, sizes))
            for block_index, sizes in uniform_sizes(architecture, input_spec).items()
        }
        self.sizes = dict(self.initial_sizes)
        self.multiplier = 0.0
        self.is_frozen = False
        self.max_displacement = dict.fromkeys(self.sizes, 0.0)
        self.late_sizes: dict[BlockIndex, tuple[float, ...]] = {}
        self.path_lengths = dict.fromkeys(self.sizes, 0.0)
        self._squares: list[float] = []
        self._every = every
        self._summed_steps = 0
        self._gradient_sums: dict[BlockIndex, Tensor] = {}

    def update_boundaries(self, step: int) -> None:
        """Set the boundaries for a step, counted from 0, and freeze them when it is time."""
        if self.is_frozen_at(step):
            if not self.is_frozen:
                self._freeze()
        elif not self._summed_steps:
            self._update_boundaries(step)

    @abstractmethod
    def _update_boundaries(self, step: int) -> None:
        """Set the boundaries for a step before the ratios are fixed."""

    @contextmanager
    def detached_kernels(self) -> Iterator[None]:
        """Keep the kernels of the mixers outside autograd during a forward and backward pass.

        Gradients are the same as without it, and at the end of the pass they are complete.
        """
        mixers = self.mixers.values()
        for mixer in mixers:
            mixer.kernels.detach(getattr(mixer, "shares", None))
        try:
            yield
        finally:
            for mixer in mixers:
                mixer.kernels.attach()

    def update_sizes(self, step: int, scale: float = 1.0) -> None:
        """Update the sizes by the gradients since the last move, if it is time.

        Non-finite gradients change nothing.

        Args:
            step: step, counted from 0.
            scale: factor of the loss, which is divided out of the gradients of this step.
        """
        if self.is_frozen_at(step):
            return
        self._summed_steps += 1
        if self._every == 1:
            self._move(step, scale)
            return
        self._add_gradients(scale)
        if self._summed_steps == self._every or self.is_frozen_at(step + 1):
            self._move(step, 1.0)

    def end_epoch(self, step: int) -> None:
        """Move the boundaries by the gradients that are left, so that no sum must be stored.

        Args:
            step: first step of the next epoch.
        """
        if self._summed_steps:
            self._move(step - 1, 1.0)
        self.update_boundaries(step)

    def _add_gradients(self, scale: float) -> None:
        for block_index, mixer in self.mixers.items():
            gradient, mixer.shares.grad = mixer.shares.grad, None
            if gradient is not None:
                total = self._gradient_sums.get(block_index, 0.0)
                self._gradient_sums[block_index] = total + gradient / scale

    def _move(self, step: int, scale: float) -> None:
        self._update_sizes(step, scale, self._summed_steps)
        self._summed_steps = 0
        self._gradient_sums.clear()

    @abstractmethod
    def _update_sizes(self, step: int, scale: float, count: int) -> None:
        """Update the sizes.

        Args:
            step: last step, counted from 0.
            scale: factor of the gradients.
            count: steps whose gradients are added up.
        """

    def is_frozen_at(self, step: int) -> bool:
        """Return whether the ratios are fixed at this step."""
        return step >= self.freeze_step

    def used_macs(self) -> float:
        """Return the current multiply-accumulates of the learned mixers."""
        return sum(mixer_macs(b, self.sizes[b.block_index]) for b in self.learned_blocks)

    def learned_sizes(self, block: LearnedBlock) -> tuple[float, ...]:
        """Return the current sizes of a block's learned parts."""
        return block.learned_sizes(self.sizes[block.block_index])

    def copy_to(self, network: nn.Module) -> None:
        """Copy the boundaries to another network with the same blocks."""
        for block_index, mixer in learned_mixers(network).items():
            mixer.set_extra_state(self.mixers[block_index].get_extra_state())

    def state_dict(self) -> dict[str, Any]:
        """Return the state that further learning depends on, as plain data."""
        return {
            "sizes": [[*block_index, *sizes] for block_index, sizes in self.sizes.items()],
            "late": [[*block_index, *sizes] for block_index, sizes in self.late_sizes.items()],
            "paths": [[*block_index, path] for block_index, path in self.path_lengths.items()],
            "farthest": [[*block_index, far] for block_index, far in self.max_displacement.items()],
            "multiplier": self.multiplier,
            "settled": self.is_frozen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self.sizes = {(row[0], row[1]): tuple(row[2:]) for row in state["sizes"]}
        self.late_sizes = {(row[0], row[1]): tuple(row[2:]) for row in state["late"]}
        self.path_lengths = {(row[0], row[1]): row[2] for row in state["paths"]}
        self.max_displacement = {(row[0], row[1]): row[2] for row in state["farthest"]}
        self.multiplier, self.is_frozen = state["multiplier"], state["settled"]

    def pop_gradient_norm(self) -> float:
        """Return the root mean square of the gradient norms since the last call."""
        norm = math.sqrt(fmean(self._squares)) if self._squares else 0.0
        self._squares = []
        return norm

    def _set_sizes(self, block: LearnedBlock, sizes: Sequence[float], step: int) -> None:
        """Set new sizes of a block, and track how far they move."""
        before, block_index = self.sizes[block.block_index], block.block_index
        if step >= _LATE * self.freeze_step:
            self.late_sizes.setdefault(block_index, before)
            self.path_lengths[block_index] += sum(size_differences(block, before, sizes))
        self.sizes[block_index] = tuple(map(float, sizes))
        away = max(size_differences(block, self.initial_sizes[block_index], sizes))
        self.max_displacement[block_index] = max(self.max_displacement[block_index], away)

    def _shares_gradient(self, block: LearnedBlock) -> Tensor:
        """Return the sum of the gradients with respect to the shares of a block's mixer."""
        shares = self.mixers[block.block_index].shares
        gradient = self._gradient_sums.get(block.block_index, shares.grad)
        return torch.zeros_like(shares) if gradient is None else gradient

    def _record_gradients(self, gradients: Iterable[float]) -> None:
        self._squares.append(sum(gradient * gradient for gradient in gradients))

    def _freeze(self) -> None:
        """Fix the ratios at legal sizes within the budget."""
        wanted = [self.learned_sizes(block) for block in self.learned_blocks]
        sizes = project_to_budget(self.learned_blocks, wanted, self.budget_macs)
        self.sizes = {block_index: tuple(map(float, fixed)) for block_index, fixed in sizes.items()}
        for block_index, mixer in self.mixers.items():
            mixer.set_sizes(self.sizes[block_index], 0.0)
        self.is_frozen = True


def mixer_macs(block: LearnedBlock, sizes: Sequence[float]) -> float:
    """Return the multiply-accumulates of a mixer at real sizes."""
    return evaluate_costs(cost_polynomials(block), sizes)


def cost_polynomials(block: LearnedBlock) -> list[tuple[float, float]]:
    """Return the coefficients of each part's cost, a quadratic polynomial of its size."""
    return [_polynomial(part, block.map_area) for part in block.block.parts]


def _polynomial(part: RealizedPart, map_area: int) -> tuple[float, float]:
    one, two = (part_cost(part._replace(channels=size), map_area).macs for size in (1, 2))
    square = (two - 2 * one) / 2
    return square, one - square


def evaluate_costs(polynomials: Sequence[tuple[float, float]], sizes: Sequence[float]) -> float:
    """Return the sum of quadratic polynomials, one for each size."""
    pairs = zip(polynomials, sizes, strict=True)
    return sum(square * size * size + linear * size for (square, linear), size in pairs)


def size_differences(
    block: LearnedBlock, one: Sequence[float], two: Sequence[float]
) -> list[float]:
    """Return the differences of the learned parts of a block in channels."""
    pairs = zip(block.learned_sizes(one), block.learned_sizes(two), strict=True)
    return [abs(a - b) for a, b in pairs]
