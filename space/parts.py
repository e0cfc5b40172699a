"""Parts: shares of a block's channels, and how many channels each of them gets."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import accumulate, product
from math import prod
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_serializer, model_validator

from partialnas.space.ratio import Budget, Granularity, Learned, Method, Ratio, start_of
from partialnas.space.values import Value

Op = Literal["conv", "channel", "spatial", "self", "pool", "identity"]
"""What is done to a part of the channels: 3x3 convolution, channel attention, spatial attention,
self-attention, 3x3 average pooling, nothing."""

MAX_PARTS = 8
DEFAULT_HEADS = 4
PARAMETER_FREE = ("pool", "identity")
"""Operations without weights: neighbouring parts that share one are one part."""

MOST_SIZES = 4096
"""So many ways to divide a block's channels are listed; beyond, its learned ratios are refused."""


class Part(Value):
    """A share of a block's channels and the operation that works on it.

    The last part of a block states no ratio: it takes the channels that are left.
    """

    op: Op
    ratio: Ratio | None = None
    heads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _heads_belong_to_self_attention(self) -> Self:
        if self.heads is not None and self.op != "self":
            raise ValueError(f"heads belong to a self-attention part, not to {self.op!r}")
        return self

    @model_serializer(mode="wrap")
    def _without_blanks(self, handler: Any) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    @property
    def start(self) -> Fraction:
        """The share that it has before anything is learned; 0 for what is left over."""
        return start_of(self.ratio)


class RealisedPart(NamedTuple):
    """A part as it is built: its operation over so many channels (heads: 0 unless attention)."""

    op: Op
    channels: int
    heads: int


class Learning(NamedTuple):
    """How the ratios of a block as it is built are learned.

    Attributes:
        parts: positions of the parts whose sizes are learned.
        grain: channels that each of these sizes is a multiple of.
        method: how they are found.
        per: one size for the layer, or one for every image.
        budget: as `Learned.budget`, written as text.
    """

    parts: tuple[int, ...]
    grain: int
    method: Method
    per: Granularity
    budget: str | None

    @property
    def limit(self) -> Budget:
        """The budget as a value."""
        return Learned.model_validate({"budget": self.budget}).budget


def realise(parts: Sequence[Part], width: int) -> tuple[RealisedPart, ...]:
    """The parts as they are built at `width` channels: neighbours that are one part are merged.

    Learned ratios have the size that they start from.

    Raises:
        ValueError: a part gets no channel, or too few for its heads.
    """
    return _merge(parts, _channels(parts, width))


def learning(parts: Sequence[Part], width: int) -> Learning | None:
    """How the ratios of these parts are learned; None where none is.

    Raises:
        ValueError: they cannot be learned together.
    """
    ratios = [part.ratio for part in parts if isinstance(part.ratio, Learned)]
    if not ratios:
        return None
    first = ratios[0]
    if any((r.terms, r.grain) != (first.terms, first.grain) for r in ratios):
        raise ValueError("learned ratios of one block must have equal method, per, grain, budget")
    if len(ratios) > 1 and (first.method == "gates" or first.per == "input"):
        what = "method gates" if first.method == "gates" else "per input"
        raise ValueError(f"learned with {what}: one ratio of a block, got {len(ratios)}")
    if first.method == "gates" and first.per == "input":
        raise ValueError("learned per input: method threshold only, got gates")
    merged = _merge(parts, _channels(parts, width))
    if len(merged) < len(parts):
        raise ValueError(
            "a block with learned ratios must not have the same of pool or identity twice in a row"
        )
    positions = tuple(i for i, part in enumerate(parts) if isinstance(part.ratio, Learned))
    budget = None if first.budget is None else str(first.budget)
    return Learning(positions, first.grain, first.method, first.per, budget)


@cache
def legal_sizes(parts: tuple[RealisedPart, ...], learning: Learning) -> tuple[tuple[int, ...], ...]:
    """Every way to divide a block's channels that its learned ratios may end with.

    Each learned size is a multiple of the grain, the other parts keep theirs, and the last takes
    what is left: nothing, if need be, unless it is self-attention, whose residual would go with it.
    Gates choose among halvings of the width, each at the nearest divisor.

    Raises:
        ValueError: there is none, or too many to list.
    """
    sizes = tuple(_divisions(parts, learning))
    width = sum(part.channels for part in parts)
    if not sizes:
        attending = [part.heads for part in parts if part.op == "self"]
        heads = f" and self-attention a multiple of {attending[0]} heads" if attending else ""
        raise ValueError(
            f"grain {learning.grain}: no size of the learned parts is a multiple of it{heads} "
            f"within {width} channels; try a smaller grain"
        )
    if learning.method == "threshold":
        return sizes
    (position,) = learning.parts
    wanted = [_divisor(width, width / 2**halvings) for halvings in range(width.bit_length())]
    chosen = {min(sizes, key=lambda s, w=w: (abs(s[position] - w), s)) for w in wanted}  # type: ignore[misc]
    return tuple(sorted(chosen, key=lambda s: s[position]))


