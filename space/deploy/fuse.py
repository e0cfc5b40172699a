"""Deploy form: the same function of an image without norms, for inference.

Every batch norm is an affine map of its channels once its statistics are fixed. It folds into the
convolution before or after it; where neither will do, the affine map itself stays.
"""

import copy

import torch
from torch import Tensor, nn

from partialnas.space.deploy.freeze import freeze
from partialnas.space.nn.attention import (
    ChannelAttention,
    PartialSpatialAttention,
    SpatialAttention,
)
from partialnas.space.nn.blocks import Mixer, Mlp, NetworkBlock
from partialnas.space.nn.layers import Downsample
from partialnas.space.nn.network import Network


class Affine(nn.Module):
    """A scale and a shift per channel: what is left of a norm that has nowhere to fold."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale.view(-1, 1, 1), requires_grad=False)
        self.shift = nn.Parameter(shift.view(-1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Works on N x C x H x W maps."""
        return torch.addcmul(self.shift, x, self.scale)


@torch.no_grad()
def deploy(network: Network) -> nn.Module:
    """A new module that computes what the network computes in evaluation mode, without its norms.

    The network itself is left as it is. Folding is done in double precision, so that outputs agree
    to the rounding of the network's own precision. Learned ratios are frozen; a mixer whose ratio
    depends on the image stays as it is.

    Raises:
        UserError: its ratios are still being learned.
    """
    dtype = next(network.parameters()).dtype
    learned = network.architecture.learned
    if learned is not None and learned.per == "layer":
        network = freeze(network)
    deployed = copy.deepcopy(network).double().eval().requires_grad_(False)
    for module in tuple(deployed.modules()):
        match module:
            case Downsample():
                _fold_after(module.conv, module.norm)
                _drop(module, "norm")
            case NetworkBlock():
                _fold_block(module)
    return deployed.to(dtype)


def _fold_block(block: NetworkBlock) -> None:
    if isinstance(block.mixer, Mixer):
        _fold_mixer(block, block.mixer)
    _fold_after(block.mlp.expand, block.mlp.norm)
    _drop(block.mlp, "norm")
    if isinstance(block.mlp.pat_sp, PartialSpatialAttention):
        _fold_pat_sp(block.mlp, block.mlp.pat_sp)


def _fold_mixer(block: NetworkBlock, mixer: Mixer) -> None:
    for part in mixer.parts:
        if isinstance(part, ChannelAttention):
            _fold_after(part.gate, part.gate_norm)
            _drop(part, "gate_norm")
    if block.double_residual:  # what the mixer puts out is added to its input, too
        for part in mixer.parts:
            if isinstance(part, ChannelAttention | SpatialAttention):
                part.register_module("norm", Affine(*_affine(part.norm)))
    else:
        _fold_before(block.mlp.expand, *_take_affine(block, mixer))


def _take_affine(block: NetworkBlock, mixer: Mixer) -> tuple[Tensor, Tensor]:
    """Takes the norms off the ends of the mixer's parts: the scale and shift they were."""
    scales, shifts = [], []
    for part, size in zip(mixer.parts, mixer.sizes, strict=True):
        scale = block.mlp.expand.weight.new_ones(size)
        shift = torch.zeros_like(scale)
        if isinstance(part, ChannelAttention | SpatialAttention):
            scale, shift = _affine(part.norm)
            _drop(part, "norm")
        scales.append(scale)
        shifts.append(shift)
    return torch.cat(scales), torch.cat(shifts)


def _fold_pat_sp(mlp: Mlp, pat_sp: PartialSpatialAttention) -> None:
    """PAT_sp's gated half keeps an affine map; its 1x1 folds into the MLP's second 1x1."""
    gated = pat_sp.attention
    gated.register_module("norm", Affine(*_affine(gated.norm)))
    _fold_before(pat_sp.conv, *_affine(pat_sp.norm))
    first, last = torch.split(mlp.project.weight.flatten(1), pat_sp.sizes)
    weight = torch.cat((first, pat_sp.conv.weight.flatten(1) @ last))
    bias = torch.cat((weight.new_zeros(len(first)), _bias(pat_sp.conv)))
    _assign(mlp.project, weight.view_as(mlp.project.weight), bias)
    _drop(pat_sp, "norm")
    _drop(pat_sp, "conv")


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale and shift per channel that a norm with fixed statistics is."""
    scale = norm.weight / torch.sqrt(norm.get_buffer("running_var") + norm.eps)
    return scale, norm.bias - norm.get_buffer("running_mean") * scale


def _fold_after(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Makes `conv` compute `norm(conv(x))`."""
    scale, shift = _affine(norm)
    _assign(conv, conv.weight * scale.view(-1, 1, 1, 1), _bias(conv) * scale + shift)


def _fold_before(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """Makes a 1x1 `conv` compute `conv(scale * x + shift)`."""
    bias = _bias(conv) + conv.weight.flatten(1) @ shift
    _assign(conv, conv.weight * scale.view(1, -1, 1, 1), bias)


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias


def _assign(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)


def _drop(parent: nn.Module, name: str) -> None:
    parent.register_module(name, nn.Identity())
