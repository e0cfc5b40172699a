"""Architectures: immutable descriptions of partial-channel networks, and their digests."""

import json
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_serializer, model_validator

from partialnas.space.errors import UserError
from partialnas.space.values import Share, Value, checked, digest

Op = Literal["conv", "channel", "spatial", "self", "pool", "identity"]
"""What is done to a part of the channels: 3x3 convolution, channel attention, spatial attention,
self-attention, 3x3 average pooling, nothing."""

Activation = Literal["gelu", "relu", "silu", "hardswish"]

MAX_PARTS = 8
DEFAULT_HEADS = 4
PARAMETER_FREE = ("pool", "identity")
"""Operations without weights: neighbouring parts that share one are one part."""


class Part(Value):
    """A share of a block's channels and the operation that works on it.

    The last part of a block states no ratio: it takes the channels that are left.
    """

    op: Op
    ratio: Share | None = Field(default=None, gt=0, lt=1)
    heads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _heads_belong_to_self_attention(self) -> Self:
        if self.heads is not None and self.op != "self":
            raise ValueError(f"heads belong to a self-attention part, not to {self.op!r}")
        return self

    @model_serializer(mode="wrap")
    def _without_blanks(self, handler: Any) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class RealisedPart(NamedTuple):
    """A part as it is built: its operation over so many channels (heads: 0 unless attention)."""

    op: Op
    channels: int
    heads: int


class RealisedBlock(NamedTuple):
    """A block as it is built, after integer division and without dead switches."""

    width: int
    parts: tuple[RealisedPart, ...]
    hidden: int
    pat_sp: bool

    @property
    def double_residual(self) -> bool:
        """Whether the mixer has a residual of its own, as blocks with self-attention do."""
        return any(part.op == "self" for part in self.parts)


class Block(Value):
    """A partial-channel mixer followed by an MLP, each block's own residual around them.

    Attributes:
        parts: the channel parts in order, 1 to 8 of them.
        mlp_ratio: hidden width of the MLP over the block's width.
        pat_sp: whether spatial attention (PAT_sp) follows the MLP's second 1x1 convolution.
    """

    parts: tuple[Part, ...] = Field(min_length=1, max_length=MAX_PARTS)
    mlp_ratio: Share = Field(default=Fraction(2), gt=0)
    pat_sp: bool = False

    @model_validator(mode="after")
    def _every_part_but_the_last_states_its_ratio(self) -> Self:
        *stated, last = self.parts
        for index, part in enumerate(stated):
            if part.ratio is None:
                raise ValueError(f"parts[{index}].ratio: missing; only the last part has none")
        if last.ratio is not None:
            raise ValueError("the last part takes what is left: leave out its ratio")
        if sum(part.ratio or 0 for part in stated) >= 1:
            raise ValueError("the ratios of the parts before the last must add up to less than 1")
        return self

    def realise(self, width: int) -> RealisedBlock:
        """The block as it is built at `width` channels.

        Raises:
            ValueError: a part gets no channel, or too few for its heads.
        """
        if self.pat_sp and width < 2:
            raise ValueError("pat_sp needs at least 2 channels")
        hidden = int(width * self.mlp_ratio)
        if hidden < 1:
            raise ValueError(f"mlp_ratio {self.mlp_ratio} of {width} channels leaves none hidden")
        parts = _merge(self.parts, _channels(self.parts, width))
        return RealisedBlock(width, parts, hidden, self.pat_sp)


def _channels(parts: tuple[Part, ...], width: int) -> list[int]:
    """Channels of each part: boundaries at the floor of the cumulative exact shares.

    A self-attention part keeps a multiple of its heads; what it gives up goes to the nearest part
    that is no self-attention, the one before it first.
    """
    ends = [int(sum(part.ratio or 0 for part in parts[: i + 1]) * width) for i in range(len(parts))]
    ends[-1] = width
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    for index, part in enumerate(parts):
        if sizes[index] < 1:
            raise ValueError(f"parts[{index}] ({part.op}) gets none of {width} channels")
        if part.op == "self":
            _snap(parts, sizes, index)
    return sizes


def _snap(parts: tuple[Part, ...], sizes: list[int], index: int) -> None:
    heads = parts[index].heads or DEFAULT_HEADS
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


def _merge(parts: tuple[Part, ...], sizes: list[int]) -> tuple[RealisedPart, ...]:
    """Parts as built: neighbours with the same parameter-free operation are one part."""
    realised: list[RealisedPart] = []
    for part, channels in zip(parts, sizes, strict=True):
        heads = (part.heads or DEFAULT_HEADS) if part.op == "self" else 0
        if realised and part.op in PARAMETER_FREE and realised[-1].op == part.op:
            realised[-1] = realised[-1]._replace(channels=realised[-1].channels + channels)
        else:
            realised.append(RealisedPart(part.op, channels, heads))
    return tuple(realised)


