"""Plans: notation of papers, per-block settings, validation."""

import pytest
from pydantic import ValidationError

from partialnas.space.arch.plan import Plan, parse_stages
from partialnas.space.arch.presets import PRESETS, preset, preset_plan
from partialnas.space.errors import UserError


def mixers(plan: Plan) -> list[list[str]]:
    return [
        ["+".join(part.op for part in block.parts) for block in blocks]
        for blocks in plan.architecture().realized
    ]


def test_attention_placement() -> None:
    plan = Plan(attention={"channel": "stages 1-3", "self": "stage 4"}, depths=(1, 1, 2, 1))
    assert mixers(plan) == [["conv+channel"]] * 2 + [["conv+channel"] * 2, ["conv+self"]]
    assert mixers(Plan(attention="none", depths=(1, 1, 1, 1))) == [["conv+identity"]] * 4
    assert Plan(pat_sp="stages 1-2, 4").pat_sp == (True, True, False, True)


def test_stages_count_from_one() -> None:
    assert parse_stages("stages 1-3") == [0, 1, 2]
    assert parse_stages("stage 4") == [3]
    for wrong in ("stage 0", "stages 3-5", "third", "", 2, "stages 3-1"):
        with pytest.raises(ValueError, match="expected stages"):
            parse_stages(wrong)


@pytest.mark.parametrize("parts", range(1, 9))
def test_other_parts_share_the_rest_equally(parts: int) -> None:
    block = Plan(parts=parts, width=64, ratio="1/8", attention="channel").architecture()
    sizes = [part.channels for part in block.realized[0][0].parts]
    assert len(sizes) == parts
    assert sum(sizes) == 64
    if parts > 1:
        assert sizes[0] == 8
        assert max(sizes[1:]) - min(sizes[1:]) <= 1


def test_one_part_is_a_full_convolution() -> None:
    assert mixers(Plan(parts=1, depths=(1, 1, 1, 1))) == [["conv"]] * 4


def test_stated_operations_and_ratios() -> None:
    plan = Plan(parts=3, operations=("pool", "conv", "attention"), ratio=("1/2", "1/4"))
    block = plan.architecture().realized[0][0]
    assert [(part.op, part.channels) for part in block.parts] == [
        ("pool", 16),
        ("conv", 8),
        ("identity", 8),
    ]


def test_overrides_change_single_blocks() -> None:
    plan = Plan(depths=(1, 2, 1, 1))
    override = {(1, 1): {"attention": "channel", "mlp_ratio": 3}}
    changed = plan.architecture(lambda stage, block: override.get((stage, block), {}))
    assert changed.realized[1][1].hidden == 3 * 64
    assert changed.realized[1][1].parts[1].op == "channel"
    assert changed.realized[1][0] == plan.architecture().realized[1][0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 3}, "stage 1, block 1"),
        ({"parts": 3, "ratio": ("1/2", "1/2")}, "leave nothing"),
        ({"parts": 3, "operations": ("conv", "pool")}, "got 2 for 3 parts"),
        ({"attention": "self", "width": 8, "heads": 7}, "stage 1, block 1"),
    ],
)
def test_errors_name_the_block(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Plan.model_validate(settings).architecture()


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": {"channel": "stages 1-3", "self": "stages 3-4"}},
        {"attention": {"wave": "stage 1"}},
        {"depths": (1, 0, 1, 1)},
        {"width": 0},
        {"ratio": "0"},
        {"parts": 9},
        {"colour": "red"},
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate(settings)


def test_an_unknown_preset_suggests_the_closest() -> None:
    with pytest.raises(UserError, match="partialnet_t0"):
        preset("partialnet_t9")
    assert all(preset(name) == preset_plan(name).architecture() for name in PRESETS)
