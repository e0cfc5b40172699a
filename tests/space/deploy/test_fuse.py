"""The deploy form computes the same function without batch norms."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import preset
from partialnas.space.deploy.fuse import deploy
from partialnas.space.nn.dpconv import InputDependentMixer
from partialnas.space.nn.network import Network
from partialnas.space.nn.norm_folding import Affine

Shake = Callable[[nn.Module, int], None]


def deviation(network: nn.Module, deployed: nn.Module, x: torch.Tensor) -> float:
    """Return the largest difference of the logits over the largest logit."""
    with torch.no_grad():
        expected, logits = network(x), deployed(x)
    return float((logits - expected).abs().max() / expected.abs().max())


@settings(max_examples=50, deadline=None)
@given(st.from_type(Architecture), st.integers(0, 2**32), st.integers(0, 5))
def test_deploy_form_is_the_same_function(
    shake: Shake, architecture: Architecture, seed: int, extra: int
) -> None:
    network = Network(architecture, num_classes=7).double().eval()
    shake(network, seed)
    smallest = architecture.smallest_resolution
    x = torch.randn(2, 3, 2 * smallest + extra, 3 * smallest, dtype=torch.float64)
    deployed = deploy(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
    assert {parameter.dtype for parameter in deployed.parameters()} == {torch.float64}
    assert deviation(network, deployed, x) <= 1e-12


PLANS = st.fixed_dictionaries(
    {
        "width": st.integers(16, 33),
        "stem_stride": st.sampled_from([2, 4]),
        "depths": st.just((1, 1, 2, 1)),
        "parts": st.integers(2, 4),
        "attention": st.sampled_from(
            ["none", "channel", "spatial", {"channel": "stages 1-3", "self": "stage 4"}]
        ),
        "pat_sp": st.booleans(),
        "activation": st.sampled_from(["gelu", "relu"]),
    }
)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(PLANS, st.integers(0, 2**32))
def test_logits_in_single_precision_agree(shake: Shake, plan: dict[str, object], seed: int) -> None:
    network = Network(Plan.model_validate(plan).architecture()).eval()
    shake(network, seed)
    assert deviation(network, deploy(network), torch.randn(2, 3, 64, 48)) <= 1e-5


@pytest.mark.parametrize("name", ["partialnet_t0", "partialnet_t2", "fasternet_t0"])
def test_presets_deploy(shake: Shake, name: str) -> None:
    network = Network(preset(name))
    shake(network, 0)
    assert deviation(network.eval(), deploy(network), torch.randn(2, 3, 64, 96)) <= 1e-5


@pytest.mark.parametrize(
    ("changes", "affines"),
    [
        ({}, 0),
        ({"attention": "channel"}, 0),  # folds into the MLP's first 1x1
        ({"attention": "spatial"}, 0),
        ({"attention": "channel", "pat_sp": True}, 4),  # PAT_sp's gated halves
        ({"attention": "self", "parts": 3, "operations": ["conv", "channel", "attention"]}, 4),
    ],
)
def test_affine_maps_remain_only_if_a_norm_cannot_be_folded(
    changes: dict[str, object], affines: int
) -> None:
    plan = Plan.model_validate({"width": 16, "depths": [1, 1, 1, 1], **changes})
    deployed = deploy(Network(plan.architecture()))
    assert sum(isinstance(module, Affine) for module in deployed.modules()) == affines


def test_the_network_does_not_change(shake: Shake) -> None:
    network = Network(preset("partialnet_t0"))
    shake(network, 0)
    before = copy.deepcopy(network.state_dict())
    deployed = deploy(network)
    assert network.training
    assert not deployed.training
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("pat_sp", [False, True])
def test_the_deploy_form_keeps_input_dependent_mixers(shake: Shake, pat_sp: bool) -> None:
    plan = Plan.model_validate(
        {
            "width": 16,
            "stem_stride": 1,
            "depths": (1, 1, 1, 1),
            "ratio": {"learned": {"per": "input"}},
            "attention": {"channel": "stages 1-3", "self": "stage 4"},
            "pat_sp": pat_sp,
        }
    )
    network = Network(plan.architecture(), num_classes=7).double().eval()
    shake(network, 0)
    deployed = deploy(network)
    x = torch.randn(16, 3, 16, 16, dtype=torch.float64)
    assert deviation(network, deployed, x) <= 1e-12
    mixers = [m for m in deployed.modules() if isinstance(m, InputDependentMixer)]
    assert (
        len(
            {
                int(chosen)
                for m in mixers
                if m.option_indices is not None
                for chosen in m.option_indices
            }
        )
        > 1
    )


def test_a_size_does_not_depend_on_those_before(shake: Shake) -> None:
    plan = Plan(width=8, depths=(1, 1, 1, 1), head_width=16, attention=("self",) * 4)
    network = Network(plan.architecture(), num_classes=5).eval()
    shake(network, 0)
    deployed = deploy(network)
    for sides in [(32, 32), (32, 64), (64, 32), (32, 32)]:
        x = torch.randn(2, 3, *sides)
        assert torch.equal(deployed(x), deploy(network)(x))
        assert torch.equal(copy.deepcopy(deployed)(x), deployed(x))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2), (torch.float16, 5e-3)]
)
def test_logits_on_a_gpu_are_those_of_double_precision(
    shake: Shake, dtype: torch.dtype, bound: float
) -> None:
    network = Network(preset("partialnet_t0"), num_classes=10).double().eval()
    shake(network, 0)
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    logits = deploy(network).to("cuda", dtype)(x.to("cuda", dtype)).double().cpu()
    expected = network(x)
    assert (logits - expected).abs().max() <= bound * expected.abs().max()
