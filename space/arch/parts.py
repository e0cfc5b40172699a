"""Parts of a block, and the division of the block's channels among them."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, combinations, pairwise
from math import comb
from typing import Any, NamedTuple, Self

from pydantic import Field, model_serializer, model_validator

from partialnas.space.arch.operation_registry import OPERATIONS, OperationName
from partialnas.space.arch.ratio import LearnedRatio, LearningSettings, Ratio, start_ratio
from partialnas.space.validation import quote
from partialnas.space.values import Value

MAX_PARTS = 8
MAX_WIDTH = 65_536
"""Most channels of a layer, which bounds the time that a network takes to describe."""

DEFAULT_HEADS = 4

MAX_SIZES = 10_000
"""Most divisions of a block's channels that learned ratios may choose from."""


class Part(Value):
    """A share of a block's channels and the operation applied to it.

    The last part of a block has no ratio: it takes the remaining channels.
    """

    op: OperationName
    ratio: Ratio | None = None
    heads: int | None = Field(default=None, ge=1, le=MAX_WIDTH)

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.heads is not None and not OPERATIONS[self.op].has_heads:
            raise ValueError(f"heads is only valid for self-attention, not for {quote(self.op)}")
        return self

    @model_serializer(mode="wrap")
    def _omit_none(self, handler: Any) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    @property
    def start(self) -> Fraction:
        """Share before anything is learned; 0 for the last part of a block."""
        return start_ratio(self.ratio)


class RealizedPart(NamedTuple):
    """A part as it is built: operation, channels, and heads (0 without self-attention)."""

    op: str
    channels: int
    heads: int


_Parts = tuple[RealizedPart, ...]
_Sizes = tuple[int, ...]


def realize(parts: Sequence[Part], width: int) -> tuple[_Parts, LearningSettings | None]:
    """Return the parts as they are built at `width` channels, and how their ratios are learned.

    Neighboring parts with the same operation without weights are merged, unless a ratio of the
    block is learned. Learned parts have their starting size.

    Raises:
        ValueError: A part gets no channels, or too few for its heads, or the ratios cannot be
            learned together.
    """
    built = _with_channels(parts, _channels(parts, width))
    ratios = [part.ratio for part in parts if isinstance(part.ratio, LearnedRatio)]
    return (built, _learning_settings(parts, ratios)) if ratios else (_merge(built), None)


def _learning_settings(parts: Sequence[Part], ratios: list[LearnedRatio]) -> LearningSettings:
    """Return how these ratios of the parts are learned; see `realize`."""
    first = ratios[0]
    if any((r.shared_settings, r.grain) != (first.shared_settings, first.grain) for r in ratios):
        raise ValueError(
            "learned ratios of one block must have the same method, per, grain and budget"
        )
    if len(ratios) > 1 and (first.method == "gates" or first.per == "input"):
        setting = "method gates" if first.method == "gates" else "per input"
        raise ValueError(f"with {setting}, one ratio per block can be learned, got {len(ratios)}")
    if first.method == "gates" and first.per == "input":
        raise ValueError("ratios learned per input require method threshold, got gates")
    if any(a.op == b.op and not OPERATIONS[a.op].has_weights for a, b in pairwise(parts)):
        raise ValueError(
            "a block with learned ratios must not have pool or identity twice in a row"
        )
    budget = None if first.budget is None else str(first.budget)
    return LearningSettings(_positions(parts), first.grain, first.method, first.per, budget)


@lru_cache(maxsize=1024)
def legal_sizes(parts: _Parts, learning: LearningSettings) -> tuple[_Sizes, ...]:
    """Return every division of a block's channels that its learned ratios may end with.

    Each learned size is a multiple of the grain, the other parts keep their sizes, and the last
    part takes the remaining channels. It may get none unless it is self-attention, because its
    residual would go with it. Gates choose among halvings of the width, each rounded to the nearest
    divisor.

    Raises:
        ValueError: There are no divisions or too many; the message names a valid grain.
    """
    width = sum(part.channels for part in parts)
    if _count_divisions(parts, learning) > MAX_SIZES:
        hint = _grain_hint(parts, learning, range(learning.grain, width + 1))
        raise ValueError(
            f"grain {learning.grain}: too many possible sizes for {len(learning.parts)} learned "
            f"ratios of {width} channels; {hint}"
        )
    sizes = tuple(_divisions(parts, learning))
    if not sizes:
        raise ValueError(_no_size_message(parts, learning))
    if learning.method == "threshold":
        return sizes
    (position,) = learning.parts
    wanted = [_divisor(width, width / 2**halvings) for halvings in range(width.bit_length())]
    chosen = {min(sizes, key=lambda s, w=w: (abs(s[position] - w), s)) for w in wanted}  # type: ignore[misc]
    return tuple(sorted(chosen, key=lambda s: s[position]))


