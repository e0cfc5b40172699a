"""Small layers used throughout a network: batch norm, downsampling, activations."""

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.arch.architecture import Activation
from partialnas.space.errors import UserError
from partialnas.space.nn.soft_kernel import Span


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization that can also be trained on a single value per channel.

    One value has no variance. A batch of one image on a 1x1 map is normalized by the running
    statistics, which do not change.

    `num_batches_tracked` is part of the state, as in checkpoints of timm, but batches are not
    counted: only a cumulative average, which is not supported, needs their number.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize N x C x H x W maps per channel."""
        return self._normalize(input, self.running_mean, self.running_var, self.weight, self.bias)

    def forward_sliced(self, x: Tensor, span: Span) -> Tensor:
        """Normalize N x span x H x W maps of some of the channels."""
        buffers = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return self._normalize(x, *(t[span.slice] for t in (*buffers, self.weight, self.bias)))

    def _normalize(
        self, x: Tensor, mean: Tensor | None, variance: Tensor | None, weight: Tensor, bias: Tensor
    ) -> Tensor:
        momentum = self.momentum if self.momentum is not None else 0.1
        training = self.training and has_variance(x)
        return functional.batch_norm(x, mean, variance, weight, bias, training, momentum, self.eps)


@torch.fx.wrap
def has_variance(x: Tensor) -> bool:
    """Return whether N x C x H x W maps have more than one value per channel."""
    if x.numel() > x.shape[1]:  # noqa: SIM103  `torch.compile` makes plain bools of branches only
        return True
    return False


class Downsample(nn.Module):
    """Convolution of non-overlapping patches and a norm: the stem and the merges.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: width of a patch, in pixels of the input.
        smallest_image: smallest images of the whole network, in pixels a side; named in errors.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, smallest_image: int
    ) -> None:
        super().__init__()
        self.smallest_image = smallest_image
        self.conv = nn.Conv2d(in_channels, out_channels, stride, stride, bias=False)
        self.norm = BatchNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x C x H x W to N x C' x H/stride x W/stride (rounded down).

        Raises:
            UserError: The maps are smaller than a patch.
        """
        x = require_map_size(x, self.conv.stride[0], self.smallest_image)
        out: Tensor = self.norm(self.conv(x))
        return out


@torch.fx.wrap
def require_map_size(x: Tensor, stride: int, smallest_image: int) -> Tensor:
    """Return maps, which must not be smaller than a patch of `stride` pixels a side.

    Raises:
        UserError: They are; the message names the smallest images of the network.
    """
    height, width = x.shape[-2:]
    if height < stride or width < stride:
        raise UserError(
            f"the images are too small: a convolution of stride {stride} cannot be applied to maps "
            f"of {height}x{width}; the network needs at least {smallest_image}x{smallest_image} "
            "pixels"
        )
    return x


def make_activation(name: Activation) -> nn.Module:
    """Return a new layer of the named activation."""
    match name:
        case "gelu":
            return nn.GELU()
        case "relu":
            return nn.ReLU(inplace=True)  # its input is not used again
        case "silu":
            return nn.SiLU()
        case "hardswish":
            return nn.Hardswish()
