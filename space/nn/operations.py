"""Operations that a part of the channels can have."""

from torch import nn

from partialnas.space.arch.parts import RealizedPart
from partialnas.space.nn.attention import (
    ChannelAttention,
    SelfAttention,
    SpatialAttention,
)


def build_part(part: RealizedPart, dropout: float) -> nn.Module:
    """The operation that works on one part of the channels; keeps their number and map size."""
    channels = part.channels
    match part.op:
        case "conv":
            return nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        case "channel":
            return ChannelAttention(channels)
        case "spatial":
            return SpatialAttention(channels)
        case "self":
            return SelfAttention(channels, part.heads, dropout)
        case "pool":
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case "identity":
            return nn.Identity()
