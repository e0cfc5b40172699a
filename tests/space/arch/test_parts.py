"""Parts with learned ratios: every legal way to divide a block's channels, by brute force."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.space.arch.architecture import Block
from partialnas.space.arch.parts import MAX_SIZES, Part, RealizedPart, legal_sizes
from partialnas.space.arch.ratio import LearnedRatio, LearningSettings


def block_of(ops: Sequence[str], positions: Sequence[int] = (0,), **terms: Any) -> Block:
    share = Fraction(1, len(ops))
    learned = LearnedRatio(**{"grain": 1, "start": share, **terms})
    parts = [
        Part(op=op, ratio=None if i == len(ops) - 1 else learned if i in positions else share,
             heads=2 if op == "self" else None)
        for i, op in enumerate(ops)
    ]  # fmt: skip
    return Block(parts=tuple(parts))


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 5), st.integers(0, 3)), min_size=2, max_size=4
    ),
    st.integers(1, 4),
)
def test_every_legal_division_is_listed(rows: list[tuple[bool, int, int]], grain: int) -> None:
    parts = tuple(
        RealizedPart("self" if heads else "conv", size * max(heads, 1), heads)
        for _, size, heads in rows
    )
    positions = tuple(i for i, row in enumerate(rows[:-1]) if row[0]) or (0,)
    width = sum(part.channels for part in parts)
    fixed = [i for i in range(len(parts) - 1) if i not in positions]
    expected = {
        sizes
        for first in product(range(width + 1), repeat=len(parts) - 1)
        if (sizes := (*first, width - sum(first)))[-1] >= 0
        and all(sizes[i] % grain == 0 and sizes[i] > 0 for i in positions)
        and all(sizes[i] == parts[i].channels for i in fixed)
        and all(s % p.heads == 0 and s > 0 for s, p in zip(sizes, parts, strict=True) if p.heads)
    }
    learning = LearningSettings(positions, grain, "threshold", "layer", None)
    if expected:
        listed = legal_sizes(parts, learning)
        assert len(listed) == len(set(listed))
        assert set(listed) == expected
    else:
        with pytest.raises(ValueError, match=r"no division of|is larger than"):
            legal_sizes(parts, learning)


@pytest.mark.parametrize(
    ("width", "grain"), [(width, grain) for grain in (1, 4) for width in range(max(2, grain), 65)]
)
def test_gates_choose_halvings_of_the_width(width: int, grain: int) -> None:
    built = block_of(["conv", "identity"], grain=grain, method="gates").realize(width)
    assert built.learning is not None
    sizes = [option[0] for option in legal_sizes(built.parts, built.learning)]
    assert sizes == sorted(set(sizes))
    assert all(size % grain == 0 for size in sizes)
    assert sizes[-1] == width - width % grain
    if math.log2(width).is_integer():
        assert sizes == [size for size in (2**k for k in range(7)) if grain <= size <= width]
    elif grain == 1:
        divisors = [d for d in range(1, width + 1) if width % d == 0]
        halves = [width / 2**k for k in range(8) if 2**k <= width]
        nearest = {min(divisors, key=lambda d, h=half: (abs(d - h), d)) for half in halves}  # type: ignore[misc]
        assert set(sizes) == nearest
    assert [part.channels for part in built.parts] in [[s, width - s] for s in sizes]


def test_learning_starts_from_the_nearest_legal_sizes() -> None:
    def start(width: int, *ops: str, **terms: Any) -> list[int]:
        return [part.channels for part in block_of(ops, **terms).realize(width).parts]

    assert start(20, "conv", "identity", grain=4, start="1/4") == [4, 16]
    assert start(20, "conv", "identity", grain=8, start="1/4") == [8, 12]
    assert start(20, "conv", "identity", grain=8, start="9/10") == [16, 4]
    assert start(8, "conv", "identity", grain=1, start="1/100") == [1, 7]
    assert start(8, "conv", "identity", grain=8) == [8, 0]
    assert start(8, "conv", "self", grain=1, start="7/8") == [6, 2]
    assert start(9, "self", "pool", "conv", grain=1, positions=(1,)) == [2, 4, 3]


@pytest.mark.parametrize(
    ("ops", "settings", "width", "message"),
    [
        ("conv identity", {"grain": 16}, 8,
         "grain 16 is larger than the 8 channels of the block; the nearest valid grain is 8"),
        ("conv self", {"grain": 8}, 8, "a multiple of its 2 heads; the nearest valid grain is 6"),
        ("conv self", {"grain": 1}, 2, "no grain is valid"),
        ("conv pool pool", {}, 12, "must not have pool or identity twice in a row"),
        ("conv pool conv", {"method": "gates", "positions": (0, 1)}, 12, "one ratio per block"),
        ("conv pool conv", {"per": "input", "positions": (0, 1)}, 12, "one ratio per block"),
        ("conv pool", {"per": "input", "method": "gates"}, 12, "require method threshold"),
        ("conv pool conv pool conv", {"positions": (0, 1, 2, 3)}, 64,
         "grain 1: too many possible sizes for 4 learned ratios of 64 channels; "
         "the nearest valid grain is 3"),
        ("conv identity pool conv", {"positions": (0,)}, 2,
         r"parts\[2\] \(pool\) gets none of the 2"),
    ],
)  # fmt: skip
def test_invalid_learned_ratios_are_rejected_with_a_hint(
    ops: str, settings: dict[str, Any], width: int, message: str
) -> None:
    named: Any = ops.split()
    with pytest.raises(ValueError, match=message):
        block_of(named, **settings).realize(width)


def test_the_suggested_grain_is_valid() -> None:
    assert block_of(["conv", "self"], grain=6).realize(8).parts[1].channels == 2
    many = block_of(["conv", "pool", "conv", "pool", "conv"], (0, 1, 2, 3), grain=3).realize(64)
    assert many.learning is not None
    assert 1 < len(legal_sizes(many.parts, many.learning)) <= MAX_SIZES


def test_learned_ratios_of_one_block_must_agree() -> None:
    parts = (
        Part(op="conv", ratio=LearnedRatio(grain=2)),
        Part(op="pool", ratio=LearnedRatio(grain=4)),
        Part(op="conv"),
    )
    with pytest.raises(ValueError, match="the same method, per, grain and budget"):
        Block(parts=parts).realize(16)
