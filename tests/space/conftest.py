"""Random small architectures for hypothesis, and networks with random parameters."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.parts import Part
from partialnas.space.arch.ratio import LearnedRatio

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
    """Draw 1 to 4 stages of 1 or 2 blocks with any width and 1 to 8 parts of any operation."""
    stages = []
    for _ in range(draw(st.integers(1, 4))):
        width = draw(st.integers(2, 20))
        chosen = draw(st.lists(blocks(width), min_size=1, max_size=2))
        stages.append(Stage(width=width, blocks=tuple(chosen)))
    return Architecture(
        stem_stride=draw(st.sampled_from([1, 2, 4])),
        stages=tuple(stages),
        activation=draw(st.sampled_from(["gelu", "relu", "silu", "hardswish"])),
        head_width=draw(st.integers(1, 16)),
    )


st.register_type_strategy(Architecture, architectures())


@st.composite
def learning_blocks(draw: st.DrawFn, width: int, terms: dict[str, Any], most: int) -> Block:
    """Draw 2 to 8 parts, up to `most` of them with learned ratios."""
    count = draw(st.integers(2, min(8, width)))
    ops: list[Any] = []
    for _ in range(count):
        taken = ops[-1] if ops and ops[-1] in ("pool", "identity") else None
        ops.append(draw(st.sampled_from([op for op in OPS if op != taken])))
    learned = draw(st.sets(st.integers(0, count - 2), min_size=1, max_size=min(most, count - 1)))
    ratio = LearnedRatio(**{"grain": draw(st.integers(1, 3)), "start": Fraction(1, count), **terms})
    parts = [
        Part(
            op=op,
            ratio=None if i == count - 1 else ratio if i in learned else Fraction(1, count),
            heads=draw(st.integers(1, 4)) if op == "self" else None,
        )
        for i, op in enumerate(ops)
    ]
    return Block(parts=tuple(parts), pat_sp=draw(st.booleans()))


@st.composite
def learning_architectures(draw: st.DrawFn, most: int = 7, **terms: Any) -> Architecture:
    """Draw 1 or 2 stages of 1 or 2 blocks; the first block of each learns its ratios."""
    stages = []
    for _ in range(draw(st.integers(1, 2))):
        width = draw(st.integers(3, 19))
        learned_blocks = learning_blocks(width, terms, most).filter(
            lambda b, w=width: _can_be_built(b, w)
        )
        chosen = [
            draw(learned_blocks),
            *draw(st.lists(st.one_of(learned_blocks, blocks(width)), max_size=1)),
        ]
        stages.append(Stage(width=width, blocks=tuple(chosen)))
    stride = draw(st.sampled_from([1, 2]))
    return Architecture(stem_stride=stride, stages=tuple(stages), head_width=8)


def _can_be_built(block: Block, width: int) -> bool:
    try:
        block.realize(width)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="session")
def learning() -> Callable[..., st.SearchStrategy[Architecture]]:
    """Return the strategy of architectures with learned ratios; see `learning_architectures`."""
    return learning_architectures


@pytest.fixture(autouse=True)
def _torchs_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shake() -> Callable[[nn.Module, int], None]:
    """Return a function that sets random weights of unit gain, norms and position tables."""

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
