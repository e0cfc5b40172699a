"""What moves learned ratios while a network is trained, and fixes them in the end."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from torch import nn

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.parts import RealizedPart
from partialnas.space.cost.budget_projection import project_to_budget
from partialnas.space.cost.formulas import part_cost
from partialnas.space.cost.learned_blocks import BlockIndex, LearnedBlock, learned_blocks
from partialnas.space.cost.mac_budget import allowed_macs, uniform_sizes
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.nn.network import Network

_LATE = 0.8  # of learning: where its last fifth begins


class RatioLearner(ABC):
    """Moves the learned ratios of a network while it is trained.

    Attributes:
        learned_blocks: the blocks that learn.
        budget_macs: multiply-accumulates that their mixers may cost together; None for no limit.
        freeze_step: the first step with fixed ratios.
        sizes: by block the channels of each part at present.
        multiplier: pressure of the budget.
        is_frozen: whether the ratios are fixed.
        max_displacement: by block the channels that a boundary has been away from its start at most.
        late_sizes: the sizes with which the last fifth of learning began.
        path_lengths: channels that boundaries have gone since, there and back.
    """

    def __init__(self, network: Network, resolution: int, steps: int, freeze: float) -> None:
        architecture = network.architecture
        input_spec = InputSpec.square(resolution, network.in_chans, network.num_classes)
        self.learned_blocks = learned_blocks(architecture, input_spec)
        self.budget_macs = allowed_macs(architecture, input_spec) or None  # parts that cost nothing
        self.freeze_step = max(math.floor(freeze * steps), 1)
        self.mixers: dict[BlockIndex, Any] = learned_mixers(network)
        self.initial_sizes: dict[BlockIndex, tuple[float, ...]] = {
            place: tuple(map(float, sizes))
            for place, sizes in uniform_sizes(architecture, input_spec).items()
        }
        self.sizes = dict(self.initial_sizes)
        self.multiplier = 0.0
        self.is_frozen = False
        self.max_displacement = dict.fromkeys(self.sizes, 0.0)
        self.late_sizes: dict[BlockIndex, tuple[float, ...]] = {}
        self.path_lengths = dict.fromkeys(self.sizes, 0.0)
        self._squares: list[float] = []

    def update_boundaries(self, step: int) -> None:
        """Puts the boundaries where they are for a step, counted from 0."""
        if not self.is_frozen_at(step):
            self._update_boundaries(step)
        elif not self.is_frozen:
            self._freeze()

    @abstractmethod
    def _update_boundaries(self, step: int) -> None:
        """The same before the ratios are fixed."""

    @abstractmethod
    def update_sizes(self, step: int, scale: float = 1.0) -> None:
        """Moves the boundaries by the gradients of a step.

        Args:
            step: counted from 0.
            scale: what the loss was multiplied by.
        """

    def is_frozen_at(self, step: int) -> bool:
        """Whether the ratios stay as they are from this step on."""
        return step >= self.freeze_step

    def used_macs(self) -> float:
        """Multiply-accumulates of the mixers that learn, at present."""
        return sum(mixer_macs(slot, self.sizes[slot.block_index]) for slot in self.learned_blocks)

    def copy_to(self, network: nn.Module) -> None:
        """Puts the boundaries of another network with the same blocks where they are here."""
        for place, mixer in learned_mixers(network).items():
            mixer.set_extra_state(self.mixers[place].get_extra_state())

    def state_dict(self) -> dict[str, Any]:
        """All that further learning depends on, as plain data."""
        return {
            "sizes": [[*place, *sizes] for place, sizes in self.sizes.items()],
            "late": [[*place, *sizes] for place, sizes in self.late_sizes.items()],
            "paths": [[*place, path] for place, path in self.path_lengths.items()],
            "farthest": [[*place, far] for place, far in self.max_displacement.items()],
            "multiplier": self.multiplier,
            "settled": self.is_frozen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` gave."""
        self.sizes = {(row[0], row[1]): tuple(row[2:]) for row in state["sizes"]}
        self.late_sizes = {(row[0], row[1]): tuple(row[2:]) for row in state["late"]}
        self.path_lengths = {(row[0], row[1]): row[2] for row in state["paths"]}
        self.max_displacement = {(row[0], row[1]): row[2] for row in state["farthest"]}
        self.multiplier, self.is_frozen = state["multiplier"], state["settled"]

    def pop_gradient_norm(self) -> float:
        """The root mean square of the gradients' norms since it was last asked for."""
        norm = math.sqrt(fmean(self._squares)) if self._squares else 0.0
        self._squares = []
        return norm

    def _set_sizes(self, slot: LearnedBlock, sizes: Sequence[float], step: int) -> None:
        """Takes up new sizes of a block."""
        before, place = self.sizes[slot.block_index], slot.block_index
        if step >= _LATE * self.freeze_step:
            self.late_sizes.setdefault(place, before)
            self.path_lengths[place] += sum(self._apart(slot, before, sizes))
        self.sizes[place] = tuple(map(float, sizes))
        away = max(self._apart(slot, self.initial_sizes[place], sizes))
        self.max_displacement[place] = max(self.max_displacement[place], away)

    def _apart(self, slot: LearnedBlock, one: Sequence[float], two: Sequence[float]) -> list[float]:
        """By how many channels the learned parts differ."""
        return [abs(a - b) for a, b in zip(slot.learned_sizes(one), slot.learned_sizes(two), strict=True)]

    def _record_gradients(self, gradients: Iterable[float]) -> None:
        self._squares.append(sum(gradient * gradient for gradient in gradients))

    def _freeze(self) -> None:
        """Fixes the ratios at legal sizes within the budget."""
        wanted = [slot.learned_sizes(self.sizes[slot.block_index]) for slot in self.learned_blocks]
        settled = project_to_budget(self.learned_blocks, wanted, self.budget_macs)
        self.sizes = {place: tuple(map(float, sizes)) for place, sizes in settled.items()}
        for place, mixer in self.mixers.items():
            mixer.set_sizes(self.sizes[place], 0.0)
        self.is_frozen = True


def mixer_macs(slot: LearnedBlock, sizes: Sequence[float]) -> float:
    """What a mixer costs at sizes that need not be whole."""
    return evaluate_polynomials(cost_polynomials(slot), sizes)


def cost_polynomials(slot: LearnedBlock) -> list[tuple[float, float]]:
    """Of each part the coefficients of its cost by its size, a polynomial of second degree."""
    return [_polynomial(part, slot.map_area) for part in slot.block.parts]


def _polynomial(part: RealizedPart, places: int) -> tuple[float, float]:
    one, two = (part_cost(part._replace(channels=size), places).macs for size in (1, 2))
    square = (two - 2 * one) / 2
    return square, one - square


def evaluate_polynomials(
    polynomials: Sequence[tuple[float, float]], sizes: Sequence[float]
) -> float:
    """What polynomials of second degree, one for each size, sum up to."""
    return sum(
        square * size * size + linear * size
        for (square, linear), size in zip(polynomials, sizes, strict=True)
    )
