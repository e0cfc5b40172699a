"""Plans: compact descriptions of networks, as in papers, that expand into architectures.

A plan states settings such as width 32, ratio 1/4, channel attention in stages 1-3; the
architecture lists every block. Spaces vary the settings of a plan per network, stage or block.
"""

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from partialnas.space.arch import operation_registry as ops
from partialnas.space.arch.architecture import (
    MAX_DEPTH,
    MAX_MLP_RATIO,
    Activation,
    Architecture,
    Block,
    Stage,
)
from partialnas.space.arch.parts import DEFAULT_HEADS, MAX_PARTS, MAX_WIDTH, Part
from partialnas.space.arch.ratio import LearnedRatio, Ratio, start_ratio
from partialnas.space.errors import UserError
from partialnas.space.validation import expected_one_of, quote, validation_messages
from partialnas.space.values import Share, Value

NUM_STAGES = 4
DEFAULT_OPERATIONS: tuple[str, ...] = ("conv", "attention", "pool", "identity")
"""Default operations of a block's parts, repeated from the start."""

_STAGES = re.compile(r"stages?\s+([0-9])(?:\s*-\s*([0-9]))?")


def parse_stages(text: object) -> list[int]:
    """Return the stages, counted from 0, given as `stage 4`, `stages 1-3` or `stages 1-2, 4`.

    Raises:
        ValueError: The text names no stage, or one that does not exist.
    """
    stages: list[int] = []
    if isinstance(text, str):
        for piece in re.sub(r"^\s*stages?\s+", "", text).split(","):
            match = _STAGES.fullmatch("stage " + piece.strip())
            if match is None:
                stages = []
                break
            first, last = int(match[1]), int(match[2] or match[1])
            stages += range(first - 1, last)
    if not stages or min(stages) < 0 or max(stages) >= NUM_STAGES:
        raise ValueError(f"expected stages such as 'stages 1-3' or 'stage 4', got {quote(text)}")
    return stages


def parse_attention(value: object) -> tuple[str, ...]:
    """Return each stage's attention from `none`, `channel`, `{channel: stages 1-3, self: stage 4}`.

    Raises:
        ValueError: Not a placement, or two kinds of attention in one stage.
    """
    if value is None or isinstance(value, str):
        return (_kind(value or "none"),) * NUM_STAGES
    if isinstance(value, list | tuple):
        return tuple(value)
    if not isinstance(value, Mapping):
        expected = "expected {channel: stages 1-3, self: stage 4} or none"
        raise ValueError(f"{expected}, got {quote(value)}")
    placed = ["none"] * NUM_STAGES
    for kind, stages in value.items():
        for stage in parse_stages(stages):
            if placed[stage] != "none":
                raise ValueError(f"stage {stage + 1} has both {placed[stage]} and {kind}")
            placed[stage] = _kind(kind)
    return tuple(placed)


def _kind(name: object) -> str:
    """Check a kind of attention once, not in each of its stages."""
    if name not in ops.attention_names():
        raise ValueError(expected_one_of(ops.attention_names(), name))
    return str(name)


def parse_pat_sp(value: object) -> tuple[bool, ...]:
    """Return each stage's PAT_sp switch from `true`, `false` or `stages 1-3`."""
    if isinstance(value, bool):
        return (value,) * NUM_STAGES
    if isinstance(value, list | tuple):
        return tuple(value)
    stages = parse_stages(value)
    return tuple(stage in stages for stage in range(NUM_STAGES))


