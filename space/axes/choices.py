"""Choices of a space: where each is active, and all combinations of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from partialnas.space.arch.plan import NUM_STAGES
from partialnas.space.axes.axis import Axis, Level
from partialnas.space.axes.decoder import Assignment, Decoder, Scope
from partialnas.space.axes.levels import Label


def choice_name(axis: str, scope: Scope) -> str:
    """Return a name such as `ratio@stage2` or `mlp_ratio@stage3.block2`, counted from 1."""
    places = [f"{kind}{n + 1}" for kind, n in zip(("stage", "block"), scope, strict=False)]
    return f"{axis}@{'.'.join(places)}" if places else axis


class Choice(NamedTuple):
    """One dimension of a space: an axis at one scope."""

    axis: Axis
    scope: Scope

    @property
    def key(self) -> tuple[str, Scope]:
        """Key of the choice in an assignment."""
        return self.axis.name, self.scope

    @property
    def name(self) -> str:
        """Name of the choice, such as `width` or `ratio@stage2`."""
        return choice_name(self.axis.name, self.scope)

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels to choose from."""
        return self.axis.labels


class ChoiceTree:
    """The choices of a space, axis by axis, in the order in which they are made.

    A choice is active if its condition holds and a block uses it. Inactive are choices for blocks
    beyond the depth, for a ratio or operation of a part that does not exist, for attention that no
    part uses, and for heads without self-attention.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        scopes = ((axis, _scopes(decoder, axis.rank)) for axis in decoder.axes.values())
        self.choices = tuple(Choice(axis, scope) for axis, listed in scopes for scope in listed)

    def is_active(self, choice: Choice, chosen: Assignment) -> bool:
        """Return whether a choice is active, given the choices before it."""
        (axis, scope), decoder = choice, self.decoder
        if axis.rank == 2 and scope[1] >= decoder.depth(scope[0], chosen):
            return False
        if not decoder.condition_holds(axis, scope, chosen):
            return False
        if not axis.can_be_unused:
            return True
        return any(decoder.uses(axis, block, chosen) for block in decoder.blocks(scope, chosen))

    def walk(self, pick: Callable[[Choice, Assignment], Level]) -> Assignment:
        """Return an assignment; `pick(choice, chosen so far)` selects a level for each choice."""
        chosen: dict[tuple[str, Scope], Level] = {}
        for choice in self.choices:
            if self.is_active(choice, chosen):
                chosen[choice.key] = pick(choice, chosen)
        return chosen

    def enumerate_assignments(
        self, options: Callable[[Choice, Assignment], Sequence[Level]]
    ) -> Iterator[Assignment]:
        """Yield every assignment with levels from `options(choice, chosen so far)`."""
        waiting: list[tuple[int, dict[tuple[str, Scope], Level]]] = [(0, {})]
        while waiting:
            start, chosen = waiting.pop()
            for index in range(start, len(self.choices)):
                choice = self.choices[index]
                if not self.is_active(choice, chosen):
                    continue
                levels = options(choice, chosen)
                if len(levels) == 1:
                    chosen[choice.key] = levels[0]
                    continue
                key = choice.key
                waiting += [(index + 1, {**chosen, key: level}) for level in reversed(levels)]
                break
            else:
                yield chosen

    def variations(self, chosen: Assignment, choice: Choice, level: Level) -> Iterator[Assignment]:
        """Yield the assignments with one choice changed and the others kept.

        Choices that become active take the level of the previous block, the base's level or the
        first level, in this order of preference; assignments with other levels follow.
        """
        if not self.decoder.affects_activity(choice.axis):
            return iter([{**chosen, choice.key: level}])

        def options(other: Choice, so_far: Assignment) -> Sequence[Level]:
            if other.key == choice.key:
                return [level]
            if other.key in chosen:
                return [chosen[other.key]]
            return self._by_preference(other, so_far)

        return self.enumerate_assignments(options)

    def _by_preference(self, choice: Choice, chosen: Assignment) -> list[Level]:
        axis, scope = choice
        before = chosen.get((axis.name, (*scope[:-1], scope[-1] - 1))) if axis.rank == 2 else None
        first = before or self.decoder.base_level(axis, scope)
        return sorted(axis.levels, key=lambda level: level != first)


def _scopes(decoder: Decoder, rank: int) -> list[Scope]:
    if rank == 0:
        return [()]
    if rank == 1:
        return [(stage,) for stage in range(NUM_STAGES)]
    return [(stage, n) for stage in range(NUM_STAGES) for n in range(decoder.max_blocks(stage))]


class Point(Mapping[str, Label]):
    """An immutable mapping from the names of active choices to labels.

    `dict(point)` is plain data for JSON and samplers. Points are equal if these are equal.
    """

    __slots__ = ("_labels",)

    def __init__(self, labels: Mapping[str, Label]) -> None:
        self._labels = dict(labels)

    def __getitem__(self, name: str) -> Label:
        return self._labels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __hash__(self) -> int:
        return hash(frozenset(self._labels.items()))

    def __repr__(self) -> str:
        return f"Point({self._labels!r})"
