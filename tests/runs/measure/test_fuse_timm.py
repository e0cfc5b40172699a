import copy

import pytest
import timm
import torch
from timm.models.byobnet import RepVggBlock
from torch import Tensor, nn

from partialnas.runs.measure.fuse_timm import UnfusableError, fuse_model


def randomize_norms(network: nn.Module) -> nn.Module:
    """Return the network in evaluation mode, with norm statistics as after a training."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.get_buffer("running_mean"), -0.2, 0.2)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
    return network.eval()


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def difference(one: nn.Module, other: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        expected = one(images)
        return float((other(images) - expected).abs().max() / expected.abs().max())


# plain blocks; norms with their activation inside, padding at run time
@pytest.mark.parametrize("name", ["fasternet_t0", "tf_mobilenetv3_small_minimal_100"])
def test_a_fused_timm_model_has_the_same_outputs_and_no_norms(name: str) -> None:
    network = randomize_norms(timm.create_model(name, num_classes=10))
    before = copy.deepcopy(network.state_dict())
    module = fuse_model(network, torch.randn(2, 3, 64, 64))
    assert count_norms(network) > 0
    assert count_norms(module) == 0
    assert difference(network, module, torch.randn(3, 3, 64, 64)) < 1e-5
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_branches_are_merged_if_timm_can_merge_them() -> None:
    network = randomize_norms(nn.Sequential(RepVggBlock(3, 8), RepVggBlock(8, 8)))
    images = torch.randn(2, 3, 8, 8)
    module = fuse_model(network, images)
    assert count_norms(network) == 5
    assert count_norms(module) == 0
    assert sum(isinstance(child, nn.Conv2d) for child in module.modules()) == 2
    assert difference(network, module, images) < 1e-5


class Shared(nn.Module):
    """A convolution used twice, once with a norm, and a convolution with another user."""

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


def test_a_norm_is_folded_only_if_its_convolution_has_no_other_user() -> None:
    network = randomize_norms(Shared())
    images = torch.randn(2, 4, 8, 8)
    module = fuse_model(network, images)
    assert count_norms(network) - count_norms(module) == 1
    assert difference(network, module, images) < 1e-5


class Branching(nn.Module):
    """A network with a data-dependent branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) if x.mean() > 0 else self.conv(x)


def test_an_untraceable_network_is_refused() -> None:
    with pytest.raises(UnfusableError, match="cannot be traced"):
        fuse_model(Branching(), torch.randn(2, 4, 8, 8))


class Stateful(nn.Module):
    """A network with outputs that change from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.calls = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.norm(self.conv(x)) + self.calls


def test_a_network_whose_outputs_change_is_refused() -> None:
    with pytest.raises(UnfusableError, match="outputs change"):
        fuse_model(Stateful(), torch.randn(2, 4, 8, 8))
