"""Two-level fractional factorial designs and their alias structure.

A 2^(k-p) design varies k - p basic factors in all combinations. Each of the other p factors is the
product of some basic factors (its generator). Products of factors that are +1 in every run are the
defining words; the length of the shortest is the resolution. Among all designs of the same size,
the one with minimum aberration is used: the fewest short words (Fries and Hunter, Technometrics
1980).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import prod

from partialnas.space.errors import UserError

MIN_FACTORS, MAX_FACTORS = 2, 11

MIN_RESOLUTION = 3
"""At a lower resolution, main effects are aliased with each other."""

Effect = tuple[str, ...]
"""The factors of an effect: one for a main effect, two for a two-factor interaction."""

_NUMERALS = ("III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")


@dataclass(frozen=True)
class FractionalDesign:
    """A two-level design.

    Attributes:
        factors: names of the factors.
        runs: level (-1 or +1) of every factor in each run, in the order of `factors`; the run with
            all factors at +1 is included.
        generators: definitions of the generated factors, such as `e = a*b*c*d`.
        defining_words: products that are +1 in every run, the shortest first; empty for a full
            factorial design.
    """

    factors: tuple[str, ...]
    runs: tuple[tuple[int, ...], ...]
    generators: tuple[str, ...]
    defining_words: tuple[Effect, ...]

    @property
    def resolution(self) -> int | None:
        """Length of the shortest defining word, or None for a full factorial design."""
        return len(self.defining_words[0]) if self.defining_words else None

    @property
    def alias_sets(self) -> tuple[tuple[Effect, ...], ...]:
        """Main effects and two-factor interactions, grouped by what cannot be distinguished."""
        words = [frozenset(word) for word in self.defining_words]
        sets: dict[frozenset[frozenset[str]], list[Effect]] = defaultdict(list)
        for size in (1, 2):
            for effect in combinations(self.factors, size):
                letters = frozenset(effect)
                sets[frozenset([letters, *(letters ^ word for word in words)])].append(effect)
        return tuple(map(tuple, sets.values()))

    @property
    def aliases(self) -> tuple[str, ...]:
        """Alias sets of more than one effect, such as `parts = attention*ratio`."""
        return tuple(" = ".join(map(effect_name, one)) for one in self.alias_sets if len(one) > 1)

    def __str__(self) -> str:
        count, runs = len(self.factors), len(self.runs)
        if self.resolution is None:
            return f"full factorial 2^{count}: {runs} runs, nothing aliased"
        notation = f"2^({count}-{len(self.generators)}), resolution {numeral(self.resolution)}"
        return f"fractional factorial {notation}: {runs} runs, {', '.join(self.generators)}"


def fractional_factorial(factors: Sequence[str], resolution: int) -> FractionalDesign:
    """Return the smallest two-level design that has at least a given resolution.

    If no fraction has it, this is the full factorial design.

    Raises:
        UserError: too few, too many or duplicate factors, or a resolution below III.
    """
    count = len(factors)
    if not MIN_FACTORS <= count <= MAX_FACTORS:
        raise UserError(
            f"a fractional design needs {MIN_FACTORS} to {MAX_FACTORS} factors, got {count}"
            + ("; remove some factors, or use design: one-factor" if count > MAX_FACTORS else "")
        )
    if len(set(factors)) < count:
        raise UserError(f"duplicate factor names: {', '.join(factors)}")
    if resolution < MIN_RESOLUTION:
        raise UserError(
            f"invalid resolution {resolution}: main effects would be aliased with each other; with "
            f"{count} factors, choose {_available(count)}"
        )
    return _design(tuple(factors), _generators(count, resolution))


def numeral(resolution: int) -> str:
    """Return a resolution as a Roman numeral, such as IV."""
    return _NUMERALS[resolution - MIN_RESOLUTION]


def effect_name(effect: Effect) -> str:
    """Return the name of an effect: `parts`, `attention*ratio`."""
    return "*".join(effect)


def _available(count: int) -> str:
    """Return the resolutions of designs with `count` factors, as text."""
    options: dict[int, str] = {}
    for resolution in range(MIN_RESOLUTION, count + 1):
        design = fractional_factorial([str(index) for index in range(count)], resolution)
        if design.resolution is not None:
            options[design.resolution] = f"{numeral(design.resolution)} ({len(design.runs)} runs)"
    return " or ".join([*options.values(), f"the full factorial ({2**count} runs)"])


def _design(factors: tuple[str, ...], generators: Sequence[int]) -> FractionalDesign:
    basic = len(factors) - len(generators)
    letters = [[index for index in range(basic) if word >> index & 1] for word in generators]
    runs = (
        (*signs, *(prod(signs[index] for index in indices) for indices in letters))
        for signs in product((-1, 1), repeat=basic)
    )
    positions = [
        [index for index in range(len(factors)) if word >> index & 1]
        for word in _words(generators, basic)
    ]
    positions.sort(key=lambda indices: (len(indices), indices))
    words = (tuple(factors[index] for index in indices) for indices in positions)
    definitions = [
        f"{factor} = {effect_name(tuple(factors[index] for index in indices))}"
        for factor, indices in zip(factors[basic:], letters, strict=True)
    ]
    return FractionalDesign(factors, tuple(runs), tuple(definitions), tuple(words))


def _words(generators: Sequence[int], basic: int) -> list[int]:
    """Return all defining words of generators, as bit masks of factors."""
    words = [0]
    for index, generator in enumerate(generators):
        defining = generator | 1 << basic + index
        words += [word ^ defining for word in words]
    return words[1:]


@lru_cache
def _generators(count: int, resolution: int) -> tuple[int, ...]:
    """Return the generators of the best smallest design, as bit masks of basic factors."""
    for basic in range(MIN_FACTORS, count):
        best = _Search(count, basic, resolution).best
        if best is not None:
            return best
    return ()


class _Search:
    """Branch-and-bound search over sets of generators.

    Attributes:
        best: the first set with minimum aberration, or None if no set has the resolution.
    """

    def __init__(self, count: int, basic: int, resolution: int) -> None:
        self.best: tuple[int, ...] | None = None
        self._best_pattern: list[int] = []
        self._count, self._basic, self._resolution = count, basic, resolution
        self._extend((), [0], list(_candidates(basic, resolution)), [0] * (count + 1))

    def _extend(
        self, chosen: tuple[int, ...], words: list[int], candidates: list[int], pattern: list[int]
    ) -> None:
        """Try each further generator; `pattern` counts the words by length."""
        if self.best is not None and pattern >= self._best_pattern:
            return  # more generators only add words
        missing = self._count - self._basic - len(chosen)
        if not missing:
            self.best, self._best_pattern = chosen, pattern
            return
        for index, candidate in enumerate(candidates[: len(candidates) - missing + 1]):
            defining = candidate | 1 << self._basic + len(chosen)
            new = [word ^ defining for word in words]
            if min(map(int.bit_count, new)) >= self._resolution:
                counts = pattern.copy()
                for word in new:
                    counts[word.bit_count()] += 1
                rest = candidates[index + 1 :]
                self._extend((*chosen, candidate), words + new, rest, counts)


def _candidates(basic: int, resolution: int) -> Iterator[int]:
    """Yield products of basic factors that are long enough to be generators, shortest first."""
    for size in range(resolution - 1, basic + 1):
        for letters in combinations(range(basic), size):
            yield sum(1 << letter for letter in letters)
