"""Specifications of axes and constraints: parsing, canonical form, error messages."""

import json
from fractions import Fraction
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from partialnas.space.arch.presets import preset_plan
from partialnas.space.axes.levels import AXES, default_label, dump_value, granularities, parse_value
from partialnas.space.axes.spec import AxisSpec, Base, SpaceSpec
from partialnas.space.cost.constraints import Bounds, Constraints, format_count, parse_count
from partialnas.space.cost.formulas import Cost
from partialnas.space.validation import validation_messages


def spec(text: str) -> SpaceSpec:
    return SpaceSpec.model_validate(yaml.safe_load(text))


def labels(text: str) -> dict[str, tuple[Any, ...]]:
    return {name: axis.to_axis(name).labels for name, axis in spec(text).axes.items()}


def messages(text: str) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        spec(text)
    return validation_messages(caught.value, "space")


EVERY_FORM = """
axes:
  width: [8, 12, [8, 16, 32, 65]]
  depths: [[1, 1, 2, 1], [1, 2, 4, 2]]
  parts: {values: [1, 2, 3], per: network}
  ratio: {values: [1/8, 0.25, [1/8, 1/2]], per: stage}
  operation_2: {values: [channel, pool, identity], per: block}
  attention: {none: {}, channel: {channel: stages 1-3}, both: {channel: "1-2, 4", self: stage 3}}
  pat_sp: [false, true, stages 1-3]
  mlp_ratio: [1, 1.5, 3]
  activation: [gelu, relu]
  heads: {values: [1, 2], when: {attention: [both]}}
  stem_stride: [2, 4]
"""


def test_labels() -> None:
    assert labels(EVERY_FORM) == {
        "width": (8, 12, "8-16-32-65"),
        "depths": ("1-1-2-1", "1-2-4-2"),
        "parts": (1, 2, 3),
        "ratio": ("1/8", "1/4", "1/8+1/2"),
        "operation_2": ("channel", "pool", "identity"),
        "attention": ("none", "channel", "both"),
        "pat_sp": (False, True, "stages 1-3"),
        "mlp_ratio": (1, "3/2", 3),
        "activation": ("gelu", "relu"),
        "heads": (1, 2),
        "stem_stride": (2, 4),
    }
    placements = "axes: {attention: [none, {channel: stages 1-3, self: stage 4}, self]}"
    assert labels(placements)["attention"] == ("none", "channel: stages 1-3, self: stage 4", "self")


def test_specifications_round_trip() -> None:
    whole = spec(EVERY_FORM + "constraints: {macs: {min: 1M, max: 20e6}, params: {max: 1.5G}}")
    assert SpaceSpec.model_validate_json(whole.model_dump_json()) == whole
    assert SpaceSpec.model_validate(whole.model_dump()) == whole
    assert SpaceSpec(axes=whole.axes, constraints=whole.constraints) == whole
    assert json.loads(whole.model_dump_json())["constraints"] == {
        "params": {"max": 1_500_000_000},
        "macs": {"min": 1_000_000, "max": 20_000_000},
    }


def test_equivalent_specifications_are_equal() -> None:
    one = spec("axes: {ratio: [1/4, 1/2], attention: [channel], width: [8], pat_sp: [stage 1]}")
    other = spec(
        "axes: {ratio: {values: [0.25, 2/4], per: network}, attention: [{channel: stages 1-4}],"
        " width: [[8, 16, 32, 64]], pat_sp: [[true, false, false, false]]}"
    )
    assert one == other
    by_value = spec("axes: {ratio: [1/4, 1/2], heads: {values: [2, 3], when: {ratio: 0.5}}}")
    assert by_value.axes["heads"].when == {"ratio": ("1/2",)}


@given(st.lists(st.sampled_from(["none", "channel", "spatial", "self"]), min_size=4, max_size=4))
def test_placements_round_trip(placed: list[str]) -> None:
    value = parse_value("attention", "network", placed)
    assert parse_value("attention", "network", dump_value("attention", value)) == tuple(placed)


@given(st.lists(st.booleans(), min_size=4, max_size=4))
def test_switches_round_trip(placed: list[bool]) -> None:
    value = parse_value("pat_sp", "network", placed)
    assert parse_value("pat_sp", "network", dump_value("pat_sp", value)) == tuple(placed)


@given(st.fractions(min_value=0.001, max_value=9, max_denominator=10**80))
def test_fractions_round_trip(ratio: Fraction) -> None:
    assert parse_value("mlp_ratio", "block", dump_value("mlp_ratio", ratio)) == ratio
    assert isinstance(default_label("mlp_ratio", ratio), int) == (ratio.denominator == 1)


