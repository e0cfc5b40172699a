"""Operations registered from outside the package work like those inside it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.operation_registry import (
    OPERATIONS,
    attention_names,
    register_operation,
)
from partialnas.space.arch.parts import RealizedPart
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.levels import parse_value
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.formulas import Cost
from partialnas.space.deploy.freeze import freeze
from partialnas.space.deploy.fuse import deploy
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import count_ops
from partialnas.space.nn.operations import PartOperation, SoftMask
from partialnas.space.nn.soft_kernel import Span
from partialnas.space.values import validate_as

Shake = Callable[[nn.Module, int], None]


class Pointwise(PartOperation):
    """A 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out

    def forward_sliced(self, x: Tensor, span: Span, mask: SoftMask | None) -> Tensor:
        weight = self.conv.weight[span.slice, span.slice]
        return SoftMask.apply(mask, nn.functional.conv2d(SoftMask.apply(mask, x), weight))

    def sliced_state(self, span: Span) -> dict[str, Tensor]:
        return {"conv.weight": self.conv.weight[span.slice, span.slice]}


class UnslicedPointwise(Pointwise):
    """A 1x1 convolution that does not support learned ratios."""

    forward_sliced = PartOperation.forward_sliced
    sliced_state = PartOperation.sliced_state


def pointwise_cost(part: RealizedPart, places: int) -> Cost:
    weights = part.channels**2
    return Cost(weights, weights * places, weights * places, part.channels * places)


@pytest.fixture
def pointwise() -> Iterator[str]:
    register_operation("pointwise", module=Pointwise, cost=pointwise_cost, is_attention=True)
    yield "pointwise"
    del OPERATIONS["pointwise"]


def plan(**settings: Any) -> Architecture:
    sizes = {"width": 12, "depths": (1, 1, 1, 1), "stem_stride": 1, "head_width": 16}
    return Plan.model_validate(sizes | settings).architecture()


@pytest.mark.parametrize(
    "settings",
    [
        {"operations": ["conv", "pointwise"]},
        {"parts": 3, "operations": ["pointwise", "pointwise", "identity"]},
        {"attention": {"pointwise": "stages 1-3", "self": "stage 4"}},
    ],
)
def test_a_registered_operation_is_built_counted_and_deployed(
    pointwise: str, shake: Shake, settings: dict[str, Any]
) -> None:
    architecture = plan(**settings)
    assert Architecture.from_data(architecture.model_dump(mode="json")) == architecture
    network = Network(architecture, num_classes=7).double().eval()
    shake(network, 0)
    spec = InputSpec.square(16, 3, 7)
    counted, expected = count_ops(network, spec), compute_cost(architecture, spec)
    assert (counted.params, counted.macs) == (expected.params, expected.macs)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(deploy(network)(images), network(images))
    assert sum(isinstance(module, Pointwise) for module in network.modules()) >= 3
    assert pointwise in attention_names()


def test_a_registered_operation_learns_its_ratio_and_is_frozen(
    pointwise: str, shake: Shake
) -> None:
    network = Network(plan(operations=[pointwise, "conv"], ratio={"learned": {}}), num_classes=7)
    network.double().eval()
    shake(network, 0)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(freeze(network)(images), network(images))


def test_an_operation_without_sliced_weights_rejects_learned_ratios() -> None:
    register_operation("unsliced", module=UnslicedPointwise, cost=pointwise_cost)
    try:
        network = Network(plan(operations=["unsliced", "conv"], ratio={"learned": {}}))
        with pytest.raises(NotImplementedError, match=r"UnslicedPointwise cannot be used with lea"):
            network(torch.randn(2, 3, 16, 16))
    finally:
        del OPERATIONS["unsliced"]


def test_axes_accept_registered_operations_only_while_they_are_registered() -> None:
    register_operation("shift", module="package.module:Shift", cost="package.module:shift_cost")
    assert parse_value("operations", "network", ["conv", "shift"]) == ("conv", "shift")
    del OPERATIONS["shift"]
    for name, value in [("operations", ["conv", "shift"]), ("operation_1", "shift")]:
        with pytest.raises(ValueError, match=r"expected one of conv, .*, attention, got 'shift'"):
            parse_value(name, "network", value)
    with pytest.raises(UserError, match=r"\[1\]: expected 'conv', .* or 'attention', got 'shift'"):
        validate_as(Plan, {"operations": ["conv", "shift"]}, "plan")


@pytest.mark.parametrize("name", ["conv", "attention", "none", "Shift", "my op", ""])
def test_taken_and_invalid_names_are_rejected(name: str) -> None:
    before = dict(OPERATIONS)
    with pytest.raises(UserError, match=r"choose another name|expected a lowercase name"):
        register_operation(name, module=Pointwise, cost=pointwise_cost)
    assert before == OPERATIONS
