"""Two-level fractional factorial designs, and which of their effects cannot be told apart.

A design of 2^(k-p) runs varies k - p factors in all combinations; each of the other p factors has
the sign of a product of those (its generator). Products of factors that are +1 in every run are the
defining words; the shortest gives the resolution. Of all designs with as many runs the one with
the fewest short words is taken (minimum aberration: Fries and Hunter, Technometrics 1980).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import prod

from partialnas.space.errors import UserError

FEWEST, MOST = 2, 11
"""Factors of a design."""

LOWEST = 3
"""Of lower resolution main effects could not be told from each other."""

Effect = tuple[str, ...]
"""The factors whose product an effect is the contrast of: one for a main effect."""

_NUMERALS = ("III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")


@dataclass(frozen=True)
class FractionalDesign:
    """A two-level design.

    Attributes:
        factors: their names.
        runs: the level (-1 or +1) of every factor, in the order of `factors`; the run of +1 alone
            is among them.
        generators: the factors that follow from others, such as `e = a*b*c*d`.
        defining_words: the words that are +1 in every run, the shortest first; none in a full factorial.
    """

    factors: tuple[str, ...]
    runs: tuple[tuple[int, ...], ...]
    generators: tuple[str, ...]
    defining_words: tuple[Effect, ...]

    @property
    def resolution(self) -> int | None:
        """Length of the shortest defining word; None for a full factorial: it aliases nothing."""
        return len(self.defining_words[0]) if self.defining_words else None

    @property
    def word_length_pattern(self) -> tuple[int, ...]:
        """How many defining words have 3, 4, ... letters, up to as many as there are factors."""
        lengths = [len(word) for word in self.defining_words]
        return tuple(lengths.count(length) for length in range(LOWEST, len(self.factors) + 1))

    @property
    def alias_sets(self) -> tuple[tuple[Effect, ...], ...]:
        """Main effects and two-factor interactions, those that cannot be told apart together."""
        words = [frozenset(word) for word in self.defining_words]
        found: dict[frozenset[frozenset[str]], list[Effect]] = defaultdict(list)
        for size in (1, 2):
            for effect in combinations(self.factors, size):
                own = frozenset(effect)
                found[frozenset([own, *(own ^ word for word in words)])].append(effect)
        return tuple(map(tuple, found.values()))

    @property
    def aliases(self) -> tuple[str, ...]:
        """The classes of more than one effect, such as `parts = attention*ratio`."""
        return tuple(" = ".join(map(effect_name, one)) for one in self.alias_sets if len(one) > 1)

    def aliases_of(self, effect: Sequence[str]) -> tuple[Effect, ...]:
        """The other main effects and two-factor interactions that this one cannot be told from."""
        own = tuple(sorted(effect, key=self.factors.index))
        return next(
            tuple(other for other in one if other != own) for one in self.alias_sets if own in one
        )

    def __str__(self) -> str:
        count, runs = len(self.factors), len(self.runs)
        if self.resolution is None:
            return f"full factorial 2^{count}: {runs} runs, nothing aliased"
        notation = f"2^({count}-{len(self.generators)})"
        told = (
            f"fractional factorial {notation}, resolution {numeral(self.resolution)}: {runs} runs"
        )
        return f"{told}, {', '.join(self.generators)}"


def fractional_factorial(factors: Sequence[str], resolution: int) -> FractionalDesign:
    """The two-level design with the fewest runs that has at least this resolution.

    Where no fraction has it, the full factorial.

    Raises:
        UserError: too few or too many factors, one twice, or a resolution below III.
    """
    count = len(factors)
    if not FEWEST <= count <= MOST:
        raise UserError(
            f"a fractional design has {FEWEST} to {MOST} factors, got {count}"
            + ("; leave some out, or use one-factor" if count > MOST else "")
        )
    if len(set(factors)) < count:
        raise UserError(f"factors must differ, got {', '.join(factors)}")
    if resolution < LOWEST:
        raise UserError(
            f"resolution {resolution} is impossible: main effects could not be told from each "
            f"other; with {count} factors expected {_possible(count)}"
        )
    return _design(tuple(factors), _generators(count, resolution))


def numeral(resolution: int) -> str:
    """A resolution as it is written, such as IV."""
    return _NUMERALS[resolution - LOWEST]


def effect_name(effect: Effect) -> str:
    """An effect in the words of its factors: `parts`, `attention*ratio`."""
    return "*".join(effect)


def _possible(count: int) -> str:
    """The resolutions that designs of so many factors have."""
    found: dict[int, str] = {}
    for asked in range(LOWEST, count + 1):
        design = fractional_factorial([str(index) for index in range(count)], asked)
        if design.resolution is not None:
            found[design.resolution] = f"{numeral(design.resolution)} ({len(design.runs)} runs)"
    return " or ".join([*found.values(), f"the full factorial ({2**count} runs)"])


def _design(factors: tuple[str, ...], generators: Sequence[int]) -> FractionalDesign:
    basic = len(factors) - len(generators)
    letters = [
        [index for index in range(basic) if generator >> index & 1] for generator in generators
    ]
    runs = (
        (*signs, *(prod(signs[index] for index in chosen) for chosen in letters))
        for signs in product((-1, 1), repeat=basic)
    )
    words = [
        tuple(factor for index, factor in enumerate(factors) if word >> index & 1)
        for word in _words(generators, basic)
    ]
    told = [
        f"{factor} = {effect_name(tuple(factors[index] for index in chosen))}"
        for factor, chosen in zip(factors[basic:], letters, strict=True)
    ]
    order = {factor: index for index, factor in enumerate(factors)}
    words.sort(key=lambda word: (len(word), [order[factor] for factor in word]))
    return FractionalDesign(factors, tuple(runs), tuple(told), tuple(words))


def _words(generators: Sequence[int], basic: int) -> list[int]:
    """All defining words of generators, factors as bits."""
    words = [0]
    for index, generator in enumerate(generators):
        own = generator | 1 << basic + index
        words += [word ^ own for word in words]
    return words[1:]


@lru_cache
def _generators(count: int, resolution: int) -> tuple[int, ...]:
    """The generators of the best design with the fewest runs, as bits of the factors before."""
    for basic in range(FEWEST, count):
        found = _Search(count, basic, resolution).best
        if found is not None:
            return found
    return ()


class _Search:
    """Goes through all sets of generators, leaving out what cannot become the best.

    Attributes:
        best: the first set whose words are the fewest in the order of their lengths; None where
            no set has the resolution.
    """

    def __init__(self, count: int, basic: int, resolution: int) -> None:
        self.best: tuple[int, ...] | None = None
        self._pattern: list[int] = []
        self._count = count
        self._basic = basic
        self._resolution = resolution
        self._extend((), [0], list(_candidates(basic, resolution)), [0] * (count + 1))

    def _extend(
        self, chosen: tuple[int, ...], words: list[int], candidates: list[int], pattern: list[int]
    ) -> None:
        """Adds one more generator to those chosen; a pattern counts words by their length."""
        if self.best is not None and pattern >= self._pattern:
            return  # more generators only add words
        missing = self._count - self._basic - len(chosen)
        if not missing:
            self.best, self._pattern = chosen, pattern
            return
        for index, candidate in enumerate(candidates[: len(candidates) - missing + 1]):
            own = candidate | 1 << self._basic + len(chosen)
            new = [word ^ own for word in words]
            if min(map(int.bit_count, new)) >= self._resolution:
                counted = pattern.copy()
                for word in new:
                    counted[word.bit_count()] += 1
                rest = candidates[index + 1 :]
                self._extend((*chosen, candidate), words + new, rest, counted)


def _candidates(basic: int, resolution: int) -> Iterator[int]:
    """Products of basic factors that are long enough to be generators, the shortest first."""
    for size in range(resolution - 1, basic + 1):
        for letters in combinations(range(basic), size):
            yield sum(1 << letter for letter in letters)
