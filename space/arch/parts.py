"""Parts: shares of a block's channels, and how many channels each of them gets."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, combinations, pairwise
from math import comb
from typing import Any, NamedTuple, Self

from pydantic import Field, model_serializer, model_validator

from partialnas.space.arch.operations import OPERATIONS, OperationName
from partialnas.space.arch.ratio import (
    Granularity,
    LearnedRatio,
    LearningMethod,
    MacBudget,
    Ratio,
    start_ratio,
)
from partialnas.space.values import Value

MAX_PARTS = 8
DEFAULT_HEADS = 4

MAX_SIZES = 10_000
"""So many ways to divide a block's channels are listed; beyond, its learned ratios are refused."""


class Part(Value):
    """A share of a block's channels and the operation that works on it.

    The last part of a block states no ratio: it takes the channels that are left.
    """

    op: OperationName
    ratio: Ratio | None = None
    heads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _heads_belong_to_self_attention(self) -> Self:
        if self.heads is not None and not OPERATIONS[self.op].has_heads:
            raise ValueError(f"heads belong to a self-attention part, not to {self.op!r}")
        return self

    @model_serializer(mode="wrap")
    def _without_blanks(self, handler: Any) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    @property
    def start(self) -> Fraction:
        """The share that it has before anything is learned; 0 for what is left over."""
        return start_ratio(self.ratio)


class RealizedPart(NamedTuple):
    """A part as it is built: its operation over so many channels (heads: 0 unless attention)."""

    op: str
    channels: int
    heads: int


class LearningSettings(NamedTuple):
    """How the ratios of a block as it is built are learned.

    Attributes:
        parts: positions of the parts whose sizes are learned.
        grain: channels that each of these sizes is a multiple of.
        method: how they are found.
        per: one size for the layer, or one for every image.
        budget: as `LearnedRatio.budget`, written as text.
    """

    parts: tuple[int, ...]
    grain: int
    method: LearningMethod
    per: Granularity
    budget: str | None

    @property
    def parsed_budget(self) -> MacBudget:
        """The budget as a value."""
        return LearnedRatio.model_validate({"budget": self.budget}).budget


def realize(parts: Sequence[Part], width: int) -> tuple[RealizedPart, ...]:
    """The parts as they are built at `width` channels: neighbours that are one part are merged.

    Learned ratios have the size that they start from; where a part learns, all parts are kept.

    Raises:
        ValueError: a part gets no channel, or too few for its heads.
    """
    built = _with_channels(parts, _channels(parts, width))
    return built if _positions(parts) else _merge(built)


def learning_settings(parts: Sequence[Part]) -> LearningSettings | None:
    """How the ratios of these parts are learned; None where none is.

    Raises:
        ValueError: they cannot be learned together.
    """
    ratios = [part.ratio for part in parts if isinstance(part.ratio, LearnedRatio)]
    if not ratios:
        return None
    first = ratios[0]
    if any((r.shared_settings, r.grain) != (first.shared_settings, first.grain) for r in ratios):
        raise ValueError("learned ratios of one block must have equal method, per, grain, budget")
    if len(ratios) > 1 and (first.method == "gates" or first.per == "input"):
        what = "method gates" if first.method == "gates" else "per input"
        raise ValueError(f"learned with {what}: one ratio of a block, got {len(ratios)}")
    if first.method == "gates" and first.per == "input":
        raise ValueError("learned per input: method threshold only, got gates")
    if any(a.op == b.op and not OPERATIONS[a.op].has_weights for a, b in pairwise(parts)):
        raise ValueError(
            "a block with learned ratios must not have the same of pool or identity twice in a row"
        )
    budget = None if first.budget is None else str(first.budget)
    return LearningSettings(_positions(parts), first.grain, first.method, first.per, budget)


@lru_cache(maxsize=1024)
def legal_sizes(
    parts: tuple[RealizedPart, ...], learning: LearningSettings
) -> tuple[tuple[int, ...], ...]:
    """Every way to divide a block's channels that its learned ratios may end with.

    Each learned size is a multiple of the grain, the other parts keep theirs, and the last takes
    what is left: nothing, if need be, unless it is self-attention, whose residual would go with it.
    Gates choose among halvings of the width, each at the nearest divisor.

    Raises:
        ValueError: there is none, or too many to list; tells a grain that works.
    """
    width = sum(part.channels for part in parts)
    if _ways(parts, learning) > MAX_SIZES:
        raise ValueError(
            f"grain {learning.grain}: too many ways to learn {len(learning.parts)} ratios of "
            f"{width} channels; {_other_grain(parts, learning, range(learning.grain, width + 1))}"
        )
    sizes = tuple(_divisions(parts, learning))
    if not sizes:
        raise ValueError(_no_size(parts, learning))
    if learning.method == "threshold":
        return sizes
    (position,) = learning.parts
    wanted = [_divisor(width, width / 2**halvings) for halvings in range(width.bit_length())]
    chosen = {min(sizes, key=lambda s, w=w: (abs(s[position] - w), s)) for w in wanted}  # type: ignore[misc]
    return tuple(sorted(chosen, key=lambda s: s[position]))


