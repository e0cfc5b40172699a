"""Random small architectures for hypothesis, and networks whose every number matters."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from partialnas.space.architecture import Architecture, Block, Stage
from partialnas.space.parts import Part

OPS = ("conv", "channel", "spatial", "self", "pool", "identity")


@st.composite
def blocks(draw: st.DrawFn, width: int) -> Block:
    cuts = draw(st.sets(st.integers(1, width - 1), max_size=7))
    edges = [0, *sorted(cuts), width]
    parts = []
    for start, end in pairwise(edges):
        op = draw(st.sampled_from(OPS))
        divisors = [heads for heads in range(1, 5) if (end - start) % heads == 0]
        heads = draw(st.sampled_from(divisors)) if op == "self" else None
        ratio = Fraction(end - start, width) if end < width else None
        parts.append(Part(op=op, ratio=ratio, heads=heads))
    mlp_ratio = draw(st.sampled_from([Fraction(2), Fraction(1), Fraction(5, 3)]))
    return Block(parts=tuple(parts), mlp_ratio=mlp_ratio, pat_sp=draw(st.booleans()))


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """1 to 4 stages of 1 or 2 blocks, odd widths, 1 to 8 parts of any operation in any order."""
    stages = []
    for _ in range(draw(st.integers(1, 4))):
        width = draw(st.integers(2, 20))
        content = draw(st.lists(blocks(width), min_size=1, max_size=2))
        stages.append(Stage(width=width, blocks=tuple(content)))
    return Architecture(
        stem_stride=draw(st.sampled_from([1, 2, 4])),
        stages=tuple(stages),
        activation=draw(st.sampled_from(["gelu", "relu", "silu", "hardswish"])),
        head_width=draw(st.integers(1, 16)),
    )


st.register_type_strategy(Architecture, architectures())


@pytest.fixture(autouse=True)
def _torchs_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shake() -> Callable[[nn.Module, int], None]:
    """Gives a network random weights of unit gain, norms, statistics and position tables."""

    def shake(network: nn.Module, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for name, tensor in tensors.items():
            if name.endswith("running_var"):
                tensor.data.uniform_(0.5, 2, generator=generator)
            elif tensor.dim() > 1:
                gain = tensor[0].numel() ** -0.5
                tensor.data.normal_(0, gain, generator=generator)
            elif tensor.is_floating_point():
                offset = float(name.endswith("norm.weight"))
                tensor.data.normal_(offset, 0.5, generator=generator)

    return shake
