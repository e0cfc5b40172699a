"""Ratios as values: parsing, serialization, validation."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import preset
from partialnas.space.arch.ratio import (
    LearnedRatio,
    dump_ratio,
    fill_start_ratios,
    learned_ratio_conflict,
    parse_ratio,
)
from partialnas.space.errors import UserError

BUDGETS = st.one_of(
    st.none(),
    st.just("static"),
    st.integers(1, 10**12),
    st.fractions(0, 1).filter(lambda share: 0 < share < 1),
)
LEARNED = st.builds(
    LearnedRatio,
    method=st.sampled_from(["threshold", "gates"]),
    per=st.sampled_from(["layer", "input"]),
    grain=st.integers(1, 64),
    budget=BUDGETS,
    start=st.fractions(0, 1).filter(lambda share: 0 < share < 1),
)


def plan_with(ratio: Any, **changes: Any) -> Architecture:
    settings = {"width": 16, "depths": [1, 1, 1, 1], "ratio": ratio, **changes}
    return Plan.model_validate(settings).architecture()


@given(LEARNED)
def test_learned_ratios_round_trip(learned: LearnedRatio) -> None:
    assert parse_ratio(dump_ratio(learned)) == learned
    assert LearnedRatio.model_validate_json(learned.model_dump_json()) == learned


@pytest.mark.parametrize(
    ("written", "budget"),
    [
        ("1/4", Fraction(1, 4)),
        (0.25, Fraction(1, 4)),
        ("static", "static"),
        (2e6, 2_000_000),
        ("20000", 20_000),
        (None, None),
    ],
)
def test_budgets(written: Any, budget: Any) -> None:
    read = LearnedRatio.model_validate({"budget": written}).budget
    assert read == budget
    assert type(read) is type(budget)


@pytest.mark.parametrize(
    ("ratio", "message"),
    [
        ({"learned": {"budgets": 1}}, "learned.budgets|ratio.*budgets: unknown key"),
        ({"learned": {"budget": 0}}, "expected static, a share of the dense cost such as 1/4"),
        ({"learned": {"budget": 1.5}}, "a whole number of multiply-accumulates, got 1.5"),
        ({"learned": {"budget": "all"}}, "expected static"),
        ({"learned": {"grain": 0}}, "grain: input should be greater than or equal to 1"),
        ({"learned": {"method": "softmax"}}, "'threshold' or 'gates'"),
        ({"learned": {"per": "image"}}, "'layer' or 'input'"),
        ({"learned": {"start": 1}}, "start: input should be less than 1"),
        ({"learned": True}, "expected settings such as {learned: {budget: 1/4}}"),
        ({"learnt": {}}, "expected a share such as 1/4 or {learned: {}}"),
        (1.5, "expected a share between 0 and 1"),
    ],
)
def test_an_invalid_ratio_is_reported_with_its_path(ratio: Any, message: str) -> None:
    block = {"parts": [{"op": "conv", "ratio": ratio}, {"op": "identity"}]}
    with pytest.raises(UserError, match=r"stages\[0\]\.blocks\[0\]\.parts\[0\]\.ratio") as error:
        Architecture.from_data({"stages": [{"width": 8, "blocks": [block]}]})
    assert len(str(error.value).splitlines()) == 2
    with pytest.raises(UserError, match=message.replace("{", r"\{").replace("}", r"\}")):
        Architecture.from_data({"stages": [{"width": 8, "blocks": [block]}]})


@pytest.mark.parametrize(
    "other", [{"budget": "1/2"}, {"budget": "1/4", "method": "gates"},
              {"budget": "1/4", "per": "input"}, {}],
)  # fmt: skip
def test_learned_ratios_of_one_network_must_agree(other: dict[str, Any]) -> None:
    blocks = [
        {"parts": [{"op": "conv", "ratio": {"learned": terms}}, {"op": "identity"}]}
        for terms in ({"budget": "1/4"}, other)
    ]
    with pytest.raises(UserError, match="the same method, per and budget") as error:
        Architecture.from_data({"stages": [{"width": 16, "blocks": blocks}]})
    assert "learned (budget 1/4)" in str(error.value)
    blocks[1]["parts"][0]["ratio"] = {"learned": {"budget": "1/4", "grain": 2, "start": "1/2"}}  # type: ignore[index]
    architecture = Architecture.from_data({"stages": [{"width": 16, "blocks": blocks}]})
    assert [boundary.name for boundary in architecture.boundaries] == [
        "stage 1, block 1",
        "stage 1, block 2",
    ]
    assert learned_ratio_conflict([]) is None


def test_a_missing_start_is_taken_from_the_base() -> None:
    base = (Fraction(1, 8), Fraction(1, 2))
    ratios = fill_start_ratios((LearnedRatio(), LearnedRatio(start=Fraction(1, 3))), base)
    assert [ratio.start for ratio in ratios if isinstance(ratio, LearnedRatio)] == [
        Fraction(1, 8),
        Fraction(1, 3),
    ]
    assert fill_start_ratios((Fraction(1, 5),), base) == (Fraction(1, 5),)


def test_learned_ratios_change_the_digest_and_frozen_ones_do_not() -> None:
    assert preset("partialnet_t0").digest == "9df203511d5c61a7"
    static = plan_with("1/4")
    digests = {
        plan_with({"learned": terms}).digest
        for terms in ({}, {"grain": 2}, {"budget": "1/4"}, {"method": "gates"}, {"per": "input"})
    }
    assert len(digests | {static.digest}) == 6
    frozen = plan_with({"learned": {}})
    places = [(stage, 0) for stage in range(4)]
    sizes = {place: (4 * 2 ** place[0], 12 * 2 ** place[0]) for place in places}
    assert frozen.frozen(sizes).digest == static.digest
    with pytest.raises(UserError, match="stage 4, block 1: its sizes are missing"):
        frozen.frozen({place: sizes[place] for place in places[:3]})