def test_all_errors_are_reported_with_their_paths() -> None:
    lines = messages("""
        axes:
          widht: [8]
          depths: [[1, 2]]
          width: {value: [8], per: block}
          parts: []
          operation_3: 5
          ratio: {values: [2, x, 1/4, 0.25], per: stage}
          attention: {none: {}, channel: {chanel: stages 1-3}, off: none}
          activation: {values: {per: relu}}
          stem_stride: [3, true]
          heads: {values: [1, 1.5], per: stage}
          pat_sp: {values: [true], per: block}
          mlp_ratio: {values: [0]}
        constraints: {macs: {max: 2, min: 3}, params: {max: some}, memory: 1}
        extra: 1
    """)
    expected = [
        "space.axes.widht: unknown axis; did you mean width?",
        "space.axes.depths[0]: expected 4 whole numbers",
        "space.axes.width.value: unknown key",
        "space.axes.width.per: expected network or stage, got 'block'",
        "space.axes.width.values: expected at least one value",
        "space.axes.parts: expected at least one value",
        "space.axes.operation_3: expected at least one value, as a list or by name, got 5",
        "space.axes.ratio.values[0]: expected a share between 0 and 1",
        "space.axes.ratio.values[1]: expected a fraction such as 1/4",
        "space.axes.ratio.values[3]: duplicate of 1/4",
        "space.axes.attention.channel: expected one of none, channel, spatial, self, got 'chanel'",
        "space.axes.attention.False: expected a string as name",
        "space.axes.activation.values.per: a level must not be named per",
        "space.axes.stem_stride[0]: expected one of 1, 2, 4, got 3",
        "space.axes.stem_stride[1]: expected one of 1, 2, 4, got True",
        "space.axes.heads.values[1]: expected a whole number from 1 to 65536, got 1.5",
        "space.axes.mlp_ratio.values[0]: expected a number above 0",
        "space.constraints.params.max: expected a whole number such as",
        "space.constraints.macs: min 3 is greater than max 2",
        "space.constraints.memory: unknown key",
        "space.extra: unknown key",
    ]
    assert len(lines) == len(expected)
    for start in expected:
        assert any(line.startswith(start) for line in lines), (start, lines)


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        ("{depth: [1], depths: [[1, 1, 1, 1]]}", "depth: conflicts with depths"),
        ("{operations: [[conv]], operation_1: [pool]}", "operation_1: conflicts with operations"),
        ("{ratio: [[1/4, 1/4]], ratio_2: [1/8]}", "ratio_2: conflicts with ratio"),
        ("{heads: {values: [1], when: {parts: [2]}}}", "heads.when.parts: expected the name of an"),
        ("{heads: {values: [1], when: {heads: [1]}}}", "heads.when.heads: expected the name of an"),
        ("{heads: {values: [1], when: 3}}", "heads.when: expected axes with levels, such as"),
        (
            "{parts: [2, 3], heads: {values: [1], when: {parts: [3, 4]}}}",
            "heads.when.parts: expected levels among 2, 3; got 4",
        ),
        (
            "{parts: {values: [2, 3], per: stage}, heads: {values: [1], when: {parts: [3]}}}",
            "heads.when.parts: varies per stage; a condition of this axis must vary per network",
        ),
        (
            "{parts: {values: [2, 3], when: {attention: none}}, attention: [none, self]}",
            ": circular conditions: parts, attention depend on each other",
        ),
        ("[width]", ": expected axes by name, such as width: [8, 16], got ['width']"),
    ],
)
def test_conflicting_axes_are_rejected(axes: str, line: str) -> None:
    (only,) = messages(f"axes: {axes}")
    assert only.removeprefix("space.axes").removeprefix(".").startswith(line)


def test_granularities() -> None:
    for name in AXES:
        for per in granularities(name):
            assert per in ("network", "stage", "block")
    assert granularities("activation") == ("network",)
    assert granularities("width") == granularities("depth") == ("network", "stage")
    assert granularities("operation_8") == granularities("ratio_7") == ("network", "stage", "block")
    with pytest.raises(ValueError, match="did you mean"):
        granularities("ratio_8")


@pytest.mark.parametrize(
    ("written", "value"),
    [("20M", 20_000_000), ("1.5G", 1_500_000_000), ("300k", 300_000), ("20e6", 20_000_000),
     (20_000_000, 20_000_000), (2.0e7, 20_000_000), ("7", 7)],
)  # fmt: skip
def test_counts(written: object, value: int) -> None:
    assert parse_count(written) == value


@pytest.mark.parametrize("written", [1.5, "20 m", "1.2345k", True, None, "-3", "M", [1], 0, -1])
def test_invalid_counts_are_rejected(written: object) -> None:
    with pytest.raises(ValidationError):
        Bounds(max=written)


def test_violations_of_constraints() -> None:
    bounds = Constraints(macs=Bounds(min=100, max=200), params=Bounds(max=50))
    assert bounds.distances(Cost(params=75, macs=150)) == (0.5, -0.5, -0.25)
    assert bounds.total_violation(Cost(params=75, macs=150)) == 0.5
    assert bounds.total_violation(Cost(params=50, macs=100)) == 0
    assert bounds.violations(Cost(params=50, macs=80)) == [
        "macs 80, expected at least 100 and at most 200"
    ]
    assert format_count(21_300_000) == "21.3M"


def test_a_base_is_a_preset_with_changed_settings() -> None:
    adapter = TypeAdapter(Base)
    base = adapter.validate_python({"preset": "partialnet_t0", "stem_stride": 2, "width": 16})
    original = preset_plan("partialnet_t0")
    assert base == original.model_copy(update={"name": "", "stem_stride": 2, "width": 16})
    assert adapter.validate_python({"preset": "fasternet_s"}) == preset_plan("fasternet_s")
    assert adapter.validate_python({"width": 8}).width == 8
    for wrong, line in (
        ({"preset": "partialnet_t9"}, "base: unknown preset 'partialnet_t9'; did you mean"),
        ({"preset": "partialnet_t0", "wdith": 8}, "base.wdith: unknown key"),
    ):
        with pytest.raises(ValidationError) as caught:
            adapter.validate_python(wrong)
        assert validation_messages(caught.value, "base")[0].startswith(line)


def test_axes_from_python() -> None:
    one = SpaceSpec(axes={"ratio": AxisSpec(values=(0.25, "1/2"), per="stage"), "width": [8]})
    assert one == spec("axes: {ratio: {values: [1/4, 1/2], per: stage}, width: [8]}")
