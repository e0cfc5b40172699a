"""Warnings and errors of spaces."""

import pytest
import yaml

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.spec import SpaceSpec
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError
from partialnas.space.search_space.advice import space_warnings
from partialnas.space.search_space.space import Space


def warn(axes: str, resolution: int = 64, constraints: str = "{}", **base: object) -> list[str]:
    spec = SpaceSpec(axes=yaml.safe_load(axes), constraints=yaml.safe_load(constraints))
    plan = Plan(**{"width": 16, "depths": (1, 1, 2, 1), **base})
    return space_warnings(Space(plan, spec, InputSpec.square(resolution)))


def test_a_good_space_has_no_warnings() -> None:
    axes = """{
        width: [8, 16],
        parts: {values: [1, 2], per: stage},
        ratio: {values: [1/4, 1/2], per: stage},
        attention: [none, {self: stage 4}],
        heads: [1, 2],
        pat_sp: [false, true],
    }"""
    assert warn(axes) == []


def test_an_axis_with_one_level() -> None:
    (line,) = warn("{width: [8]}")
    assert line.startswith("space.axes.width: has only one level")


@pytest.mark.parametrize(
    ("axes", "start", "reason"),
    [
        ("{ratio_2: [1/4, 1/8]}", "space.axes.ratio_2", "a block has 3 parts in none"),
        ("{operation_3: [pool, conv]}", "space.axes.operation_3", "a block has 3 parts in none"),
        ("{heads: [1, 2]}", "space.axes.heads", "there is self-attention in none of"),
        ("{attention: [none, channel], operations: [[conv, pool], [conv, identity]]}",
         "space.axes.attention", "a part uses the block's attention in none of"),
        ("{parts: [1, 3], width: [8, 16], mlp_ratio: {values: [1, 3], when: {ratio: [1/4]}},"
         " ratio: {values: [1/4, 1/8], when: {pat_sp: [true]}},"
         " pat_sp: {values: [true, stage 1], when: {activation: [relu]}},"
         " activation: {values: [relu, gelu], when: {width: [8]}},"
         " head_width: {values: [8, 9], when: {heads: [1]}}, heads: [1, 2]}",
         "space.axes.head_width", "its condition is met in none of"),
    ],
)  # fmt: skip
def test_an_axis_that_is_never_active(axes: str, start: str, reason: str) -> None:
    lines = [line for line in warn(axes) if line.startswith(start)]
    assert len(lines) == 1
    assert "probably has no effect" in lines[0]
    assert reason in lines[0]


def test_an_axis_without_effect() -> None:
    (line,) = warn("{operations: [[conv, pool], [conv, pool, conv]], width: [8, 16]}")
    assert line.startswith("space.axes.operations: probably has no effect")
    assert "gave a different network" in line


def test_a_level_that_cannot_be_built() -> None:
    (line,) = warn("{ratio: [1/64, 1/4, 1/2]}", width=8)
    assert line == "space.axes.ratio: 1/64 occurs in none of 200 random networks that can be built"


def test_self_attention_on_a_single_position() -> None:
    axes = "{attention: [none, {self: stage 4}], stem_stride: [2, 4]}"
    (line,) = warn(axes, resolution=32)
    assert line.startswith("self-attention in stage 4 with stem stride 4 has no effect")
    assert "1x1 map" in line
    assert warn(axes, resolution=64) == []


def test_a_large_share_of_invalid_combinations() -> None:
    axes = """{
        ratio: {values: [1/4, 3/4], per: stage},
        ratio_2: {values: [1/8, 1/2, 5/8], per: stage},
    }"""
    (line,) = warn(axes, parts=3)
    # 1/4 fits with all three, 3/4 with 1/8 only: four of six in each of four stages
    assert line.startswith(f"{1 - (4 / 6) ** 4:.0%} of the combinations cannot be built")
    assert "leave nothing" in line


RATIOS = "ratio: {values: [1/4, 1/2, 3/4], per: stage}"


def macs_of(width: int, ratio: str, depths: tuple[int, ...]) -> int:
    network = Plan(width=width, depths=depths, ratio=(ratio,)).architecture()
    return compute_cost(network, InputSpec.square(64)).macs


