"""Modules of the part operations: their base class, and those that need no attention."""

from typing import Any, NamedTuple, Self

from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.arch.operation_registry import OPERATIONS
from partialnas.space.arch.parts import RealizedPart
from partialnas.space.nn.soft_kernel import Span


class SoftMask(NamedTuple):
    """Per-channel weights of a part: how much each channel of a span belongs to it.

    Attributes:
        shares: B x span weights from 0 to 1; B is 1 or the number of images.
        ramp: channels over which the boundaries of the part are soft.
    """

    shares: Tensor
    ramp: float

    @property
    def size(self) -> Tensor:
        """B channels of the part, each counted by its weight."""
        return self.shares.sum(1)

    @property
    def maps(self) -> Tensor:
        """The weights as B x span x 1 x 1, to multiply with N x span x H x W maps."""
        return self.shares[:, :, None, None]

    @staticmethod
    def apply(mask: "SoftMask | None", maps: Tensor) -> Tensor:
        """Return the maps multiplied by the weights of a mask, if there is one."""
        return maps if mask is None else maps * mask.maps


class PartOperation(nn.Module):
    """Base class of the modules that work on one part of a block's channels.

    `forward` takes and returns N x C x H x W maps. In a block with learned ratios, the module is
    built for all channels of the block, and `forward_sliced` uses the weights of some of them.
    """

    @classmethod
    def build(cls, channels: int, heads: int, dropout: float) -> Self:  # noqa: ARG003
        """Return a new module for this number of channels.

        Args:
            channels: channels of the part.
            heads: attention heads; 0 for an operation without heads.
            dropout: dropout rate of self-attention.
        """
        return cls(channels)

    def forward_sliced(self, x: Tensor, span: Span, mask: SoftMask | None) -> Tensor:  # noqa: ARG002
        """Apply the operation to a span of the channels that it has weights for.

        With weights of 1 it is exactly the operation of a static network on these channels.

        Args:
            x: N x span x H x W maps.
            span: channels that `x` holds.
            mask: weight of each channel; None for 1.

        Returns:
            N x span x H x W maps, multiplied by the weights of the mask.

        Raises:
            NotImplementedError: The operation has weights and does not support learned ratios.
        """
        self._check_weight_free()
        return SoftMask.apply(mask, self(x))

    def sliced_state(self, span: Span) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the state dict of the same operation built for the channels of a span alone.

        Raises:
            NotImplementedError: The operation has weights and does not support learned ratios.
        """
        self._check_weight_free()
        return {}

    def fold_norms(self, *, keep_output: bool) -> tuple[Tensor, Tensor] | None:  # noqa: ARG002
        """Fold the batch norms of the operation in place, for inference.

        Args:
            keep_output: whether the output must stay the same. Otherwise a norm at the end is
                removed, and the caller applies what it did.

        Returns:
            Scale and shift per channel that the caller applies to the output, or None.
        """
        return None

    def _check_weight_free(self) -> None:
        if any(True for _ in self.parameters()):
            raise NotImplementedError(
                f"{type(self).__name__} cannot be used with learned ratios: it has weights, but "
                "does not implement forward_sliced and sliced_state"
            )

    def _channel_state(self, span: Span) -> dict[str, Tensor]:
        """Return the part of the state dict that has one value per channel, and the scalars."""
        return {
            name: value[span.slice] if value.ndim == 1 else value
            for name, value in self.state_dict().items()
            if value.ndim <= 1
        }


class PartialConv(nn.Conv2d, PartOperation):
    """The partial convolution: a 3x3 convolution without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, bias=False)

    def forward_sliced(self, x: Tensor, span: Span, mask: SoftMask | None) -> Tensor:
        """Convolve the channels of a span; see `PartOperation`."""
        weight = self.weight[span.slice, span.slice]
        maps = functional.conv2d(SoftMask.apply(mask, x), weight, padding=1)
        return SoftMask.apply(mask, maps)

    def sliced_state(self, span: Span) -> dict[str, Tensor]:
        """Return the weights of a span; see `PartOperation`."""
        return {"weight": self.weight[span.slice, span.slice]}


class AveragePool(nn.AvgPool2d, PartOperation):
    """3x3 average pooling with stride 1; padding is not counted."""

    def __init__(self, _channels: int) -> None:
        super().__init__(3, stride=1, padding=1, count_include_pad=False)


class Identity(nn.Identity, PartOperation):
    """Returns its channels unchanged."""


def build_part(part: RealizedPart, dropout: float) -> PartOperation:
    """Return a new module of a part's operation."""
    module_class: Any = OPERATIONS[part.op].module_class
    module: PartOperation = module_class.build(part.channels, part.heads, dropout)
    return module