def _divisions(parts: tuple[RealisedPart, ...], learning: Learning) -> Iterator[tuple[int, ...]]:
    width, grain = sum(part.channels for part in parts), learning.grain
    fixed = sum(part.channels for i, part in enumerate(parts[:-1]) if i not in learning.parts)
    least = parts[-1].heads
    steps = max((width - fixed - least) // grain, 0)
    if prod([steps] * len(learning.parts)) > MOST_SIZES * prod(range(1, len(learning.parts) + 1)):
        raise ValueError(
            f"grain {grain}: too many ways to learn {len(learning.parts)} ratios of {width} "
            "channels; try a larger grain"
        )
    for counts in product(range(1, steps + 1), repeat=len(learning.parts)):
        sizes = [part.channels for part in parts]
        for position, count in zip(learning.parts, counts, strict=True):
            sizes[position] = count * grain
        sizes[-1] = width - sum(sizes[:-1])
        if sizes[-1] >= least and all(_fits(p, s) for p, s in zip(parts, sizes, strict=True)):
            yield tuple(sizes)


def _fits(part: RealisedPart, channels: int) -> bool:
    return part.op != "self" or (channels > 0 and channels % part.heads == 0)


def _divisor(width: int, wanted: float) -> int:
    """The divisor of `width` nearest to a number; the smaller of two."""
    divisors = [d for d in range(1, width + 1) if width % d == 0]
    return min(divisors, key=lambda d: abs(d - wanted))


def _channels(parts: Sequence[Part], width: int) -> list[int]:
    """Channels of each part: boundaries at the floor of the cumulative exact shares.

    A self-attention part keeps a multiple of its heads; what it gives up goes to the nearest part
    that is no self-attention, the one before it first. A block that learns starts from the legal
    sizes next to its shares.
    """
    ends = [int(end * width) for end in accumulate(part.start for part in parts)]
    ends[-1] = width
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    learned = any(isinstance(part.ratio, Learned) for part in parts)
    for index, part in enumerate(parts):
        if sizes[index] < 1:
            raise ValueError(f"parts[{index}] ({part.op}) gets none of {width} channels")
        if part.op == "self":
            _snap(parts, sizes, index)
    return _nearest(parts, sizes) if learned else sizes


def _nearest(parts: Sequence[Part], sizes: Sequence[int]) -> list[int]:
    """The legal sizes nearest to those that the shares give."""
    first = next(part.ratio for part in parts if isinstance(part.ratio, Learned))
    positions = tuple(i for i, part in enumerate(parts) if isinstance(part.ratio, Learned))
    if first.grain > sum(sizes):
        raise ValueError(
            f"grain {first.grain} is larger than the {sum(sizes)} channels of the block: "
            "the largest that works is the width"
        )
    # the method plays no part: several positions are refused for gates by `learning`
    how = Learning(positions, first.grain, "threshold", first.per, None)
    built = tuple(
        RealisedPart(part.op, size, _heads(part)) for part, size in zip(parts, sizes, strict=True)
    )
    options = legal_sizes(built, how)
    if first.method == "gates" and len(positions) == 1:
        options = legal_sizes(built, how._replace(method="gates"))

    whole = [option for option in options if min(option) > 0] or options
    apart = [(sum(abs(a - b) for a, b in zip(o, sizes, strict=True)), o) for o in whole]
    return list(min(apart)[1])


def _heads(part: Part) -> int:
    return (part.heads or DEFAULT_HEADS) if part.op == "self" else 0


def _snap(parts: Sequence[Part], sizes: list[int], index: int) -> None:
    heads = _heads(parts[index])
    spare = sizes[index] % heads
    if sizes[index] < heads:
        raise ValueError(
            f"parts[{index}] (self) gets {sizes[index]} channels, too few for {heads} heads"
        )
    if not spare:
        return
    others = [i for i, part in enumerate(parts) if part.op != "self"]
    if not others:
        raise ValueError(
            f"parts[{index}] (self) gets {sizes[index]} channels, not a multiple of {heads} heads"
        )
    neighbour = min(others, key=lambda i: (abs(i - index), i))
    sizes[index] -= spare
    sizes[neighbour] += spare


def _merge(parts: Sequence[Part], sizes: Sequence[int]) -> tuple[RealisedPart, ...]:
    """Parts as built: neighbours with the same parameter-free operation are one part."""
    realised: list[RealisedPart] = []
    for part, channels in zip(parts, sizes, strict=True):
        if realised and part.op in PARAMETER_FREE and realised[-1].op == part.op:
            realised[-1] = realised[-1]._replace(channels=realised[-1].channels + channels)
        elif channels:
            realised.append(RealisedPart(part.op, channels, _heads(part)))
    return tuple(realised)