def _steps(parts: Sequence[RealizedPart], learning: LearningSettings) -> int:
    """How many times the grain fits into what the parts that do not learn leave."""
    fixed = sum(part.channels for i, part in enumerate(parts[:-1]) if i not in learning.parts)
    room = sum(part.channels for part in parts) - fixed - parts[-1].heads
    return max(room // learning.grain, 0)


def _ways(parts: Sequence[RealizedPart], learning: LearningSettings) -> int:
    """How many ways to divide the channels there are, those that fit no heads counted in."""
    return comb(_steps(parts, learning), len(learning.parts))


def _divisions(
    parts: Sequence[RealizedPart], learning: LearningSettings
) -> Iterator[tuple[int, ...]]:
    width = sum(part.channels for part in parts)
    steps = range(1, _steps(parts, learning) + 1)
    for ends in combinations(steps, len(learning.parts)):
        sizes = [part.channels for part in parts]
        for position, (low, high) in zip(learning.parts, pairwise([0, *ends]), strict=True):
            sizes[position] = (high - low) * learning.grain
        sizes[-1] = width - sum(sizes[:-1])
        if all(_fits(part, size) for part, size in zip(parts, sizes, strict=True)):
            yield tuple(sizes)


def _fits(part: RealizedPart, channels: int) -> bool:
    return not part.heads or (channels > 0 and channels % part.heads == 0)


def _no_size(parts: Sequence[RealizedPart], learning: LearningSettings) -> str:
    """Why the learned parts have no legal size, and what would work."""
    width, grain = sum(part.channels for part in parts), learning.grain
    works = _other_grain(parts, learning, range(min(grain, width) - 1, 0, -1))
    if grain > width:
        works = _other_grain(parts, learning, range(width, 0, -1))
        return f"grain {grain} is larger than the {width} channels of the block; {works}"
    heads = [str(part.heads) for part in parts if part.heads]
    told = f" and self-attention a multiple of its {' and '.join(heads)} heads" if heads else ""
    return (
        f"grain {grain}: no size of the learned parts is a multiple of it{told} "
        f"within {width} channels; {works}"
    )


def _other_grain(
    parts: Sequence[RealizedPart], learning: LearningSettings, candidates: Iterable[int]
) -> str:
    """The first of these grains with which the block can learn."""
    for grain in candidates:
        other = learning._replace(grain=grain)
        if _ways(parts, other) <= MAX_SIZES and any(_divisions(parts, other)):
            return f"the nearest that works is {grain}"
    return "no grain works: learn fewer of its ratios, or make it wider"


def _divisor(width: int, wanted: float) -> int:
    """The divisor of `width` nearest to a number; the smaller of two."""
    divisors = [d for d in range(1, width + 1) if width % d == 0]
    return min(divisors, key=lambda d: abs(d - wanted))


def _positions(parts: Sequence[Part]) -> tuple[int, ...]:
    return tuple(i for i, part in enumerate(parts) if isinstance(part.ratio, LearnedRatio))


def _channels(parts: Sequence[Part], width: int) -> list[int]:
    """Channels of each part: boundaries at the floor of the cumulative exact shares.

    A self-attention part keeps a multiple of its heads; what it gives up goes to the nearest part
    that is no self-attention, the one before it first. A block that learns starts from the legal
    sizes next to its shares.
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
            raise ValueError(f"parts[{index}] ({part.op}) gets none of {width} channels")
        if OPERATIONS[part.op].has_heads:
            _snap(parts, sizes, index)
    return _nearest(parts, sizes) if learned else sizes


def _nearest(parts: Sequence[Part], sizes: Sequence[int]) -> list[int]:
    """The legal sizes nearest to those that the shares give, with channels for all if possible."""
    first = next(part.ratio for part in parts if isinstance(part.ratio, LearnedRatio))
    positions = _positions(parts)
    # several ratios are refused for gates later, by `learning_settings`
    method = first.method if len(positions) == 1 else "threshold"
    how = LearningSettings(positions, first.grain, method, first.per, None)
    options = legal_sizes(_with_channels(parts, sizes), how)
    whole = [option for option in options if min(option) > 0] or options
    apart = [(sum(abs(a - b) for a, b in zip(o, sizes, strict=True)), o) for o in whole]
    return list(min(apart)[1])


def _with_channels(parts: Sequence[Part], sizes: Sequence[int]) -> tuple[RealizedPart, ...]:
    pairs = zip(parts, sizes, strict=True)
    return tuple(RealizedPart(part.op, size, _heads(part)) for part, size in pairs)


def _heads(part: Part) -> int:
    return (part.heads or DEFAULT_HEADS) if OPERATIONS[part.op].has_heads else 0


def _snap(parts: Sequence[Part], sizes: list[int], index: int) -> None:
    """Move the channels beyond a multiple of a part's heads to the nearest part without heads."""
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


def _merge(parts: Sequence[RealizedPart]) -> tuple[RealizedPart, ...]:
    """Parts as built: neighbours with the same parameter-free operation are one part."""
    merged: list[RealizedPart] = []
    for part in parts:
        if merged and merged[-1].op == part.op and not OPERATIONS[part.op].has_weights:
            merged[-1] = part._replace(channels=merged[-1].channels + part.channels)
        else:
            merged.append(part)
    return tuple(merged)
