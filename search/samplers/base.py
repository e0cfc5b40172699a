"""What a source is: proposes architectures, is told what came of them, and can be rebuilt."""

import itertools
import random
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from pydantic_core import from_json

from partialnas.space.arch.architecture import Architecture
from partialnas.space.axes.choices import Point
from partialnas.space.errors import UserError
from partialnas.space.search_space.space import Space

_EXPLORATIONS = 100
"""Random points that are looked at for a network that is not known yet."""


class ObjectiveValues(NamedTuple):
    """What a network has reached, as samplers see it.

    Attributes:
        values: its objectives, by name.
        excess: by how much it violates each of the study's limits; 0 or less where it does not.
    """

    values: Mapping[str, float]
    excess: Mapping[str, float] = MappingProxyType({})

    @property
    def violation(self) -> float:
        """All that is beyond the limits; 0 where the network satisfies them."""
        return sum(max(0.0, each) for each in self.excess.values())


@dataclass(frozen=True)
class Proposal:
    """An architecture that a source proposes.

    Attributes:
        architecture: what to train.
        note: plain JSON data from which the source can rebuild its memory of this proposal.
    """

    architecture: Architecture
    note: dict[str, Any] = field(default_factory=dict)


class ProposalNote(Mapping[str, Any]):
    """What a source wrote down with a proposal, read when it is looked into.

    Of a hundred thousand notes hardly any is.

    Attributes:
        text: JSON that it is read from.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def _data(self) -> dict[str, Any]:
        found: dict[str, Any] = from_json(self.text)
        return found

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)


class PastProposal(NamedTuple):
    """A proposal of an earlier sitting, as the ledger knows it.

    Attributes:
        number: the ledger's number of the proposal.
        note: what the source wrote down with it.
        result: what came of it; None where it failed.
        is_open: whether its trials have not ended yet.
        digest: of the network, where the ledger tells it.
    """

    number: int
    note: Mapping[str, Any]
    result: ObjectiveValues | None
    is_open: bool = False
    digest: str = ""


class ProposalSource(Protocol):
    """Proposes architectures; is told what became of each; can be rebuilt from the ledger."""

    def ask(self, number: int) -> Proposal | None:
        """The next proposal, to be known by the ledger's `number`; None when there are no more."""
        ...

    def explore(self, number: int, known: Container[str]) -> Proposal | None:
        """A proposal whose digest is not among the known ones; None where none was found."""
        ...

    def tell(self, number: int, reached: ObjectiveValues | None) -> None:
        """What the proposal of that number reached; None where it failed."""
        ...

    def rebuild(self, history: Sequence[PastProposal]) -> None:
        """Take up the proposals of earlier sittings, in order."""
        ...


def proposal_rng(seed: int, *numbers: int) -> random.Random:
    """The randomness of one proposal, which depends on the study's seed and its number alone.

    Args:
        seed: of the study's proposals.
        numbers: the ledger's number of the proposal, and whatever else it is drawn for.
    """
    return random.Random("/".join(map(str, (seed, *numbers))))


def sample_unseen(space: Space, rng: random.Random, known: Container[str]) -> Point | None:
    """A random point whose network is not known yet; in a small space, any that is left."""
    drawn = (space.sample(rng) for _ in range(_EXPLORATIONS))
    for point in itertools.chain(drawn, _listed(space)):
        if space.architecture(point).digest not in known:
            return point
    return None


def _listed(space: Space) -> Iterator[Point]:
    try:
        yield from space.enumerate()
    except UserError:  # too large to list
        return
