"""Small layers used throughout a network: batch norm, downsampling, activations."""

from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.arch.architecture import Activation
from partialnas.space.nn.soft_kernel import Span


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization that can also be trained on a single value per channel.

    One value has no variance. A batch of one image on a 1x1 map is normalized by the running
    statistics, which do not change.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize N x C x H x W maps per channel."""
        if self.training and input.numel() == input.shape[1]:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)

    def forward_sliced(self, x: Tensor, span: Span) -> Tensor:
        """Normalize N x span x H x W maps of some of the channels."""
        buffers = self.get_buffer("running_mean"), self.get_buffer("running_var")
        mean, variance, weight, bias = (t[span.slice] for t in (*buffers, self.weight, self.bias))
        momentum = self.momentum if self.momentum is not None else 0.1
        training = self.training and x.numel() > x.shape[1]
        return functional.batch_norm(x, mean, variance, weight, bias, training, momentum, self.eps)


class Downsample(nn.Module):
    """Convolution of non-overlapping patches and a norm: the stem and the merges."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, stride, stride, bias=False)
        self.norm = BatchNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x C x H x W to N x C' x H/stride x W/stride (rounded down)."""
        out: Tensor = self.norm(self.conv(x))
        return out


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
