import copy

import pytest
import timm
import torch
from timm.models.byobnet import RepVggBlock
from torch import Tensor, nn

from partialnas.runs.measure.fuse_timm import UnfusableError, fuse_model


def stirred(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, its norms with statistics that a training may leave."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.get_buffer("running_mean"), -0.2, 0.2)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def difference(one: nn.Module, other: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        expected = one(images)
        return float((other(images) - expected).abs().max() / expected.abs().max())


# plain blocks; norms with their activation inside, padding at run time
@pytest.mark.parametrize("name", ["fasternet_t0", "tf_mobilenetv3_small_minimal_100"])
def test_a_timm_model_keeps_its_outputs_and_loses_its_norms(name: str) -> None:
    network = stirred(timm.create_model(name, num_classes=10))
    before = copy.deepcopy(network.state_dict())
    module = fuse_model(network, torch.randn(2, 3, 64, 64))
    assert norms(network) > 0
    assert norms(module) == 0
    assert difference(network, module, torch.randn(3, 3, 64, 64)) < 1e-5
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_branches_that_timm_can_merge_are_merged() -> None:
    network = stirred(nn.Sequential(RepVggBlock(3, 8), RepVggBlock(8, 8)))
    images = torch.randn(2, 3, 8, 8)
    module = fuse_model(network, images)
    assert norms(network) == 5
    assert norms(module) == 0
    assert sum(isinstance(each, nn.Conv2d) for each in module.modules()) == 2
    assert difference(network, module, images) < 1e-5


class Shared(nn.Module):
    """One convolution in two places, only one of them with a norm; a norm that another reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.other, self.other_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.last, self.last_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)) + self.conv(x)
        y = self.other(x)
        x = self.other_norm(y) + y
        return self.last_norm(self.last(x))


def test_only_a_norm_that_alone_sees_its_convolution_is_folded() -> None:
    network = stirred(Shared())
    images = torch.randn(2, 4, 8, 8)
    module = fuse_model(network, images)
    assert norms(network) - norms(module) == 1
    assert difference(network, module, images) < 1e-5


class Fickle(nn.Module):
    """A network that looks at its input before it decides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) if x.mean() > 0 else self.conv(x)


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    with pytest.raises(UnfusableError, match="cannot be traced"):
        fuse_model(Fickle(), torch.randn(2, 4, 8, 8))


class Impure(nn.Module):
    """A network that computes something else each time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.calls = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.norm(self.conv(x)) + self.calls


def test_a_network_whose_outputs_change_is_refused() -> None:
    with pytest.raises(UnfusableError, match="outputs change"):
        fuse_model(Impure(), torch.randn(2, 4, 8, 8))
