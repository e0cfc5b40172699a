"""What each axis and each operation does, with examples, for the documentation."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from partialnas.space.arch.architecture import Activation
from partialnas.space.arch.operation_registry import attention_names, listed_operation_names
from partialnas.space.arch.parts import DEFAULT_HEADS, MAX_PARTS
from partialnas.space.arch.plan import DEFAULT_OPERATIONS
from partialnas.space.axes.levels import AXES


@dataclass(frozen=True)
class AxisDescription:
    """Description of an axis.

    Attributes:
        meaning: what the axis changes.
        levels: the values that it accepts.
        example: an axis as it is written in a study, in YAML.
        effect: the networks or blocks in which it has an effect; elsewhere it is inactive and
            counts as no choice.
    """

    meaning: str
    levels: str
    example: str
    effect: str = "every network"


def _codes(names: Iterable[object]) -> str:
    return ", ".join(f"`{name}`" for name in names)


OPERATION_DESCRIPTIONS: dict[str, str] = {
    "conv": "3x3 convolution of stride 1 among the channels of the part, without bias: the "
    "partial convolution of FasterNet",
    "channel": "channel attention (PAT_ch): each channel is multiplied by a gate from 0 to 1, "
    "which is computed from the means and deviations of all channels of the part; a batch norm "
    "follows",
    "spatial": "spatial attention: each position is multiplied by a gate from 0 to 1, which is "
    "computed from the channels of the part at this position; a batch norm follows",
    "self": "multi-head self-attention over all positions (PAT_sf), after a layer norm. The part "
    "gets a multiple of `heads` channels, the nearest other part the surplus, and the block a "
    "residual around its parts",
    "pool": "3x3 average pooling of stride 1, channel by channel; no weights",
    "identity": "the channels stay as they are; no weights and no cost",
    "attention": "the `attention` of the block: `channel`, `spatial` or `self`, and `identity` if "
    "it is `none`",
}
"""What the operations of parts do to the channels of their part, by name."""

DEFAULT_OPERATION_LIST = ", ".join(DEFAULT_OPERATIONS)

_SHARE = "a share of the channels between 0 and 1, or `{learned: {...}}` to learn it in training"
_NUMBER = "whole numbers from 1"

_GENERAL = {
    "stem_stride": AxisDescription(
        "Stride and kernel size of the stem in pixels. A smaller stride gives larger maps and "
        "more MACs.",
        "`1`, `2`, `4`",
        "[2, 4]",
    ),
    "activation": AxisDescription(
        "Activation of the MLPs and of the head.", _codes(get_args(Activation)), "[gelu, relu]"
    ),
    "head_width": AxisDescription(
        "Channels of the head, before the classifier.", _NUMBER, "[640, 1280]"
    ),
    "width": AxisDescription(
        "Channels. A number is the width of the first stage, doubled from stage to stage; a list "
        "has the width of each stage. Per stage, the number is the width of that stage.",
        "whole numbers from 1, or lists of four",
        "[24, 32, [32, 64, 96, 128]]",
    ),
    "depths": AxisDescription(
        "Number of blocks of each of the four stages.",
        "lists of four whole numbers",
        "[[1, 2, 8, 2], [2, 2, 6, 2]]",
    ),
    "depth": AxisDescription(
        "Number of blocks of a stage; per network, of every stage. Excludes `depths`.",
        _NUMBER,
        "{values: [1, 2, 4], per: stage}",
    ),
    "parts": AxisDescription(
        "Number of parts that the channels of a block are split into. Part 1 has the first "
        "channels and the last part the last ones; `ratio` states their shares, and the first "
        "operations of `operations`, one for each part, what is done to them. With one part, the "
        "first operation works on all channels. The base has 2 by default.",
        f"1 to {MAX_PARTS}",
        "[1, 2, 3]",
    ),
    "operations": AxisDescription(
        "Operations of the parts of a block, in order of their channels. The first operation works "
        "on the first channels, whose share is the first `ratio`: `[conv, identity]` convolves "
        "them and `[identity, conv]` keeps them, and convolves the rest. Every operation may stand "
        "at any place and more than once; `pool` or `identity` twice in a row is built as one "
        f"part. The base has by default {DEFAULT_OPERATION_LIST}, and again from the start beyond "
        "four parts. A block with fewer parts uses the first operations of the list; one with "
        "more is rejected. `attention` stands for the attention of the block. Excludes "
        "`operation_1` and so on.",
        f"lists of 1 to {MAX_PARTS} of {_codes(listed_operation_names())}",
        "[[conv, attention], [conv, identity]]",
    ),
    "attention": AxisDescription(
        "Kind of attention of a block: what the operation `attention` stands for. Per network, it "
        "states the attention of each stage. With `none`, the default of the base, these parts are "
        "`identity`.",
        f"{_codes(attention_names())}; per network also `{{channel: stages 1-3, self: stage 4}}`",
        "[none, {channel: stages 1-3, self: stage 4}]",
        "blocks in which a part has the operation `attention`: by default those with two or more "
        "parts",
    ),
    "heads": AxisDescription(
        "Number of heads of self-attention. The channels of its part are a multiple of them. "
        f"The base has {DEFAULT_HEADS} by default.",
        _NUMBER,
        "[1, 2, 4]",
        "blocks with self-attention",
    ),
    "ratio": AxisDescription(
        "Share of the first part of a block; a list has the shares of all parts but the last. "
        "Parts without a stated share divide the rest equally. The base has 1/4 by default. A part "
        "begins at the channel to which the shares before it add up, rounded down.",
        f"{_SHARE}; or lists of shares that add up to less than 1",
        "[1/8, 1/4, 1/2]",
        "blocks with two or more parts",
    ),
    "mlp_ratio": AxisDescription(
        "Hidden width of the MLPs divided by the width.",
        "numbers above 0, also fractions such as `3/2`",
        "[1, 3/2, 2]",
    ),
    "pat_sp": AxisDescription(
        "Whether PAT_sp follows the MLP of a block. Per network, it states the stages.",
        "`true`, `false`; per network also `stages 1-3`",
        "[false, stages 1-3, true]",
    ),
}


def _of_operation(part: int) -> AxisDescription:
    return AxisDescription(
        f"Operation of part {part} of a block. Part 1 has the first channels; parts without such "
        "an axis have the operation of the base. Excludes `operations`.",
        _codes(listed_operation_names()),
        "[attention, identity, pool]" if part > 1 else "[conv, pool]",
        "every network" if part == 1 else f"blocks with {part} or more parts",
    )


def _of_share(part: int) -> AxisDescription:
    return AxisDescription(
        f"Share of part {part} of a block. The shares of the parts before it are axes, or are "
        "stated in `base.ratio`. Excludes a `ratio` with a share for this part.",
        _SHARE,
        "[1/8, 1/4]",
        f"blocks with {part + 1} or more parts",
    )


def describe_axis(name: str) -> AxisDescription:
    """Return the description of an axis of `AXES`."""
    if name in _GENERAL:
        return _GENERAL[name]
    kind, _, part = name.rpartition("_")
    return (_of_operation if kind == "operation" else _of_share)(int(part))


AXIS_DESCRIPTIONS: dict[str, AxisDescription] = {name: describe_axis(name) for name in AXES}
"""Description of every axis, in the default order of evaluation."""