def _num_grains(parts: _Parts, learning: LearningSettings) -> int:
    """Return how many times the grain fits into the channels that the fixed parts leave."""
    fixed = sum(part.channels for i, part in enumerate(parts[:-1]) if i not in learning.parts)
    room = sum(part.channels for part in parts) - fixed - parts[-1].heads
    return max(room // learning.grain, 0)


def _count_divisions(parts: _Parts, learning: LearningSettings) -> int:
    """Return the number of divisions, including those that do not fit the heads."""
    return comb(_num_grains(parts, learning), len(learning.parts))


def _divisions(parts: _Parts, learning: LearningSettings) -> Iterator[_Sizes]:
    width = sum(part.channels for part in parts)
    steps = range(1, _num_grains(parts, learning) + 1)
    for ends in combinations(steps, len(learning.parts)):
        sizes = [part.channels for part in parts]
        for position, (low, high) in zip(learning.parts, pairwise([0, *ends]), strict=True):
            sizes[position] = (high - low) * learning.grain
        sizes[-1] = width - sum(sizes[:-1])
        if all(_fits(part, size) for part, size in zip(parts, sizes, strict=True)):
            yield tuple(sizes)


def _fits(part: RealizedPart, channels: int) -> bool:
    return not part.heads or (channels > 0 and channels % part.heads == 0)


def _no_size_message(parts: _Parts, learning: LearningSettings) -> str:
    """Explain why the learned parts have no legal size, and suggest a grain."""
    width, grain = sum(part.channels for part in parts), learning.grain
    hint = _grain_hint(parts, learning, range(min(grain, width) - 1, 0, -1))
    if grain > width:
        hint = _grain_hint(parts, learning, range(width, 0, -1))
        return f"grain {grain} is larger than the {width} channels of the block; {hint}"
    heads = [str(part.heads) for part in parts if part.heads]
    other = f" while self-attention gets a multiple of its {' and '.join(heads)} heads"
    return (
        f"grain {grain}: no division of {width} channels gives the learned parts a multiple of it"
        f"{other if heads else ''}; {hint}"
    )


def _grain_hint(parts: _Parts, learning: LearningSettings, candidates: Iterable[int]) -> str:
    """Return a hint at the first of these grains that is valid for the block."""
    for grain in candidates:
        other = learning._replace(grain=grain)
        if _count_divisions(parts, other) <= MAX_SIZES and any(_divisions(parts, other)):
            return f"the nearest valid grain is {grain}"
    return "no grain is valid: learn fewer of its ratios, or make it wider"


def _divisor(width: int, wanted: float) -> int:
    """Return the divisor of `width` nearest to a number, the smaller one in a tie."""
    divisors = [d for d in range(1, width + 1) if width % d == 0]
    return min(divisors, key=lambda d: abs(d - wanted))


def _positions(parts: Sequence[Part]) -> tuple[int, ...]:
    return tuple(i for i, part in enumerate(parts) if isinstance(part.ratio, LearnedRatio))


def _channels(parts: Sequence[Part], width: int) -> list[int]:
    """Return the channels of each part, with boundaries at the floor of the cumulative shares.

    A self-attention part keeps a multiple of its heads; the surplus goes to the nearest part
    without heads, the preceding one in a tie. A block with learned ratios starts from the legal
    sizes nearest to its shares.
    """
    ends = [int(end * width) for end in accumulate(part.start for part in parts)]
    ends[-1] = width
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    learned = _positions(parts)
    movable = {*learned, len(parts) - 1} if learned else set()
    for index, part in enumerate(parts):
        if index in movable:
            continue
        if sizes[index] < 1:
            raise ValueError(f"parts[{index}] ({part.op}) gets none of the {width} channels")
        if OPERATIONS[part.op].has_heads:
            _snap(parts, sizes, index)
    return _nearest(parts, sizes) if learned else sizes


def _nearest(parts: Sequence[Part], sizes: Sequence[int]) -> list[int]:
    """Return the legal sizes nearest to these sizes, with channels for all parts if possible."""
    first = next(part.ratio for part in parts if isinstance(part.ratio, LearnedRatio))
    positions = _positions(parts)
    # `_learning_settings` refuses several ratios with gates later
    method = first.method if len(positions) == 1 else "threshold"
    how = LearningSettings(positions, first.grain, method, first.per, None)
    options = legal_sizes(_with_channels(parts, sizes), how)
    whole = [option for option in options if min(option) > 0] or options
    distances = [(sum(abs(a - b) for a, b in zip(o, sizes, strict=True)), o) for o in whole]
    return list(min(distances)[1])


def _with_channels(parts: Sequence[Part], sizes: Sequence[int]) -> _Parts:
    pairs = zip(parts, sizes, strict=True)
    return tuple(RealizedPart(part.op, size, _heads(part)) for part, size in pairs)


def _heads(part: Part) -> int:
    return (part.heads or DEFAULT_HEADS) if OPERATIONS[part.op].has_heads else 0


def _snap(parts: Sequence[Part], sizes: list[int], index: int) -> None:
    """Move a part's surplus over a multiple of its heads to the nearest part without heads."""
    heads = _heads(parts[index])
    spare = sizes[index] % heads
    channels = f"parts[{index}] ({parts[index].op}) gets {sizes[index]} channels"
    if sizes[index] < heads:
        raise ValueError(f"{channels}, too few for {heads} heads")
    if not spare:
        return
    others = [i for i, part in enumerate(parts) if not OPERATIONS[part.op].has_heads]
    if not others:
        raise ValueError(f"{channels}, not a multiple of {heads} heads")
    neighbor = min(others, key=lambda i: (abs(i - index), i))
    sizes[index] -= spare
    sizes[neighbor] += spare


def _merge(parts: _Parts) -> _Parts:
    """Merge neighboring parts with the same operation without weights."""
    merged: list[RealizedPart] = []
    for part in parts:
        if merged and merged[-1].op == part.op and not OPERATIONS[part.op].has_weights:
            merged[-1] = part._replace(channels=merged[-1].channels + part.channels)
        else:
            merged.append(part)
    return tuple(merged)
