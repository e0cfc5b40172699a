"""Architectures: immutable descriptions of partial-channel networks, and their digests."""

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from partialnas.space.arch.parts import (
    MAX_PARTS,
    LearningSettings,
    Part,
    RealizedPart,
    learning_settings,
    realize,
)
from partialnas.space.arch.ratio import LearnedRatio, learned_ratio_conflict
from partialnas.space.errors import UserError
from partialnas.space.values import Share, Value, digest, validate_as

Activation = Literal["gelu", "relu", "silu", "hardswish"]


class RealizedBlock(NamedTuple):
    """A block as it is built, after integer division and without dead switches."""

    width: int
    parts: tuple[RealizedPart, ...]
    hidden: int
    pat_sp: bool
    learning: LearningSettings | None = None

    @property
    def identity(self) -> list[Any]:
        """Plain data of what is built; that nothing is learned is not mentioned."""
        return [*self] if self.learning else [*self[:-1]]

    @property
    def double_residual(self) -> bool:
        """Whether the mixer has a residual of its own, as blocks with self-attention do."""
        return any(part.heads for part in self.parts)


class Boundary(NamedTuple):
    """A learned ratio: which part of which block, all counted from 0."""

    stage: int
    block: int
    part: int

    @property
    def name(self) -> str:
        """As in tables, counted from 1: `stage 2, block 1`; a part beyond the first is named."""
        part = f", part {self.part + 1}" if self.part else ""
        return f"stage {self.stage + 1}, block {self.block + 1}{part}"


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
        if sum(part.start for part in stated) >= 1:
            raise ValueError("the ratios of the parts before the last must add up to less than 1")
        return self

    @property
    def learned(self) -> LearnedRatio | None:
        """The first of its learned ratios; the others share its terms."""
        ratios = (part.ratio for part in self.parts)
        return next((ratio for ratio in ratios if isinstance(ratio, LearnedRatio)), None)

    def realize(self, width: int) -> RealizedBlock:
        """The block as it is built at `width` channels.

        Raises:
            ValueError: a part gets no channel, or too few for its heads.
        """
        return _realized(self, width)

    def frozen(self, width: int, sizes: Sequence[int]) -> "Block":
        """The block with these channels for each part; parts that get none are gone."""
        shares = [Fraction(size, width) for size in sizes]
        kept = [(part, share) for part, share in zip(self.parts, shares, strict=True) if share]
        plain = [part.model_copy(update={"ratio": share}) for part, share in kept[:-1]]
        last = kept[-1][0].model_copy(update={"ratio": None})
        return self.model_copy(update={"parts": (*plain, last)})


@lru_cache(maxsize=4096)
def _realized(block: Block, width: int) -> RealizedBlock:
    """Equal blocks are built once: networks repeat theirs."""
    if block.pat_sp and width < 2:
        raise ValueError("pat_sp needs at least 2 channels")
    hidden = int(width * block.mlp_ratio)
    if hidden < 1:
        raise ValueError(f"mlp_ratio {block.mlp_ratio} of {width} channels leaves none hidden")
    parts = realize(block.parts, width)
    return RealizedBlock(width, parts, hidden, block.pat_sp, learning_settings(block.parts))


class Stage(Value):
    """Blocks of one width on one map size."""

    width: int = Field(ge=1)
    blocks: tuple[Block, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_block_can_be_built(self) -> Self:
        _ = self.realized
        return self

    @cached_property
    def realized(self) -> tuple[RealizedBlock, ...]:
        """The stage's blocks as they are built.

        Raises:
            ValueError: one of them cannot be built; names its position.
        """
        built = []
        for index, block in enumerate(self.blocks):
            try:
                built.append(block.realize(self.width))
            except ValueError as error:
                raise ValueError(f"blocks[{index}]: {error}") from None
        return tuple(built)


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

    @model_validator(mode="after")
    def _learned_ratios_go_together(self) -> Self:
        self.check_learned()
        return self

    def check_learned(self) -> None:
        """Refuses learned ratios that have no common method, granularity or budget.

        Raises:
            ValueError: they have none.
        """
        if told := learned_ratio_conflict(self._learned_ratios()):
            raise ValueError(told)

    def _learned_ratios(self) -> Iterator[LearnedRatio]:
        blocks = (block.learned for stage in self.stages for block in stage.blocks)
        return (ratio for ratio in blocks if ratio is not None)

    @cached_property
    def learned(self) -> LearnedRatio | None:
        """What its learned ratios have in common (grain and start are the first one's)."""
        return next(self._learned_ratios(), None)

    @cached_property
    def boundaries(self) -> tuple[Boundary, ...]:
        """The learned ratios, from input to output."""
        return tuple(
            Boundary(stage, block, position)
            for stage, blocks in enumerate(self.realized)
            for block, built in enumerate(blocks)
            for position in (built.learning.parts if built.learning else ())
        )

    def frozen(self, sizes: Mapping[tuple[int, int], Sequence[int]]) -> "Architecture":
        """The architecture with plain ratios in the place of learned ones.

        Args:
            sizes: by stage and block (from 0) the channels of every part, for each block that
                learns.

        Raises:
            UserError: a block that learns has no sizes.
        """
        stages = [
            stage.model_copy(
                update={
                    "blocks": tuple(
                        block.frozen(stage.width, self._sizes(sizes, (i, j)))
                        if built.learning
                        else block
                        for j, (block, built) in enumerate(
                            zip(stage.blocks, self.realized[i], strict=True)
                        )
                    )
                }
            )
            for i, stage in enumerate(self.stages)
        ]
        return self.model_copy(update={"stages": tuple(stages)})

    def _sizes(
        self, sizes: Mapping[tuple[int, int], Sequence[int]], place: tuple[int, int]
    ) -> Sequence[int]:
        if place not in sizes:
            raise UserError(f"stage {place[0] + 1}, block {place[1] + 1}: its sizes are missing")
        return sizes[place]

    @cached_property
    def realized(self) -> tuple[tuple[RealizedBlock, ...], ...]:
        """Per stage the blocks as they are built; the network is made from this alone."""
        return tuple(stage.realized for stage in self.stages)

    @cached_property
    def digest(self) -> str:
        """Identity of the network that is built: blind to the name and to dead switches."""
        blocks = [[block.identity for block in blocks] for blocks in self.realized]
        return digest([self.stem_stride, self.activation, self.head_width, blocks])

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

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return the height and width of each stage's maps for an input of this size in pixels.

        Raises:
            UserError: the input is too small for the strides.
        """
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
        return validate_as(cls, data, "not an architecture")

    def summary(self) -> str:
        """One line that tells architectures apart: widths, depths, mixers."""
        widths, depths = (_run_lengths(values) for values in (self.widths, self.depths))
        mixers = [_mixer(block) for blocks in self.realized for block in blocks]
        return f"s{self.stem_stride} widths {widths} depths {depths}: " + _run_lengths(mixers)


def _mixer(block: RealizedBlock) -> str:
    learned = block.learning.parts if block.learning else ()
    parts = "+".join(
        f"{part.op}~{part.channels}" if index in learned else f"{part.op}{part.channels}"
        for index, part in enumerate(block.parts)
    )
    return parts + ("+pat_sp" if block.pat_sp else "")


def _run_lengths(values: Any) -> str:
    runs = [(value, len(list(run))) for value, run in groupby(values)]
    return " ".join(f"{value}" if n == 1 else f"{value}x{n}" for value, n in runs)
