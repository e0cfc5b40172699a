"""Architectures: immutable descriptions of partial-channel networks, and their digests."""

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from partialnas.space.arch.parts import MAX_PARTS, MAX_WIDTH, Part, RealizedPart, realize
from partialnas.space.arch.ratio import LearnedRatio, LearningSettings, learned_ratio_conflict
from partialnas.space.errors import UserError
from partialnas.space.values import Share, Value, digest, validate_as

Activation = Literal["gelu", "relu", "silu", "hardswish"]


class RealizedBlock(NamedTuple):
    """A block as it is built: channels instead of shares, no settings without effect."""

    width: int
    parts: tuple[RealizedPart, ...]
    hidden: int
    pat_sp: bool
    learning: LearningSettings | None = None

    @property
    def identity(self) -> list[Any]:
        """Plain data for the digest, without `learning` if nothing is learned."""
        return [*self] if self.learning else [*self[:-1]]

    @property
    def double_residual(self) -> bool:
        """Whether the mixer has its own residual, as blocks with self-attention do."""
        return any(part.heads for part in self.parts)


MAX_DEPTH = 1000
"""Most blocks of a stage."""

MAX_STAGES = 16
MAX_MLP_RATIO = 256

_MAX_CHARACTERS = 10_000_000


class Boundary(NamedTuple):
    """Position of a learned ratio: stage, block and part, all counted from 0."""

    stage: int
    block: int
    part: int

    @property
    def name(self) -> str:
        """Label counted from 1: `stage 2, block 1`, with the part if it is not the first."""
        part = f", part {self.part + 1}" if self.part else ""
        return f"stage {self.stage + 1}, block {self.block + 1}{part}"


class Block(Value):
    """A partial-channel mixer followed by an MLP, with a residual connection around them.

    Attributes:
        parts: 1 to 8 channel parts, in order.
        mlp_ratio: hidden width of the MLP divided by the block's width.
        pat_sp: whether spatial attention (PAT_sp) follows the MLP's second 1x1 convolution.
    """

    parts: tuple[Part, ...] = Field(min_length=1, max_length=MAX_PARTS)
    mlp_ratio: Share = Field(default=Fraction(2), gt=0, le=MAX_MLP_RATIO)
    pat_sp: bool = False

    @model_validator(mode="after")
    def _check_ratios(self) -> Self:
        *stated, last = self.parts
        for index, part in enumerate(stated):
            if part.ratio is None:
                raise ValueError(f"parts[{index}].ratio: missing; only the last part may omit it")
        if last.ratio is not None:
            raise ValueError("the last part takes the remaining channels: remove its ratio")
        if sum(part.start for part in stated) >= 1:
            raise ValueError("the ratios of the parts before the last must add up to less than 1")
        return self

    @property
    def learned(self) -> LearnedRatio | None:
        """The first learned ratio, or None; the others have the same settings."""
        ratios = (part.ratio for part in self.parts)
        return next((ratio for ratio in ratios if isinstance(ratio, LearnedRatio)), None)

    def realize(self, width: int) -> RealizedBlock:
        """Return the block as it is built at `width` channels.

        Raises:
            ValueError: A part gets no channels, or too few for its heads.
        """
        return _realized(self, width)

    def frozen(self, width: int, sizes: Sequence[int]) -> "Block":
        """Return the block with these channels for each part, without parts of 0 channels."""
        shares = [Fraction(size, width) for size in sizes]
        kept = [(part, share) for part, share in zip(self.parts, shares, strict=True) if share]
        plain = [part.model_copy(update={"ratio": share}) for part, share in kept[:-1]]
        last = kept[-1][0].model_copy(update={"ratio": None})
        return self.model_copy(update={"parts": (*plain, last)})


@lru_cache(maxsize=4096)
def _realized(block: Block, width: int) -> RealizedBlock:
    """Cached, because networks repeat their blocks."""
    if block.pat_sp and width < 2:
        raise ValueError("pat_sp needs at least 2 channels")
    hidden = int(width * block.mlp_ratio)
    if hidden < 1:
        raise ValueError(f"mlp_ratio {block.mlp_ratio} of {width} channels gives no channels")
    parts, learning = realize(block.parts, width)
    return RealizedBlock(width, parts, hidden, block.pat_sp, learning)


class Stage(Value):
    """Blocks of one width on feature maps of one size."""

    width: int = Field(ge=1, le=MAX_WIDTH)
    blocks: tuple[Block, ...] = Field(min_length=1, max_length=MAX_DEPTH)

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        _ = self.realized
        return self

    @cached_property
    def realized(self) -> tuple[RealizedBlock, ...]:
        """The blocks as they are built.

        Raises:
            ValueError: A block cannot be built; the message names its position.
        """
        built = []
        for index, block in enumerate(self.blocks):
            try:
                built.append(block.realize(self.width))
            except ValueError as error:
                raise ValueError(f"blocks[{index}]: {error}") from None
        return tuple(built)