def _parse_ratio(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Ratios = Annotated[tuple[Ratio, ...], Field(min_length=1), BeforeValidator(_parse_ratio)]
"""Share of the first part, or of all parts but the last."""


class BlockSettings(Value):
    """Settings of one block; a space may vary each of them by block.

    Attributes:
        parts: number of parts that the channels are split into.
        ratio: share of the first part, or of all parts but the last; parts without a stated share
            divide the rest equally. `{learned: {budget: 1/4}}` in place of a share learns it during
            training.
        operations: operations of the parts, in order; `attention` stands for the block's attention
            (identity for `none`). Default: conv, attention, pool, identity, repeated. With one part
            the first operation works on all channels.
        attention: kind of attention.
        heads: number of heads of self-attention.
        mlp_ratio: hidden width of the MLP divided by the width.
        pat_sp: whether PAT_sp follows the MLP.
    """

    parts: int = Field(default=2, ge=1, le=MAX_PARTS)
    ratio: Ratios = (Fraction(1, 4),)
    operations: tuple[ops.ListedOperation, ...] | None = None
    attention: ops.AttentionName = ops.NO_ATTENTION
    heads: int = Field(default=DEFAULT_HEADS, ge=1, le=MAX_WIDTH)
    mlp_ratio: Share = Field(default=Fraction(2), gt=0, le=MAX_MLP_RATIO)
    pat_sp: bool = False

    def block(self) -> Block:
        """Return the block with these settings.

        Raises:
            ValueError: Fewer operations than parts, or shares that leave nothing for other parts.
        """
        shares: list[Fraction | LearnedRatio | None] = [*self._shares(), None]
        parts = [self._part(index, share) for index, share in enumerate(shares)]
        return Block(parts=tuple(parts), mlp_ratio=self.mlp_ratio, pat_sp=self.pat_sp)

    def _shares(self) -> list[Fraction | LearnedRatio]:
        stated = list(self.ratio[: self.parts - 1])
        rest = 1 - sum(map(start_ratio, stated), Fraction(0))
        if rest <= 0:
            shares = ", ".join(map(str, stated))
            raise ValueError(f"ratio: shares {shares} leave nothing for the other parts")
        unstated = self.parts - len(stated)
        return stated + [rest / unstated] * (unstated - 1)

    def _part(self, index: int, share: Fraction | LearnedRatio | None) -> Part:
        operations = self.operations or DEFAULT_OPERATIONS * 2
        if index >= len(operations):
            raise ValueError(f"operations: got {len(operations)} for {self.parts} parts")
        op = ops.block_operation(operations[index], self.attention)
        return Part(op=op, ratio=share, heads=self.heads if ops.OPERATIONS[op].has_heads else None)


def build_block(settings: Mapping[str, Any], width: int) -> Block:
    """Return the block with these settings, after a check that it can be built at this width.

    Raises:
        ValueError: The settings are invalid, or the block cannot be built.
    """
    try:
        block = BlockSettings(**settings).block()
    except ValidationError as error:
        raise ValueError("; ".join(validation_messages(error))) from None
    block.realize(width)
    return block


NETWORK_SETTINGS = ("stem_stride", "activation", "head_width")
"""Settings of a plan that concern the whole network."""

BLOCK_SETTINGS = tuple(BlockSettings.model_fields)

Override = Callable[[int, int], Mapping[str, Any]]
"""Settings that override the plan's, by stage and block, both counted from 0."""


_FourAttentions = tuple[ops.AttentionName, ops.AttentionName, ops.AttentionName, ops.AttentionName]
_FourSwitches = tuple[bool, bool, bool, bool]


class Plan(Value):
    """A compact description of a network with four stages.

    Attributes:
        name: name of the network.
        stem_stride: stride and kernel size of the stem, in pixels.
        width: channels of the first stage, doubled from stage to stage, or channels of each stage.
        depths: number of blocks of each stage.
        attention: attention of each stage; written `none`, `channel`, or
            `{channel: stages 1-3, self: stage 4}`.
        pat_sp: stages with PAT_sp; written `true`, `false` or `stages 1-3`.
        ratio: share of the first part, or of all parts but the last.
        parts: number of parts that the channels of a block are split into.
        operations: operations of the parts, in order; see `BlockSettings`.
        mlp_ratio: hidden width of the MLPs divided by the width.
        activation: activation of the MLPs and of the head.
        heads: number of heads of self-attention.
        head_width: channels of the head, before the classifier.
    """

    shorthands: ClassVar[tuple[str, ...]] = ("preset",)

    name: str = ""
    stem_stride: Literal[1, 2, 4] = 4
    width: int | tuple[int, int, int, int] = 32
    depths: tuple[int, int, int, int] = (1, 2, 8, 2)
    parts: int = Field(default=2, ge=1, le=MAX_PARTS)
    ratio: Ratios = (Fraction(1, 4),)
    operations: tuple[ops.ListedOperation, ...] | None = None
    attention: Annotated[_FourAttentions, BeforeValidator(parse_attention)] = ("none",) * 4
    pat_sp: Annotated[_FourSwitches, BeforeValidator(parse_pat_sp)] = (False,) * 4
    mlp_ratio: Share = Field(default=Fraction(2), gt=0, le=MAX_MLP_RATIO)
    activation: Activation = "gelu"
    heads: int = Field(default=DEFAULT_HEADS, ge=1, le=MAX_WIDTH)
    head_width: int = Field(default=1280, ge=1, le=MAX_WIDTH)

    @model_validator(mode="after")
    def _check_widths_and_depths(self) -> Self:
        if not 1 <= min(self.widths) <= max(self.widths) <= MAX_WIDTH:
            width = quote(self.width)
            raise ValueError(
                f"width: expected 1 to {MAX_WIDTH} channels in each stage, got {width}"
            )
        if not 1 <= min(self.depths) <= max(self.depths) <= MAX_DEPTH:
            depths = quote(self.depths)
            raise ValueError(
                f"depths: expected 1 to {MAX_DEPTH} blocks in each stage, got {depths}"
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each stage, in channels."""
        if isinstance(self.width, tuple):
            return self.width
        return tuple(self.width * 2**stage for stage in range(NUM_STAGES))

    def settings(self, stage: int) -> dict[str, Any]:
        """Return the block settings of a stage, counted from 0."""
        values = {key: getattr(self, key) for key in BLOCK_SETTINGS}
        values["operations"] = self.operations or DEFAULT_OPERATIONS * 2
        return values | {"attention": self.attention[stage], "pat_sp": self.pat_sp[stage]}

    def architecture(self, override: Override | None = None) -> Architecture:
        """Return the plan's architecture, with the settings of `override` where it has any.

        Raises:
            UserError: A block cannot be built; the message names its stage and block from 1.
        """
        stages = tuple(
            Stage.model_construct(
                width=width,
                blocks=tuple(self._block(stage, block, width, override) for block in range(depth)),
            )
            for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True))
        )
        network = {key: getattr(self, key) for key in NETWORK_SETTINGS}
        return Architecture(name=self.name, stages=stages, **network)

    def _block(self, stage: int, index: int, width: int, override: Override | None) -> Block:
        changes = override(stage, index) if override else {}
        try:
            return build_block({**self.settings(stage), **changes}, width)
        except ValueError as error:
            raise UserError(f"stage {stage + 1}, block {index + 1}: {error}") from None
