"""Sizes compared with closed forms and enumeration, and the limit of enumeration."""

import random

import pytest

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.spec import SpaceSpec
from partialnas.space.errors import UserError
from partialnas.space.search_space.size import SpaceSize
from partialnas.space.search_space.space import Space


def space(axes: object, constraints: object = None, **base: object) -> Space:
    spec = SpaceSpec(axes=axes, constraints=constraints or {})
    return Space(Plan(**{"width": 32, **base}), spec, InputSpec.square(32))


def per_block(*values: object) -> dict[str, object]:
    return {"values": values, "per": "block"}


def per_stage(*values: object) -> dict[str, object]:
    return {"values": values, "per": "stage"}


def test_independent_choices_multiply() -> None:
    large = space(
        {"mlp_ratio": per_block(1, 2, 3), "pat_sp": per_stage(False, True), "stem_stride": [1, 2]}
    )
    assert large.size() == SpaceSize(points=2 * 2**4 * 3**13, combinations=2 * 2**4 * 3**13)
    assert "distinct networks" in str(large.size())


def test_depths_determine_the_number_of_choices() -> None:
    deep = space({"depth": per_stage(1, 2, 3), "mlp_ratio": per_block(1, 2)})
    assert deep.size().points == (2 + 4 + 8) ** 4


def test_a_ratio_is_active_only_if_its_part_exists() -> None:
    split = space(
        {
            "parts": per_block(1, 2, 3),
            "ratio": per_block("1/8", "1/4"),
            "ratio_2": per_block("1/8", "1/4", "1/2"),
        }
    )
    assert split.size().points == (1 + 2 + 2 * 3) ** 13


def test_a_coarse_choice_is_active_if_a_block_uses_it() -> None:
    heads = space({"attention": per_block("none", "self"), "heads": [1, 2, 4]})
    assert heads.size().points == 3 * (2**13 - 1) + 1
    ratio = space({"parts": per_stage(1, 2), "ratio": ["1/8", "1/4", "1/2"]})
    assert ratio.size().points == 3 * (2**4 - 1) + 1


def test_invalid_combinations_are_not_counted() -> None:
    narrow = space({"ratio": per_block("1/16", "1/4")}, width=8, depths=(1, 2, 3, 4))
    # 1/16 of 8 channels is none, of 16 or more it is at least one
    assert narrow.size() == SpaceSize(points=2 ** (2 + 3 + 4), combinations=2**10)


def test_conditions_are_counted() -> None:
    conditional = space({
        "attention": ["none", "channel", "self"],
        "mlp_ratio": {"values": [1, 3], "per": "block", "when": {"attention": ["self"]}},
    })  # fmt: skip
    assert conditional.size().points == 2 + 2**13


def test_distinct_networks_of_small_spaces_are_counted() -> None:
    # without attention in it, the last stage's mixer does not depend on the placement
    placed = space(
        {"attention": ["none", "self"], "operations": [["conv", "identity"], ["conv", "attention"]]}
    )
    assert placed.size() == SpaceSize(points=3, combinations=3, networks=2)
    assert str(placed.size()) == "3 points, 2 distinct networks"
    assert len(placed.enumerate()) == 2


@pytest.mark.parametrize("depths", [(1, 1, 1, 1), (2, 3, 3, 2)])
def test_the_share_within_constraints_is_stated(depths: tuple[int, ...]) -> None:
    axes, base = {"mlp_ratio": per_block(1, 2)}, {"width": 4, "depths": depths}
    free = space(axes, **base)
    costs = sorted(free.cost(free.architecture(point)).macs for point in free.enumerate())
    bound = costs[len(costs) // 3]
    bounded = space(axes, {"macs": {"max": bound}}, **base)
    text = bounded.size().text(str(bounded.constraints))
    count = sum(cost <= bound for cost in costs)
    if len(costs) == 2**4:
        assert text == f"16 points, {count} within {bounded.constraints}, {count} distinct networks"
    else:
        assert text.startswith(f"{len(costs):,} points, about ")
        assert f"within {bounded.constraints} (estimated" in text
    assert free.size().text("") == str(free.size())


def test_bounds_are_shown_as_they_are_written() -> None:
    bounds = {"params": {"min": "1234567"}, "macs": {"min": "20k", "max": "1.5G"}}
    text = str(space({"width": [4, 8]}, bounds).constraints)
    assert text == "params >= 1.234567M and macs >= 20k and macs <= 1.5G"


def test_estimates_are_marked_and_close() -> None:
    axes, base = {"mlp_ratio": per_block(1, 2)}, {"width": 4, "depths": (2, 3, 3, 2)}
    free = space(axes, **base)
    costs = sorted(free.cost(free.architecture(point)).macs for point in free.enumerate())
    bounds = {"macs": {"max": costs[len(costs) // 3]}}
    true = sum(macs <= bounds["macs"]["max"] for macs in costs)
    size = space(axes, bounds, **base).size()
    assert not size.exact
    assert 0 < size.error < 0.3
    assert abs(size.points - true) < 4 * size.error * true
    assert str(size).startswith("about")
    assert "estimate" in str(size)


def test_an_uncountable_space_is_estimated() -> None:
    names = [f"operation_{number}" for number in range(1, 7)]
    shares = {f"ratio_{number}": per_stage("1/16", "1/8") for number in range(2, 6)}
    operations = {name: per_stage("conv", "channel", "pool", "spatial") for name in names}
    large = space({**operations, **shares, "ratio": per_stage("1/16", "1/8")}, parts=6)
    size = large.size()
    truth = (4**6 * 2**5) ** 4
    assert not size.exact
    assert abs(size.points / truth - 1) < 4 * max(size.error, 0.01)


def test_enumeration_is_limited() -> None:
    large = space({"mlp_ratio": per_block(1, 2)})
    with pytest.raises(UserError, match=r"too large to enumerate \(limit 100\): 8,192 points"):
        large.enumerate(limit=100)
    small = space({"mlp_ratio": per_stage(1, 2)})
    assert len(small.enumerate(limit=16)) == 16


def test_enumerated_points_satisfy_the_constraints() -> None:
    axes = {"mlp_ratio": per_stage(1, 2), "width": [4, 8]}
    free = space(axes, depths=(1, 1, 1, 1))
    rng = random.Random(0)
    bound = free.cost(free.architecture(free.sample(rng))).params
    bounded = space(axes, {"params": {"max": bound}}, depths=(1, 1, 1, 1))
    inside = {
        free.architecture(p).digest
        for p in free.enumerate()
        if free.cost(free.architecture(p)).params <= bound
    }
    assert {bounded.architecture(point).digest for point in bounded.enumerate()} == inside
    assert bounded.size().networks == len(inside)