class Architecture(Value):
    """An immutable description of one network (arXiv 2502.01303, generalized).

    A stem of stride `stem_stride`, stages with a stride-2 merge before each but the first, and a
    head: pooling, 1x1 convolution to `head_width`, activation, linear.
    """

    name: str = ""
    stem_stride: Literal[1, 2, 4] = 4
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=MAX_STAGES)
    activation: Activation = "gelu"
    head_width: int = Field(default=1280, ge=1, le=MAX_WIDTH)

    @model_validator(mode="after")
    def _check_learned_ratios(self) -> Self:
        self.check_learned()
        return self

    def check_learned(self) -> None:
        """Check that all learned ratios have the same method, granularity and budget.

        Raises:
            ValueError: They differ.
        """
        if conflict := learned_ratio_conflict(self._learned_ratios()):
            raise ValueError(conflict)

    def _learned_ratios(self) -> Iterator[LearnedRatio]:
        blocks = (block.learned for stage in self.stages for block in stage.blocks)
        return (ratio for ratio in blocks if ratio is not None)

    @cached_property
    def learned(self) -> LearnedRatio | None:
        """The first learned ratio, or None; the others share its method, granularity and budget."""
        return next(self._learned_ratios(), None)

    @cached_property
    def boundaries(self) -> tuple[Boundary, ...]:
        """Positions of the learned ratios, from input to output."""
        return tuple(
            Boundary(stage, block, position)
            for stage, blocks in enumerate(self.realized)
            for block, built in enumerate(blocks)
            for position in (built.learning.parts if built.learning else ())
        )

    def frozen(self, sizes: Mapping[tuple[int, int], Sequence[int]]) -> "Architecture":
        """Return the architecture with fixed ratios in place of learned ones.

        Args:
            sizes: channels of every part of each block with learned ratios, by stage and block
                (from 0).

        Raises:
            UserError: The sizes of a block with learned ratios are missing.
        """
        stages = list(self.stages)
        for i, stage in enumerate(stages):
            blocks = list(stage.blocks)
            for j, built in enumerate(stage.realized):
                if built.learning and (i, j) not in sizes:
                    raise UserError(f"stage {i + 1}, block {j + 1}: its sizes are missing")
                if built.learning:
                    blocks[j] = blocks[j].frozen(stage.width, sizes[i, j])
            stages[i] = stage.model_copy(update={"blocks": tuple(blocks)})
        return self.model_copy(update={"stages": tuple(stages)})

    @cached_property
    def realized(self) -> tuple[tuple[RealizedBlock, ...], ...]:
        """The blocks of each stage as they are built; they define the network."""
        return tuple(stage.realized for stage in self.stages)

    @cached_property
    def digest(self) -> str:
        """Digest of what is built; the name and settings without effect do not change it."""
        blocks = [[block.identity for block in blocks] for blocks in self.realized]
        return digest([self.stem_stride, self.activation, self.head_width, blocks])

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each stage, in channels."""
        return tuple(stage.width for stage in self.stages)

    @property
    def depths(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        return tuple(len(stage.blocks) for stage in self.stages)

    @property
    def smallest_resolution(self) -> int:
        """Smallest input size, in pixels, that gives the last stage a 1x1 map."""
        return int(self.stem_stride * 2 ** (len(self.stages) - 1))

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return the height and width of each stage's maps for an input of this size in pixels.

        Raises:
            UserError: The input is too small for the strides.
        """
        if min(height, width) < self.smallest_resolution:
            raise UserError(
                f"an input of {height}x{width} pixels is too small for a stem of stride "
                f"{self.stem_stride} and {len(self.stages)} stages: the smallest valid input is "
                f"{self.smallest_resolution}x{self.smallest_resolution}"
            )
        strides = [self.stem_stride * 2**index for index in range(len(self.stages))]
        return tuple((height // stride, width // stride) for stride in strides)

    def to_json(self, indent: int | None = None) -> str:
        """Return the architecture as JSON; `from_json` reads it back."""
        return self.model_dump_json(indent=indent)

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Read an architecture from JSON.

        Raises:
            UserError: The text is not JSON or not an architecture; lists every error with its path.
        """
        if len(text) > _MAX_CHARACTERS:
            raise UserError(f"not an architecture: more than {_MAX_CHARACTERS:,} characters")
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"not JSON: {error}") from None
        except RecursionError:
            raise UserError("not an architecture: the JSON is nested too deeply") from None
        except ValueError:  # of Python, for integers of thousands of digits
            raise UserError("not an architecture: a number has too many digits") from None
        return cls.from_data(data)

    @classmethod
    def from_file(cls, path: Path) -> "Architecture":
        """Read an architecture from a JSON file.

        Raises:
            UserError: The file cannot be read or is not an architecture; lists every error.
        """
        try:
            with path.open(encoding="utf-8") as file:
                return cls.from_json(file.read(_MAX_CHARACTERS + 1))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            expected = "expected an architecture in JSON"
            raise UserError(f"{path} is not a text file; {expected}") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def from_data(cls, data: Any) -> "Architecture":
        """Read an architecture from plain data (parsed JSON or YAML).

        Raises:
            UserError: The data are not an architecture; lists every error with its path.
        """
        return validate_as(cls, data, "not an architecture")

    def summary(self) -> str:
        """Return a one-line description: stem stride, widths, depths, mixers."""
        widths, depths = (_run_lengths(values) for values in (self.widths, self.depths))
        mixers = [_mixer(block) for blocks in self.realized for block in blocks]
        return f"s{self.stem_stride} widths {widths} depths {depths}: " + _run_lengths(mixers)


def _mixer(block: RealizedBlock) -> str:
    learned = block.learning.parts if block.learning else ()
    marks = ("~" if index in learned else "" for index in range(len(block.parts)))
    parts = [f"{p.op}{mark}{p.channels}" for p, mark in zip(block.parts, marks, strict=True)]
    return "+".join([*parts, *["pat_sp"] * block.pat_sp])


def _run_lengths(values: Any) -> str:
    runs = [(value, len(list(run))) for value, run in groupby(values)]
    return " ".join(f"{value}" if n == 1 else f"{value}x{n}" for value, n in runs)