class Stage(Value):
    """Blocks of one width on one map size."""

    width: int = Field(ge=1)
    blocks: tuple[Block, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_block_can_be_built(self) -> Self:
        for index, block in enumerate(self.blocks):
            try:
                block.realise(self.width)
            except ValueError as error:
                raise ValueError(f"blocks[{index}]: {error}") from None
        return self

    @property
    def realised(self) -> tuple[RealisedBlock, ...]:
        """The stage's blocks as they are built."""
        return tuple(block.realise(self.width) for block in self.blocks)


class Architecture(Value):
    """An immutable description of one network (arXiv 2502.01303, and its generalisation).

    A stem of stride `stem_stride`, stages with a stride-2 merge before each but the first, and a
    head: pooling, 1x1 convolution to `head_width`, activation, linear.
    """

    name: str = ""
    stem_stride: Literal[1, 2, 4] = 4
    stages: tuple[Stage, ...] = Field(min_length=1)
    activation: Activation = "gelu"
    head_width: int = Field(default=1280, ge=1)

    @cached_property
    def realised(self) -> tuple[tuple[RealisedBlock, ...], ...]:
        """Per stage the blocks as they are built; the network is made from this alone."""
        return tuple(stage.realised for stage in self.stages)

    @cached_property
    def digest(self) -> str:
        """Identity of the network that is built: blind to the name and to dead switches."""
        return digest([self.stem_stride, self.activation, self.head_width, self.realised])

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields replaced; what was derived from the old ones is derived anew."""
        copy = super().model_copy(update=update, deep=deep)
        for derived in ("realised", "digest"):
            copy.__dict__.pop(derived, None)
        return copy

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(stage.width for stage in self.stages)

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of each stage."""
        return tuple(len(stage.blocks) for stage in self.stages)

    @property
    def smallest_resolution(self) -> int:
        """The smallest side, in pixels, of an input that leaves the last stage a 1x1 map."""
        return int(self.stem_stride * 2 ** (len(self.stages) - 1))

    def map_sizes(self, resolution: int | tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Height and width of each stage's maps for an input of `resolution` pixels.

        Raises:
            UserError: the input is too small for the strides.
        """
        height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
        if min(height, width) < self.smallest_resolution:
            raise UserError(
                f"an input of {height}x{width} pixels is too small for a stem of stride "
                f"{self.stem_stride} and {len(self.stages)} stages: the smallest that works is "
                f"{self.smallest_resolution}x{self.smallest_resolution}"
            )
        strides = [self.stem_stride * 2**index for index in range(len(self.stages))]
        return tuple((height // stride, width // stride) for stride in strides)

    def to_json(self, indent: int | None = None) -> str:
        """The architecture as JSON text; `from_json` reads it back to an equal value."""
        return self.model_dump_json(indent=indent)

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """The architecture that JSON `text` describes.

        Raises:
            UserError: not JSON, or not an architecture; names the path of every mistake.
        """
        try:
            return cls.from_data(json.loads(text))
        except json.JSONDecodeError as error:
            raise UserError(f"not JSON: {error}") from None

    @classmethod
    def from_file(cls, path: Path) -> "Architecture":
        """The architecture that the JSON file at `path` describes.

        Raises:
            UserError: the file cannot be read, or is no architecture; names it and every mistake.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            told = f"{path} is not a text file; expected an architecture in JSON"
            raise UserError(told) from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def from_data(cls, data: Any) -> "Architecture":
        """The architecture that plain data (parsed JSON or YAML) describe.

        Raises:
            UserError: not an architecture; names the path of every mistake.
        """
        return checked(cls, data, "not an architecture")

    def summary(self) -> str:
        """One line that tells architectures apart: widths, depths, mixers."""
        widths, depths = (_run_lengths(values) for values in (self.widths, self.depths))
        mixers = [_mixer(block) for blocks in self.realised for block in blocks]
        return f"s{self.stem_stride} widths {widths} depths {depths}: " + _run_lengths(mixers)


def _mixer(block: RealisedBlock) -> str:
    parts = "+".join(f"{part.op}{part.channels}" for part in block.parts)
    return parts + ("+pat_sp" if block.pat_sp else "")


def _run_lengths(values: Any) -> str:
    runs = [(value, len(list(run))) for value, run in groupby(values)]
    return " ".join(f"{value}" if n == 1 else f"{value}x{n}" for value, n in runs)
