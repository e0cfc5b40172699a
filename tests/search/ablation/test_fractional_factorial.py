"""Fractional designs compared with published designs and with their own contrast columns."""

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.search.ablation.fractional_factorial import FractionalDesign, fractional_factorial
from partialnas.space.errors import UserError

LETTERS = "ABCDEFGHJKL"

# (number of factors, requested resolution): (number of generated factors, resolution, number of
# defining words of length 3, 4, ...) of the published minimum aberration design
# (Chen, Sun and Wu, International Statistical Review 1993; Box, Hunter and Hunter 2005).
PUBLISHED = {
    (3, 3): (1, 3, [1]),
    (4, 3): (1, 4, [0, 1]),
    (5, 3): (2, 3, [2, 1, 0]),
    (5, 5): (1, 5, [0, 0, 1]),
    (6, 3): (3, 3, [4, 3, 0, 0]),
    (6, 4): (2, 4, [0, 3, 0, 0]),
    (6, 5): (1, 6, [0, 0, 0, 1]),
    (7, 3): (4, 3, [7, 7, 0, 0, 1]),
    (7, 4): (3, 4, [0, 7, 0, 0, 0]),
    (7, 5): (1, 7, [0, 0, 0, 0, 1]),
    (8, 4): (4, 4, [0, 14, 0, 0, 0, 1]),
    (8, 5): (2, 5, [0, 0, 2, 1, 0, 0]),
    (9, 3): (5, 3, [4, 14, 8, 0, 4, 1, 0]),
    (9, 4): (4, 4, [0, 6, 8, 0, 0, 1, 0]),
    (9, 5): (2, 6, [0, 0, 0, 3, 0, 0, 0]),
    (10, 3): (6, 3, [8, 18, 16, 8, 8, 5, 0, 0]),
    (10, 4): (5, 4, [0, 10, 16, 0, 0, 5, 0, 0]),
    (10, 5): (3, 5, [0, 0, 3, 3, 1, 0, 0, 0]),
    (11, 3): (7, 3, [12, 26, 28, 24, 20, 13, 4, 0, 0]),
    (11, 4): (6, 4, [0, 25, 0, 27, 0, 10, 0, 1, 0]),
    (11, 5): (4, 5, [0, 0, 6, 6, 2, 1, 0, 0, 0]),
}


def column(design: FractionalDesign, effect: Sequence[str]) -> list[int]:
    """Return the contrast of an effect: the product of its factors in each run."""
    return [prod(run[design.factors.index(name)] for name in effect) for run in design.runs]


def word_lengths(design: FractionalDesign) -> list[int]:
    """Return the number of defining words of length 3, 4, ..., up to the number of factors."""
    lengths = [len(word) for word in design.defining_words]
    return [lengths.count(length) for length in range(3, len(design.factors) + 1)]


