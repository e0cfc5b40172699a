"""Grid spaces for test problems of multi-objective optimization."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from partialnas.space.errors import UserError
from partialnas.space.search_space.space import OptunaTrial


class Variable(NamedTuple):
    """One variable as a choice of a space, labeled by the numbers of its levels."""

    name: str
    labels: tuple[int, ...]


class Setting(Mapping[str, int]):
    """Levels of all variables: a point of the grid that replaces an architecture."""

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
    """The interface of a space that samplers use, over unconstrained variables.

    Args:
        variables: number of variables.
        levels: number of levels of each variable.
    """

    constrained = False

    def __init__(self, variables: int, levels: int) -> None:
        self.levels = levels
        self.choices = tuple(Variable(f"x{i}", tuple(range(levels))) for i in range(variables))

    def architecture(self, point: Mapping[str, int]) -> Setting:
        """Return the point as a setting."""
        if isinstance(point, Setting):
            return point
        return Setting(tuple(point[choice.name] for choice in self.choices))

    def sample(self, rng: random.Random) -> Setting:
        """Return a random setting."""
        return Setting(tuple(rng.randrange(self.levels) for _ in self.choices))

    def contains(self, point: Mapping[str, int]) -> bool:
        """Return whether the point sets all variables."""
        return len(point) == len(self.choices)

    def neighbors(self, point: Mapping[str, int], rng: random.Random) -> Iterator[Setting]:
        """Yield settings that differ in one variable, in random order without repeats."""
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
        """Raise an error: grids are for samplers that do not enumerate their space."""
        raise UserError("too large to enumerate")

    def encode(self, point: Mapping[str, int]) -> tuple[float, ...]:
        """Return the levels as numbers."""
        return tuple(map(float, self.architecture(point).levels))

    def decode(self, code: Sequence[float]) -> Setting:
        """Return the setting of rounded levels."""
        return Setting(tuple(round(level) for level in code))

    def suggest(self, trial: OptunaTrial) -> Setting:
        """Return the setting that an Optuna trial suggests."""
        return Setting(
            tuple(trial.suggest_categorical(choice.name, choice.labels) for choice in self.choices)
        )

    def params_of(self, point: Mapping[str, int]) -> dict[str, int]:
        """Return the setting as plain data."""
        return dict(point)
