"""Test problems of multi-objective optimisation as spaces: each variable takes some even levels."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from partialnas.space.errors import UserError
from partialnas.space.search_space.space import OptunaTrial


class Variable(NamedTuple):
    """One variable, as a choice of a space: its name, and the numbers of its levels."""

    name: str
    labels: tuple[int, ...]


class Setting(Mapping[str, int]):
    """Levels of all variables: a point of the grid, and what stands for an architecture."""

    __slots__ = ("levels",)

    def __init__(self, levels: tuple[int, ...]) -> None:
        self.levels = levels

    @property
    def digest(self) -> str:
        """Identity of the setting."""
        return ",".join(map(str, self.levels))

    def __getitem__(self, name: str) -> int:
        return self.levels[int(name[1:])]

    def __iter__(self) -> Iterator[str]:
        return (f"x{i}" for i in range(len(self.levels)))

    def __len__(self) -> int:
        return len(self.levels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Setting) and other.levels == self.levels

    def __hash__(self) -> int:
        return hash(self.levels)


class GridSpace:
    """What sources need of a space, over variables that are all active and free of constraints.

    Args:
        variables: how many.
        levels: of each.
    """

    constrained = False

    def __init__(self, variables: int, levels: int) -> None:
        self.levels = levels
        self.choices = tuple(Variable(f"x{i}", tuple(range(levels))) for i in range(variables))

    def architecture(self, point: Mapping[str, int]) -> Setting:
        """The setting itself, also where a point was written down as plain data."""
        if isinstance(point, Setting):
            return point
        return Setting(tuple(point[choice.name] for choice in self.choices))

    def sample(self, rng: random.Random) -> Setting:
        """A random setting."""
        return Setting(tuple(rng.randrange(self.levels) for _ in self.choices))

    def contains(self, point: Mapping[str, int]) -> bool:
        """Whether it is one: always, here."""
        return len(point) == len(self.choices)

    def neighbors(self, point: Mapping[str, int], rng: random.Random) -> Iterator[Setting]:
        """Settings that differ in one variable, each once, in random order."""
        setting = self.architecture(point).levels
        seen: set[int] = set()
        possible = self.levels * len(setting)
        while len(seen) < possible:
            change = rng.randrange(possible)
            if change in seen:
                continue
            seen.add(change)
            variable, level = divmod(change, self.levels)
            if setting[variable] != level:
                yield Setting((*setting[:variable], level, *setting[variable + 1 :]))

    def enumerate(self) -> tuple[Setting, ...]:
        """Refused: grids are for samplers that do not list their space."""
        raise UserError("too large to enumerate")

    def encode(self, point: Mapping[str, int]) -> tuple[float, ...]:
        """The levels."""
        return tuple(map(float, self.architecture(point).levels))

    def decode(self, code: Sequence[float]) -> Setting:
        """The setting of these levels."""
        return Setting(tuple(round(level) for level in code))

    def suggest(self, trial: OptunaTrial) -> Setting:
        """What an Optuna trial suggests."""
        return Setting(
            tuple(trial.suggest_categorical(each.name, each.labels) for each in self.choices)
        )

    def params_of(self, point: Mapping[str, int]) -> dict[str, int]:
        """The setting as plain data."""
        return dict(point)
