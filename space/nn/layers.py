"""Small layers that every part of a network uses: norm, downsampling, activations."""

from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.arch.architecture import Activation


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that can also be trained on a single value per channel.

    One value has no variance: a batch of one image on a 1x1 map is normalised by the running
    statistics, which are left as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises N x C x H x W maps per channel."""
        if self.training and input.numel() == input.shape[1]:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class Downsample(nn.Module):
    """Convolution of patches that do not overlap, and its norm: the stem, and every merge."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, stride, stride, bias=False)
        self.norm = BatchNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x C' x H/stride x W/stride (rounded down)."""
        out: Tensor = self.norm(self.conv(x))
        return out


def make_activation(name: Activation) -> nn.Module:
    """A new layer of the named activation."""
    match name:
        case "gelu":
            return nn.GELU()
        case "relu":
            return nn.ReLU(inplace=True)  # its input is nowhere needed again
        case "silu":
            return nn.SiLU()
        case "hardswish":
            return nn.Hardswish()
