"""Deploy form of a network: the same function without batch norms, for inference.

In evaluation mode a batch norm is an affine map of its channels. It folds into the convolution
before or after it. Where neither is possible, the affine map stays.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from partialnas.space.deploy.freeze import freeze
from partialnas.space.nn import norm_folding
from partialnas.space.nn.attention import PartialSpatialAttention
from partialnas.space.nn.blocks import Mixer, Mlp, NetworkBlock
from partialnas.space.nn.layers import Downsample
from partialnas.space.nn.network import Network


@torch.no_grad()
def deploy(network: Network) -> nn.Module:
    """Return a new module that computes the evaluation mode of a network without batch norms.

    The network itself does not change. Norms are folded in double precision, so that outputs agree
    up to the rounding of the network's own precision. Learned ratios are frozen first. A mixer with
    input-dependent ratios keeps its norms.

    Raises:
        UserError: The ratios are still being learned.
    """
    dtype = next(network.parameters()).dtype
    learned = network.architecture.learned
    if learned is not None and learned.per == "layer":
        network = freeze(network)
    deployed = copy.deepcopy(network).double().eval().requires_grad_(False)
    for module in tuple(deployed.modules()):
        if isinstance(module, Downsample):
            norm_folding.fold_after(module, module.conv, "norm")
        elif isinstance(module, NetworkBlock):
            _fold_block(module)
    return deployed.to(dtype)


def _fold_block(block: NetworkBlock) -> None:
    if isinstance(block.mixer, Mixer):
        _fold_mixer(block, block.mixer)
    norm_folding.fold_after(block.mlp, block.mlp.expand, "norm")
    if isinstance(block.mlp.pat_sp, PartialSpatialAttention):
        _fold_pat_sp(block.mlp, block.mlp.pat_sp)


def _fold_mixer(block: NetworkBlock, mixer: Mixer) -> None:
    """Fold the norms of a mixer into its parts and the MLP's first 1x1.

    With a double residual, the output of the mixer is also added to its input: it must not change.
    """
    operations: Any = mixer.parts
    weight = block.mlp.expand.weight
    scales: list[Tensor] = []
    shifts: list[Tensor] = []
    for operation, size in zip(operations, mixer.sizes, strict=True):
        affine = operation.fold_norms(keep_output=block.double_residual)
        scale, shift = affine or (weight.new_ones(size), weight.new_zeros(size))
        scales.append(scale)
        shifts.append(shift)
    if not block.double_residual:
        norm_folding.fold_before(block.mlp.expand, torch.cat(scales), torch.cat(shifts))


def _fold_pat_sp(mlp: Mlp, pat_sp: PartialSpatialAttention) -> None:
    """Fold the 1x1 of PAT_sp into the MLP's second 1x1; its gated half keeps an affine map."""
    norm_folding.fold_output_norm(pat_sp.attention, pat_sp.attention.norm, keep_output=True)
    norm_folding.fold_before(pat_sp.conv, *norm_folding.norm_affine(pat_sp.norm))
    first, last = torch.split(mlp.project.weight.flatten(1), pat_sp.sizes)
    weight = torch.cat((first, pat_sp.conv.weight.flatten(1) @ last))
    bias = torch.cat((weight.new_zeros(len(first)), norm_folding.bias_of(pat_sp.conv)))
    norm_folding.set_weights(mlp.project, weight.view_as(mlp.project.weight), bias)
    for name in ("norm", "conv"):
        pat_sp.register_module(name, nn.Identity())
