"""Batch norms with fixed statistics, folded into the convolutions before or after them."""

import torch
from torch import Tensor, nn


class Affine(nn.Module):
    """A scale and a shift per channel: what remains of a norm that cannot be folded."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale.view(-1, 1, 1), requires_grad=False)
        self.shift = nn.Parameter(shift.view(-1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift N x C x H x W maps."""
        return torch.addcmul(self.shift, x, self.scale)


def norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the scale and shift per channel that a norm in evaluation mode applies."""
    scale = norm.weight / torch.sqrt(norm.get_buffer("running_var") + norm.eps)
    return scale, norm.bias - norm.get_buffer("running_mean") * scale


def fold_after(parent: nn.Module, conv: nn.Conv2d, norm_name: str) -> None:
    """Make `conv` compute `norm(conv(x))`, and replace the norm of `parent` by the identity."""
    norm = parent.get_submodule(norm_name)
    assert isinstance(norm, nn.BatchNorm2d)
    scale, shift = norm_affine(norm)
    set_weights(conv, conv.weight * scale.view(-1, 1, 1, 1), bias_of(conv) * scale + shift)
    parent.register_module(norm_name, nn.Identity())


def fold_before(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """Make a 1x1 `conv` compute `conv(scale * x + shift)`."""
    bias = bias_of(conv) + conv.weight.flatten(1) @ shift
    set_weights(conv, conv.weight * scale.view(1, -1, 1, 1), bias)


def fold_output_norm(
    parent: nn.Module, norm: nn.BatchNorm2d, *, keep_output: bool
) -> tuple[Tensor, Tensor] | None:
    """Replace `parent.norm`, the last layer of `parent`.

    Returns:
        Scale and shift for the caller to apply, or None if an `Affine` stays in its place.
    """
    scale, shift = norm_affine(norm)
    parent.register_module("norm", Affine(scale, shift) if keep_output else nn.Identity())
    return None if keep_output else (scale, shift)


def bias_of(conv: nn.Conv2d) -> Tensor:
    """Return the bias of a convolution; zeros if it has none."""
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias


def set_weights(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    """Replace the weight and the bias of a convolution."""
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