def aliases_of(design: FractionalDesign, effect: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the other effects of an effect's alias set."""
    (aliased,) = (group for group in design.alias_sets if effect in group)
    return [other for other in aliased if other != effect]


def constant_products(runs: Sequence[Sequence[int]], factors: str) -> Iterator[tuple[str, ...]]:
    """Yield every product of factors that is +1 in all runs."""
    for size in range(1, len(factors) + 1):
        for chosen in combinations(range(len(factors)), size):
            if all(prod(run[index] for index in chosen) == 1 for run in runs):
                yield tuple(factors[index] for index in chosen)


@pytest.mark.parametrize("case", PUBLISHED)
def test_designs_are_the_published_ones(case: tuple[int, int]) -> None:
    count, resolution = case
    generated, reached, lengths = PUBLISHED[case]
    design = fractional_factorial(LETTERS[:count], resolution)
    assert len(design.generators) == generated
    assert len(design.runs) == len(set(design.runs)) == 2 ** (count - generated)
    assert design.resolution == reached
    assert word_lengths(design) == lengths


@pytest.mark.parametrize("case", [case for case in PUBLISHED if case[0] < 10])
def test_defining_words_are_the_products_that_are_plus_one_in_all_runs(
    case: tuple[int, int],
) -> None:
    factors = LETTERS[: case[0]]
    design = fractional_factorial(factors, case[1])
    words = list(constant_products(design.runs, factors))
    assert list(design.defining_words) == words
    assert len(words) == 2 ** len(design.generators) - 1
    for generator in design.generators:
        generated, letters = generator.split(" = ")
        assert column(design, [generated]) == column(design, letters.split("*"))


@given(st.integers(2, 8), st.integers(3, 6))
def test_aliased_contrasts_are_equal_and_all_others_orthogonal(count: int, resolution: int) -> None:
    design = fractional_factorial(LETTERS[:count], resolution)
    effects = [effect for size in (1, 2) for effect in combinations(design.factors, size)]
    columns = {effect: column(design, effect) for effect in effects}
    together = {effect: {effect, *aliases_of(design, effect)} for effect in effects}
    for one, other in product(effects, effects):
        dot = sum(a * b for a, b in zip(columns[one], columns[other], strict=True))
        assert dot == (len(design.runs) if other in together[one] else 0)
    assert sorted(effect for group in design.alias_sets for effect in group) == sorted(effects)


@pytest.mark.parametrize("count", range(3, 7))
@pytest.mark.parametrize("resolution", [3, 4, 5])
def test_no_other_choice_of_generators_is_better(count: int, resolution: int) -> None:
    design = fractional_factorial(LETTERS[:count], resolution)
    expected = (len(design.runs), word_lengths(design))
    others = [
        (2**basic, lengths)
        for basic in range(2, count)
        for lengths in all_word_lengths(count, basic)
        if not any(lengths[: resolution - 3])
    ]
    assert expected == min([*others, (2**count, [0] * (count - 2))])


def all_word_lengths(count: int, basic: int) -> Iterator[list[int]]:
    """Yield the word lengths of every regular design without aliased main effects."""
    products = [
        letters for size in range(2, basic + 1) for letters in combinations(range(basic), size)
    ]
    for generators in combinations(products, count - basic):
        runs = [
            (*signs, *(prod(signs[i] for i in letters) for letters in generators))
            for signs in product((-1, 1), repeat=basic)
        ]
        lengths = [len(word) for word in constant_products(runs, LETTERS[:count])]
        yield [lengths.count(length) for length in range(3, count + 1)]


def test_aliases_of_the_quarter_fraction_of_five_factors() -> None:
    design = fractional_factorial(["parts", "ratio", "attention", "width", "mixup"], 3)
    assert design.generators == ("width = parts*ratio", "mixup = parts*attention")
    assert design.defining_words[-1] == ("ratio", "attention", "width", "mixup")
    assert design.aliases == (
        "parts = ratio*width = attention*mixup",
        "ratio = parts*width",
        "attention = parts*mixup",
        "width = parts*ratio",
        "mixup = parts*attention",
        "ratio*attention = width*mixup",
        "ratio*mixup = attention*width",
    )
    assert str(design) == (
        "fractional factorial 2^(5-2), resolution III: 8 runs, "
        "width = parts*ratio, mixup = parts*attention"
    )
    assert aliases_of(design, ("attention", "mixup")) == [("parts",), ("ratio", "width")]


def test_aliases_of_the_saturated_design_of_seven_factors() -> None:
    design = fractional_factorial("ABCDEFG", 3)
    assert design.generators == ("D = A*B", "E = A*C", "F = B*C", "G = A*B*C")
    assert design.aliases == (
        "A = B*D = C*E = F*G",
        "B = A*D = C*F = E*G",
        "C = A*E = B*F = D*G",
        "D = A*B = C*G = E*F",
        "E = A*C = B*G = D*F",
        "F = A*G = B*C = D*E",
        "G = A*F = B*E = C*D",
    )


def test_resolution_four_does_not_alias_main_effects_with_interactions() -> None:
    design = fractional_factorial("ABCDEFGH", 4)
    assert all(aliases_of(design, (factor,)) == [] for factor in design.factors)
    assert len(design.aliases) == 7
    assert all(len(one.split(" = ")) == 4 for one in design.aliases)
    assert fractional_factorial("ABCDE", 5).aliases == ()


@given(st.integers(2, 11), st.integers(3, 4))
def test_levels_are_balanced_and_the_all_plus_run_is_included(count: int, resolution: int) -> None:
    design = fractional_factorial(LETTERS[:count], resolution)
    assert (1,) * count in design.runs
    assert all(sum(levels) == 0 for levels in zip(*design.runs, strict=True))


@pytest.mark.parametrize(("count", "resolution"), [(2, 3), (2, 5), (3, 4), (4, 5), (6, 7)])
def test_the_full_factorial_is_returned_if_no_fraction_has_the_resolution(
    count: int, resolution: int
) -> None:
    design = fractional_factorial(LETTERS[:count], resolution)
    assert sorted(design.runs) == sorted(product((-1, 1), repeat=count))
    assert (design.resolution, design.generators, design.defining_words) == (None, (), ())
    assert design.aliases == ()
    assert str(design) == f"full factorial 2^{count}: {2**count} runs, nothing aliased"


@pytest.mark.parametrize(
    ("factors", "resolution", "message"),
    [
        (
            "ABCDEFG",
            2,
            r"III \(8 runs\) or IV \(16 runs\) or VII \(64 runs\) or the full factorial",
        ),
        ("AB", 1, r"with 2 factors, choose the full factorial \(4 runs\)"),
        ("A", 3, "2 to 11 factors, got 1$"),
        ("ABCDEFGHJKLM", 3, "2 to 11 factors, got 12; remove some factors"),
        ("ABA", 3, "duplicate factor names: A, B, A"),
    ],
)
def test_impossible_designs_are_rejected(factors: str, resolution: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fractional_factorial(factors, resolution)
