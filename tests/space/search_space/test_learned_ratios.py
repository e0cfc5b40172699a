"""Spaces with learned ratios, at every granularity."""

import random
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.spec import SpaceSpec
from partialnas.space.errors import UserError
from partialnas.space.search_space.space import Space

LEARNED = {"learned": {"budget": "1/4"}}


def space_of(axes: dict[str, Any], constraints: Any = None, **base: Any) -> Space:
    plan = {"width": 8, "depths": (1, 1, 2, 1), "stem_stride": 2, "head_width": 8, **base}
    spec = SpaceSpec.model_validate({"axes": axes, "constraints": constraints or {}})
    return Space(Plan.model_validate(plan), spec, InputSpec.square(32, classes=10))


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    per = draw(st.sampled_from(["network", "stage", "block"]))
    terms = draw(st.sampled_from([{}, {"budget": "1/3"}, {"method": "gates", "budget": "static"}]))
    axes: dict[str, Any] = {
        "ratio": {"values": ["1/4", "1/2", {"learned": terms}], "per": per},
        "width": [8, 12],
    }
    if draw(st.booleans()):
        axes["attention"] = ["none", "channel"]
    if draw(st.booleans()):
        axes["parts"] = {"values": [2, 3], "per": draw(st.sampled_from(["network", "stage"]))}
    constraints = {"macs": {"max": "3M"}} if terms and draw(st.booleans()) else None
    return space_of(axes, constraints)


@settings(max_examples=25, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_points_round_trip(space: Space, seed: int) -> None:
    rng = random.Random(seed)
    point = space.sample(rng)
    architecture = space.architecture(point)
    assert space.contains(point)
    assert Architecture.from_json(architecture.to_json()).digest == architecture.digest
    located = space.locate(architecture)
    assert located is not None
    assert space.architecture(located).digest == architecture.digest
    assert space.decode(space.encode(point)) == point
    fixed = optuna.trial.FixedTrial(space.optuna_params(architecture))
    assert space.architecture(space.suggest(fixed)).digest == architecture.digest
    near = list(space.neighbors(point))
    digests = {space.architecture(one).digest for one in near}
    assert len(digests) == len(near)
    assert architecture.digest not in digests
    assert all(space.contains(one) for one in near)
    learns = [name for name, label in point.items() if str(label).startswith("learned")]
    assert bool(learns) == (architecture.learned is not None)


def test_all_networks_of_a_small_space_are_enumerated() -> None:
    space = space_of({"ratio": {"values": ["1/4", LEARNED], "per": "stage"}})
    points = space.enumerate()
    assert len(points) == 16
    assert str(space.size()) == "16 points, 16 distinct networks"
    learned = [space.architecture(point).learned for point in points]
    assert sum(terms is not None for terms in learned) == 15


def test_a_learned_ratio_starts_from_the_ratio_of_the_base() -> None:
    space = space_of({"ratio": ["1/2", {"learned": {"grain": 2}}]}, ratio="1/2")
    architecture = space.architecture({"ratio": "learned (grain 2)"})
    assert architecture.learned is not None
    assert [block.parts[0].channels for (block, *_) in architecture.realized] == [4, 8, 16, 32]


def test_networks_with_an_unreachable_budget_are_infeasible() -> None:
    # at width 8 the grain leaves no less than 8.4 % of the dense cost
    space = space_of({"ratio": ["1/4", {"learned": {"budget": "1/20"}}], "width": [8, 32]})
    small, large = ({"ratio": "learned (budget 1/20)", "width": width} for width in (8, 32))
    assert "budget 1/20 of the learned ratios is out of reach" in str(
        space.infeasibility_reason(small)
    )
    assert space.infeasibility_reason(large) is None
    assert not space.contains(small)
    assert space.locate(space.architecture(small)) is None
    assert list(space.neighbors({"ratio": "1/4", "width": 8})) == [{"ratio": "1/4", "width": 32}]
    assert len(space.enumerate()) == 3
    assert space.size().points == 3
    drawn = [space.sample(random.Random(seed)) for seed in range(40)]
    assert all(space.contains(point) for point in drawn)
    assert len(set(map(str, drawn))) == 3
    with pytest.raises(UserError, match="out of reach"):
        space.cost(space.architecture(small))


def test_networks_with_different_budgets_are_infeasible() -> None:
    space = space_of(
        {
            "ratio": ["1/4", LEARNED],
            "ratio_2": ["1/4", {"learned": {"budget": "1/2"}}, {"learned": {"budget": "1/4"}}],
        },
        parts=3,
    )
    clash = {"ratio": "learned (budget 1/4)", "ratio_2": "learned (budget 1/2)"}
    assert "the same method, per, grain and budget" in str(space.infeasibility_reason(clash))
    assert len(space.enumerate()) == 5
    mixed = space_of(
        {"ratio": {"values": ["1/4", {"learned": {"budget": "1/2"}}], "per": "stage",
                   "when": {"activation": ["gelu"]}}, "activation": ["gelu", "relu"]},
        ratio=LEARNED,
    )  # fmt: skip
    assert all(mixed.contains(mixed.sample(random.Random(seed))) for seed in range(20))
