"""`torch.compile` captures training and evaluation as one graph for a range of sizes."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.parts import Part
from partialnas.space.arch.ratio import LearnedRatio
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.nn.dpconv import LearnedMixer
from partialnas.space.nn.network import Network

Shake = Callable[[nn.Module, int], None]
pytestmark = pytest.mark.slow

SIZES = [(2, 7, 9), (3, 4, 12), (5, 8, 8), (2, 15, 4)]
"""Images, height and width, for networks that halve sizes."""


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def architecture(*parts: Part) -> Architecture:
    """Return one block of these parts after a stem of stride 2."""
    stage = Stage(width=16, blocks=(Block(parts=parts, pat_sp=True),))
    return Architecture(stem_stride=2, stages=(stage,), head_width=8)


ALL_ATTENTION = architecture(
    Part(op="conv", ratio="1/4"),
    Part(op="channel", ratio="1/4"),
    Part(op="spatial", ratio="1/4"),
    Part(op="self"),
)
LEARNED = architecture(Part(op="conv", ratio=LearnedRatio(grain=1)), Part(op="channel"))


def compile_whole(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compile without graph breaks, with free sizes and without a C++ compiler."""
    compiled: Callable[[torch.Tensor], torch.Tensor]
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True, dynamic=True)
    return compiled


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def test_evaluation_is_one_graph_for_a_range_of_sizes(shake: Shake) -> None:
    network = Network(ALL_ATTENTION, in_chans=1, num_classes=5).eval()
    shake(network, 0)
    compiled = compile_whole(network)
    for batch, *sides in SIZES:
        x = torch.randn(batch, 1, *sides)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-5)
    assert graphs() == 1


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_with_dropout_is_one_graph_for_a_range_of_sizes(
    shake: Shake, checkpointing: bool
) -> None:
    rates = {"drop_path_rate": 0.2, "attention_dropout": 0.3, "drop_rate": 0.1}
    networks = [Network(ALL_ATTENTION, in_chans=1, num_classes=5, **rates) for _ in range(2)]
    for network in networks:
        shake(network, 0)
        network.set_grad_checkpointing(checkpointing)
    compiled = compile_whole(networks[1])
    for batch, *sides in SIZES:
        x = torch.randn(batch, 1, *sides)
        for forward in (networks[0], compiled):
            torch.manual_seed(0)
            forward(x).square().sum().backward()
    for (name, parameter), other in zip(
        networks[0].named_parameters(), networks[1].parameters(), strict=True
    ):
        torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-3, atol=1e-4, msg=name)
    for buffer, other in zip(networks[0].buffers(), networks[1].buffers(), strict=True):
        torch.testing.assert_close(other, buffer)
    assert graphs() == 1


def test_fixed_learned_ratios_are_one_graph(shake: Shake) -> None:
    network = Network(LEARNED, in_chans=1, num_classes=5)
    shake(network, 0)
    for mixer in learned_mixers(network).values():
        assert isinstance(mixer, LearnedMixer)
        mixer.set_sizes([3.0, 13.0], ramp=0.0)
    compiled = compile_whole(network.eval())
    for batch, *sides in SIZES:
        x = torch.randn(batch, 1, *sides)
        torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-5)
    assert graphs() == 1
