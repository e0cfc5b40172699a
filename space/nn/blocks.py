"""Blocks: a partial-channel mixer, an MLP, and the residuals around them."""

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from partialnas.space.arch.architecture import Activation, RealizedBlock
from partialnas.space.arch.parts import RealizedPart
from partialnas.space.nn.attention import PartialSpatialAttention
from partialnas.space.nn.dpconv import InputDependentMixer, LearnedMixer
from partialnas.space.nn.layers import BatchNorm, make_activation
from partialnas.space.nn.operations import build_part


class Mixer(nn.Module):
    """The partial-channel mixer: each part of the channels goes through its operation."""

    def __init__(self, parts: tuple[RealizedPart, ...], dropout: float) -> None:
        super().__init__()
        self.sizes = [part.channels for part in parts]
        self.parts = nn.ModuleList(build_part(part, dropout) for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the operations to N x C x H x W maps and concatenate the results."""
        if len(self.sizes) == 1:
            whole: Tensor = self.parts[0](x)
            return whole
        pieces = torch.split(x, self.sizes, dim=1)
        # Indices instead of `zip`: the number of pieces is unknown while `torch.fx` traces.
        return torch.cat([part(pieces[i]) for i, part in enumerate(self.parts)], dim=1)


def build_mixer(block: RealizedBlock, dropout: float) -> Mixer | LearnedMixer | InputDependentMixer:
    """Return the mixer of a block: with fixed, learned or input-dependent sizes."""
    if block.learning is None:
        return Mixer(block.parts, dropout)
    operations = [build_part(part._replace(channels=block.width), dropout) for part in block.parts]
    if block.learning.per == "input":
        return InputDependentMixer(block.parts, operations, block.learning)
    return LearnedMixer(block.parts, operations)


class Mlp(nn.Module):
    """Two 1x1 convolutions with a norm and an activation between them, and optional PAT_sp."""

    def __init__(self, width: int, hidden: int, act: Activation, pat_sp: bool) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, hidden, 1, bias=False)
        self.norm = BatchNorm(hidden)
        self.act = make_activation(act)
        self.project = nn.Conv2d(hidden, width, 1, bias=False)
        self.pat_sp = PartialSpatialAttention(width) if pat_sp else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of N x C x H x W maps at each position."""
        hidden = self.act(self.norm(self.expand(x)))
        out: Tensor = self.pat_sp(self.project(hidden))
        return out


class NetworkBlock(nn.Module):
    """`x + DropPath(MLP(mix(x)))`; with self-attention also a residual around the mixer."""

    def __init__(
        self, block: RealizedBlock, act: Activation, drop_path: float, dropout: float
    ) -> None:
        super().__init__()
        self.double_residual = block.double_residual
        self.mixer = build_mixer(block, dropout)
        self.mlp = Mlp(block.width, block.hidden, act, block.pat_sp)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        mixed = self.mixer(x)
        if self.double_residual:
            x = mixed = x + mixed
        out: Tensor = x + self.drop_path(self.mlp(mixed))
        return out


def apply_checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """Apply a block in training, and compute its activations again in the backward pass.

    Running statistics are updated once, as without checkpointing.
    """
    if torch.compiler.is_compiling():  # updates are traced once, and contexts are not supported
        out: Tensor = checkpoint(block, x, use_reentrant=False)
    else:
        contexts = nullcontext(), _KeptStatistics(block)
        out = checkpoint(block, x, use_reentrant=False, context_fn=lambda: contexts)
    return out


class _KeptStatistics(AbstractContextManager[None]):
    """Lets batch norms normalize by their batch without an update of their running statistics."""

    def __init__(self, block: nn.Module) -> None:
        self._norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
        self._settings: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        self._settings = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for norm, settings in zip(self._norms, self._settings, strict=True):
            norm.momentum, norm.num_batches_tracked = settings
