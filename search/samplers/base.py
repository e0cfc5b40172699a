"""The interface of samplers: propose architectures, learn from results, resume from a ledger."""

import itertools
import random
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from pydantic_core import from_json

from partialnas.runs.config.metric_limits import total_violation
from partialnas.space.arch.architecture import Architecture
from partialnas.space.axes.choices import Point
from partialnas.space.errors import UserError
from partialnas.space.search_space.space import Space

_EXPLORATIONS = 100
"""Random points to draw before the space is enumerated for an unseen network."""


class ObjectiveValues(NamedTuple):
    """A network's result as samplers see it.

    Attributes:
        values: objective values by name; speeds are relative to the study's reference.
        excess: amount by which each of the study's limits is violated; at most 0 if satisfied. It
            changes with later timings of the reference, so read it for every proposal.
        limited: values of the limited quantities, which later timings do not change: speeds are
            relative to the study's reference.
    """

    values: Mapping[str, float]
    excess: Mapping[str, float] = MappingProxyType({})
    limited: Mapping[str, float] = MappingProxyType({})

    @property
    def violation(self) -> float:
        """Sum of all violations; 0 if the network satisfies all limits."""
        return total_violation(self.excess)


@dataclass(frozen=True)
class Proposal:
    """An architecture that a sampler proposes.

    Attributes:
        architecture: the architecture to train.
        note: plain JSON data from which the sampler can restore this proposal.
    """

    architecture: Architecture
    note: dict[str, Any] = field(default_factory=dict)


class ProposalNote(Mapping[str, Any]):
    """A sampler's note on a past proposal, parsed on first access.

    Most notes of a long search are never accessed.

    Attributes:
        text: the note as JSON.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def _data(self) -> dict[str, Any]:
        data: dict[str, Any] = from_json(self.text)
        return data

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)


class PastProposal(NamedTuple):
    """A proposal of an earlier session, read from the ledger.

    Attributes:
        number: the ledger's number of the proposal.
        note: the sampler's note.
        result: objective values, or None if the proposal failed.
        is_open: whether trials of the proposal have not ended yet.
        digest: digest of the network; empty if unknown.
    """

    number: int
    note: Mapping[str, Any]
    result: ObjectiveValues | None
    is_open: bool = False
    digest: str = ""


class ProposalSource(Protocol):
    """Interface of samplers."""

    def ask(self, number: int) -> Proposal | None:
        """Return the next proposal, or None if there are no more.

        Args:
            number: the ledger's number of the proposal.
        """
        ...

    def explore(self, number: int, seen: Container[str]) -> Proposal | None:
        """Return a proposal of an unseen network, or None if none was found.

        Args:
            number: the ledger's number of the proposal.
            seen: digests of the study's networks.
        """
        ...

    def tell(self, number: int, result: ObjectiveValues | None) -> None:
        """Receive the result of a proposal, or None if it failed.

        Keep the result and read its excess over limits in `ask`: it changes with later timings.
        """
        ...

    def rebuild(self, history: Sequence[PastProposal]) -> None:
        """Restore the proposals of earlier sessions, in order."""
        ...


def proposal_rng(seed: int, *numbers: int) -> random.Random:
    """Return a random generator that depends on the seed and the numbers only.

    Args:
        seed: seed of the study's sampler.
        numbers: the ledger's number of the proposal, and further numbers for other purposes.
    """
    return random.Random("/".join(map(str, (seed, *numbers))))


def sample_unseen(space: Space, rng: random.Random, seen: Container[str]) -> Point | None:
    """Return the point of an unseen network: a random one, or any that is left in a small space."""
    points = (space.sample(rng) for _ in range(_EXPLORATIONS))
    for point in itertools.chain(points, _enumerate(space)):
        if space.architecture(point).digest not in seen:
            return point
    return None


def _enumerate(space: Space) -> Iterator[Point]:
    try:
        yield from space.enumerate()
    except UserError:  # too large to enumerate
        return
