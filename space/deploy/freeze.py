"""Conversion of a network with learned ratios to a static network."""

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.learned_blocks import BlockIndex, PartSizes
from partialnas.space.errors import UserError
from partialnas.space.nn.blocks import NetworkBlock
from partialnas.space.nn.dpconv import INPUT_DEPENDENT, InputDependentMixer, LearnedMixer
from partialnas.space.nn.network import Network
from partialnas.space.nn.soft_kernel import Span


def learned_mixers(network: nn.Module) -> dict[BlockIndex, LearnedMixer | InputDependentMixer]:
    """Return the mixers of a network that learn their ratios, by stage and block (from 0)."""
    return {
        block_index: block.mixer
        for block_index, block in _blocks(network)
        if isinstance(block.mixer, LearnedMixer | InputDependentMixer)
    }


def _blocks(network: nn.Module) -> Iterator[tuple[BlockIndex, NetworkBlock]]:
    for stage, blocks in enumerate(network.stages if isinstance(network, Network) else ()):
        modules: Any = blocks.get_submodule("blocks")
        yield from (((stage, index), block) for index, block in enumerate(modules))


def learned_sizes(network: nn.Module) -> dict[BlockIndex, PartSizes]:
    """Return the channels of each part of the blocks with learned ratios.

    Raises:
        UserError: The ratios depend on the input or are still being learned.
    """
    sizes: dict[BlockIndex, PartSizes] = {}
    for block_index, mixer in learned_mixers(network).items():
        if isinstance(mixer, InputDependentMixer):
            raise UserError(INPUT_DEPENDENT)
        if not mixer.fixed:
            raise UserError("the ratios are still being learned; finish the training first")
        sizes[block_index] = tuple(int(size) for size in mixer.sizes)
    return sizes


@torch.no_grad()
def freeze(network: Network) -> Network:
    """Return a new static network that computes the same as a network with learned ratios.

    Raises:
        UserError: The ratios depend on the input or are still being learned.
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
    weight = network.stem.conv.weight
    names = ("in_chans", "num_classes", "drop_path_rate", "attention_dropout", "drop_rate")
    settings = {name: getattr(network, name) for name in names}
    settings["global_pool"] = network.global_pool.pool_type
    settings["output_norms"] = len(network.output_norms) > 0
    with torch.random.fork_rng(devices=[]):  # keep the random state of a training
        frozen = Network(architecture, **settings)
    return frozen.to(weight.device, weight.dtype)


def _mixer_state(block: NetworkBlock) -> dict[str, Tensor]:
    mixer = block.mixer
    if not isinstance(mixer, LearnedMixer):
        state: dict[str, Tensor] = mixer.state_dict()
        return state
    sizes = [int(size) for size in mixer.sizes]
    spans = [Span(low, high) for low, high in pairwise([0, *accumulate(sizes)])]
    operations: Any = mixer.parts
    return {
        f"parts.{index}.{name}": value
        for index, (part, span) in enumerate(zip(operations, spans, strict=True))
        if span.high > span.low
        for name, value in part.sliced_state(span).items()
    }
