"""Freezing: the static network that a network with learned ratios has become."""

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.learned_blocks import BlockIndex, PartSizes
from partialnas.space.errors import UserError
from partialnas.space.nn.attention import ChannelAttention, SelfAttention, SpatialAttention
from partialnas.space.nn.blocks import NetworkBlock
from partialnas.space.nn.dpconv import InputDependentMixer, LearnedMixer
from partialnas.space.nn.network import Network
from partialnas.space.nn.sliced_ops import sliced_proj_weight, sliced_qkv_weight
from partialnas.space.nn.soft_kernel import Span


def learned_mixers(network: nn.Module) -> dict[BlockIndex, LearnedMixer | InputDependentMixer]:
    """The mixers of a network that learn their ratios, by stage and block (from 0)."""
    return {
        place: block.mixer
        for place, block in _blocks(network)
        if isinstance(block.mixer, LearnedMixer | InputDependentMixer)
    }


def _blocks(network: nn.Module) -> Iterator[tuple[BlockIndex, NetworkBlock]]:
    for stage, blocks in enumerate(network.stages if isinstance(network, Network) else ()):
        modules: Any = blocks.get_submodule("blocks")
        yield from (((stage, index), block) for index, block in enumerate(modules))


def learned_sizes(network: nn.Module) -> dict[BlockIndex, PartSizes]:
    """The channels of each part where a network has learned its ratios.

    Raises:
        UserError: its ratios depend on the image, or are still being learned.
    """
    sizes: dict[BlockIndex, PartSizes] = {}
    for place, mixer in learned_mixers(network).items():
        if isinstance(mixer, InputDependentMixer):
            raise UserError(
                "its ratios depend on the image, so that there is no static network that computes "
                "the same; learn them per layer to freeze them"
            )
        if not mixer.fixed:
            raise UserError("its ratios are still being learned; finish the training first")
        sizes[place] = tuple(int(size) for size in mixer.sizes)
    return sizes


@torch.no_grad()
def freeze(network: Network) -> Network:
    """A new static network that computes what a network with learned ratios computes.

    Raises:
        UserError: its ratios depend on the image, or are still being learned.
    """
    sizes = learned_sizes(network)
    frozen = _static(network, network.architecture.frozen(sizes))
    state = {name: value for name, value in network.state_dict().items() if ".mixer." not in name}
    for (stage, index), block in _blocks(network):
        at = f"stages.{stage}.blocks.{index}.mixer."
        state |= {f"{at}{name}": value for name, value in _mixer_state(block).items()}
    frozen.load_state_dict(state)
    return frozen.train(network.training)


def _static(network: Network, architecture: Architecture) -> Network:
    weight = network.head_conv.weight
    with torch.random.fork_rng(devices=[]):  # freezing amid a training changes no later draw
        frozen = Network(
            architecture,
            in_chans=network.in_chans,
            num_classes=network.num_classes,
            drop_path_rate=network.drop_path_rate,
            attention_dropout=network.attention_dropout,
            drop_rate=network.drop_rate,
            global_pool=network.global_pool.pool_type,
        )
    return frozen.to(weight.device, weight.dtype)


def _mixer_state(block: NetworkBlock) -> dict[str, Tensor]:
    mixer = block.mixer
    if not isinstance(mixer, LearnedMixer):
        state: dict[str, Tensor] = mixer.state_dict()
        return state
    sizes = [int(size) for size in mixer.sizes]
    spans = [Span(low, high) for low, high in pairwise([0, *accumulate(sizes)])]
    return {
        f"parts.{index}.{name}": value
        for index, (part, span) in enumerate(zip(mixer.parts, spans, strict=True))
        if span.high > span.low
        for name, value in _part_state(part, span).items()
    }


def _part_state(part: nn.Module, span: Span) -> dict[str, Tensor]:
    """The weights of an operation that belong to the channels of a span."""
    state = part.state_dict()
    match part:
        case nn.Conv2d():
            return {"weight": part.weight[span.slice, span.slice]}
        case ChannelAttention():
            gate = {"gate.weight": part.gate.weight[span.slice, span.slice]}
            return _of_channels(state, span) | gate
        case SpatialAttention():
            return _of_channels(state, span) | {"gate.weight": part.gate.weight[:, span.slice]}
        case SelfAttention():
            used = (span.high - span.low) // part.heads
            return _of_channels(state, span) | {
                "qkv.weight": sliced_qkv_weight(part, used)[:, span.slice],
                "position.table": part.position.table,
                "proj.weight": sliced_proj_weight(part, used)[span.slice],
            }
    return {}


def _of_channels(state: dict[str, Tensor], span: Span) -> dict[str, Tensor]:
    """The values that there is one of for each channel, and those that are no vectors at all."""
    return {
        name: value[span.slice] if value.ndim == 1 else value
        for name, value in state.items()
        if value.ndim <= 1
    }
