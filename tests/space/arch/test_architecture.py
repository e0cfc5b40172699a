"""Architectures: JSON, digests, integer division, validation."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.parts import Part
from partialnas.space.arch.presets import PRESETS, preset
from partialnas.space.errors import UserError

OPS = ("conv", "channel", "spatial", "pool", "identity")


def one_block(*parts: Part, width: int = 8, **block: object) -> Architecture:
    return Architecture(stages=(Stage(width=width, blocks=(Block(parts=parts, **block),)),))


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Small architectures of every kind: 1 to 8 parts, any operation, odd widths."""
    stages = []
    for _ in range(draw(st.integers(1, 4))):
        blocks = []
        for _ in range(draw(st.integers(1, 2))):
            weights = draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
            ops = draw(st.lists(st.sampled_from(OPS), min_size=len(weights), max_size=len(weights)))
            shares = [Fraction(w, sum(weights)) for w in weights[:-1]]
            parts = [Part(op=op, ratio=r) for op, r in zip(ops, [*shares, None], strict=True)]
            blocks.append(Block(parts=tuple(parts), pat_sp=draw(st.booleans())))
        stages.append(Stage(width=draw(st.integers(32, 45)), blocks=tuple(blocks)))
    return Architecture(
        name=draw(st.text(max_size=5)),
        stem_stride=draw(st.sampled_from([1, 2, 4])),
        stages=tuple(stages),
        activation=draw(st.sampled_from(["gelu", "relu"])),
    )


@given(architectures())
def test_json_round_trip(architecture: Architecture) -> None:
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert again.digest == architecture.digest


@given(architectures())
def test_every_channel_belongs_to_exactly_one_part(architecture: Architecture) -> None:
    for blocks in architecture.realized:
        for block in blocks:
            assert sum(part.channels for part in block.parts) == block.width
            assert min(part.channels for part in block.parts) >= 1


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip_and_differ(name: str) -> None:
    assert Architecture.from_json(preset(name).to_json()) == preset(name)
    assert sum(preset(other).digest == preset(name).digest for other in PRESETS) == 1


def test_digest_ignores_names_and_settings_without_effect() -> None:
    conv = Part(op="conv", ratio="1/4")
    plain = one_block(conv, Part(op="identity"))
    assert plain.model_copy(update={"name": "other"}).digest == plain.digest
    assert one_block(Part(op="conv", ratio="0.3"), Part(op="identity")).digest == plain.digest
    split = one_block(conv, Part(op="identity", ratio="1/4"), Part(op="identity"))
    assert split.digest == plain.digest
    assert one_block(conv, Part(op="identity"), mlp_ratio="2.1").digest == plain.digest


def test_different_networks_have_different_digests() -> None:
    conv, rest = Part(op="conv", ratio="1/4"), Part(op="identity")
    plain = one_block(conv, rest)
    assert plain.digest  # cached, and not copied into changed copies
    others = [
        one_block(Part(op="identity", ratio="3/4"), Part(op="conv")),
        one_block(Part(op="conv", ratio="1/2"), rest),
        one_block(conv, Part(op="conv", ratio="1/4"), rest),
        one_block(conv, Part(op="pool")),
        one_block(conv, rest, pat_sp=True),
        one_block(conv, rest, mlp_ratio=3),
        plain.model_copy(update={"activation": "relu"}),
        plain.model_copy(update={"stem_stride": 2}),
        plain.model_copy(update={"head_width": 64}),
    ]
    digests = {plain.digest, *(other.digest for other in others)}
    assert len(digests) == len(others) + 1
    assert all(len(d) == 16 for d in digests)


def test_boundaries_are_floors_of_cumulative_exact_shares() -> None:
    thirds = [Part(op=op, ratio="1/3") for op in ("conv", "pool")]
    block = one_block(*thirds, Part(op="identity"), width=10).realized[0][0]
    assert [part.channels for part in block.parts] == [3, 3, 4]
    tenths = [Part(op=op, ratio=0.1) for op in ("conv", "pool", "conv", "pool", "conv", "pool")]
    block = one_block(*tenths, Part(op="identity"), width=15).realized[0][0]
    assert [part.channels for part in block.parts] == [1, 2, 1, 2, 1, 2, 6]


@pytest.mark.parametrize(
    ("ops", "width", "expected"),
    [
        (("conv", "self"), 40, (12, 28)),
        (("self", "conv"), 40, (8, 32)),
        (("self", "self", "pool"), 12, (4, 4, 4)),
        (("pool", "self", "conv"), 20, (9, 4, 7)),
    ],
)
def test_self_attention_keeps_a_multiple_of_its_heads(
    ops: tuple[str, ...], width: int, expected: tuple[int, ...]
) -> None:
    share = "1/4" if len(ops) == 2 else "1/3"
    parts = [Part(op=op, ratio=share) for op in ops[:-1]] + [Part(op=ops[-1])]
    block = one_block(*parts, width=width).realized[0][0]
    assert tuple(part.channels for part in block.parts) == expected


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"colour": 1}, "colour: unknown key"),
        ({"stem_stride": 3}, "stem_stride"),
        ({"activation": "tanh"}, "activation"),
        ({"stages": []}, "stages"),
    ],
)
def test_errors_name_their_path(change: dict[str, object], path: str) -> None:
    data = json.loads(preset("partialnet_t0").to_json()) | change
    with pytest.raises(UserError, match=path.replace(".", r"\.")):
        Architecture.from_json(json.dumps(data))


def test_all_errors_are_reported_at_once() -> None:
    data = json.loads(preset("partialnet_t0").to_json())
    data["stages"][0]["blocks"][0]["parts"][0] = {"op": "wave", "ratio": "5/4"}
    data["head_width"] = 0
    with pytest.raises(UserError) as caught:
        Architecture.from_json(json.dumps(data))
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        "stages[0].blocks[0].parts[0].op",
        "stages[0].blocks[0].parts[0].ratio",
        "head_width",
    ]


@pytest.mark.parametrize(
    "parts",
    [
        [{"op": "conv", "ratio": "1/9"}, {"op": "identity"}],
        [{"op": "conv", "ratio": "1/2"}, {"op": "pool", "ratio": "1/2"}, {"op": "identity"}],
        [{"op": "conv"}, {"op": "identity"}],
        [{"op": "conv", "ratio": "1/2"}, {"op": "identity", "ratio": "1/2"}],
        [{"op": "conv", "ratio": "3/4"}, {"op": "self"}],
        [{"op": "conv", "heads": 2}],
        [],
    ],
)
def test_invalid_parts_are_rejected(parts: list[dict[str, object]]) -> None:
    with pytest.raises(UserError):
        Architecture.from_data({"stages": [{"width": 8, "blocks": [{"parts": parts}]}]})


def test_too_small_an_input_is_rejected() -> None:
    with pytest.raises(UserError, match="32x32"):
        preset("partialnet_t0").map_sizes(31, 31)
    assert preset("partialnet_t0").map_sizes(32, 65) == ((8, 16), (4, 8), (2, 4), (1, 2))


def test_invalid_json_is_a_user_error() -> None:
    with pytest.raises(UserError, match="not JSON"):
        Architecture.from_json("{")


def test_copies_of_a_stage_are_realized_again() -> None:
    stage = preset("partialnet_t0").stages[0]
    wider = stage.model_copy(update={"width": 2 * stage.width})
    assert [block.width for block in wider.realized] == [2 * stage.width] * len(stage.blocks)
    assert stage.model_copy().realized == stage.realized