@pytest.mark.parametrize("depths", [(1, 1, 1, 1), (2, 3, 6, 3)])
def test_levels_that_no_network_within_the_constraints_has(depths: tuple[int, ...]) -> None:
    blocks = "" if max(depths) == 1 else ", mlp_ratio: {values: [2, 3, 4], per: block}"
    axes = f"{{width: [8, 12, 16], activation: [relu, gelu], {RATIOS}{blocks}}}"
    exact = not blocks
    cheapest = {width: macs_of(width, "1/4", depths) for width in (8, 12, 16)}
    assert cheapest[8] < cheapest[12] < cheapest[16]
    for width, outside in ((8, "12 or 16"), (12, "16"), (16, "")):
        lines = warn(axes, constraints=f"{{macs: {{max: {cheapest[width]}}}}}", depths=depths)
        widths = [line for line in lines if "axes.width" in line]
        assert bool(widths) == bool(outside)
        for line in widths:
            how = "is" if exact else "was found"
            assert f"no network with {outside} {how} within macs <= " in line


def test_a_level_that_constraints_exclude_in_some_stages_only_is_not_named() -> None:
    axes, depths = f"{{{RATIOS}}}", (1, 1, 1, 1)
    plain = Plan(width=16, depths=depths, ratio=("1/4",)).architecture()
    limit = compute_cost(plain, InputSpec.square(64)).macs
    (line,) = warn(axes, constraints=f"{{macs: {{max: {limit}}}}}", depths=depths)
    assert "axes.ratio: no network with 1/2 or 3/4 is within" in line
    tall = InputSpec.square(64)
    one = {
        stage: compute_cost(
            Plan(width=16, depths=depths, ratio=("1/4",))
            .architecture(lambda s, _, stage=stage: {"ratio": ("3/4",)} if s == stage else {}),
            tall,
        ).macs
        for stage in range(4)
    }  # fmt: skip
    assert warn(axes, constraints=f"{{macs: {{max: {min(one.values())}}}}}", depths=depths) == []


def test_unsatisfiable_constraints_are_an_error() -> None:
    with pytest.raises(UserError, match="constraints: no network of this space satisfies them"):
        warn("{width: [8, 16]}", constraints="{macs: {max: 10}}")


@pytest.mark.parametrize(
    ("axes", "base", "path"),
    [
        ("{ratio: [1/4, {learned: {}}]}", {}, "space.axes.ratio: learned: a constraint on macs"),
        ("{ratio_2: [1/4, {learned: {grain: 2}}]}", {"parts": 3},
         "space.axes.ratio_2: learned (grain 2): a constraint on macs"),
        ("{width: [16, 32]}", {"ratio": {"learned": {}}}, "base.ratio: a constraint on macs"),
        ("{parts: [2, 3]}", {"ratio": ["1/4", {"learned": {}}]},
         "base.ratio[1]: a constraint on macs"),
        ("{ratio: {values: [1/4], when: {width: [16]}}, width: [16, 32]}",
         {"ratio": {"learned": {}}}, "base.ratio: a constraint on macs"),
    ],
)  # fmt: skip
def test_a_macs_constraint_requires_a_budget(axes: str, base: dict[str, object], path: str) -> None:
    with pytest.raises(UserError) as error:
        warn(axes, constraints="{macs: {max: 20M}}", **base)
    assert path in str(error.value)
    assert "{learned: {budget: 1/4}}" in str(error.value)
    Space(
        Plan.model_validate({"width": 16, "depths": (1, 1, 2, 1), **base}),
        SpaceSpec(axes=yaml.safe_load(axes), constraints=yaml.safe_load("{params: {max: 20M}}")),
        InputSpec.square(64),
    )


def test_a_learned_base_ratio_replaced_by_an_axis_requires_no_budget() -> None:
    base = {"ratio": {"learned": {}}}
    assert warn("{ratio: [1/4, 1/2]}", constraints="{macs: {max: 20M}}", **base) == []


def test_one_axis_within_a_network_has_one_budget() -> None:
    values = "[1/4, {learned: {budget: 1/4}}, {learned: {budget: 1/2}}]"
    with pytest.raises(
        UserError, match=r"space\.axes\.ratio: learned ratios .* the same method"
    ) as error:
        warn(f"{{ratio: {{values: {values}, per: stage}}}}")
    assert "use per: network" in str(error.value)
    assert warn(f"{{ratio: {values}}}") == []


def test_an_unknown_key_under_learned_is_reported_with_its_path() -> None:
    axes = {"ratio": ["1/4", {"learned": {"budgets": "1/4"}}]}
    with pytest.raises(UserError, match=r"space\.axes\.ratio\[1\]: learned\.budgets: unknown key"):
        Space.from_data({"space": {"axes": axes}}, InputSpec.square(32))


def test_an_unreachable_budget_is_an_error() -> None:
    with pytest.raises(UserError, match=r"out of reach: expected a share from 0\.\d+ to below 1"):
        warn("{ratio: [{learned: {budget: 1/10000}}, {learned: {budget: 1/9999}}]}")
