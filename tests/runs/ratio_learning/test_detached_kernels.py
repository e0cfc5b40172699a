"""Kernels outside autograd train a network as autograd through weight x mask does, bit for bit."""

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.nn.utils import parametrize

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.runs.ratio_learning.tracking import make_ratio_learner
from partialnas.runs.training.loop import DeviceSplits, Training
from partialnas.space.arch.plan import Plan
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.nn.init import initialize
from partialnas.space.nn.network import Network

SHAPE = {"stem_stride": 1, "width": 8, "depths": (1, 1, 1, 1), "head_width": 16}
ATTENTION = {"attention": {"channel": "stage 2", "self": "stage 3"}}
THREE = {
    "operations": ("conv", "channel", "identity"),
    "parts": 3,
    "ratio": [{"learned": {"grain": 1, "budget": 0.3}}] * 2,
}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "threshold": ({}, {}, 1),
    "width 12": ({"width": 12}, {}, 1),
    "gates": ({"method": "gates"}, {}, 1),
    "input": ({"per": "input"}, {}, 1),
    "clip and average": (ATTENTION, {"clip_grad": 0.5, "ema": 0.9}, 1),
    "loss scale": (ATTENTION, {"precision": "float16"}, 1),
    "parts of a batch": (ATTENTION, {}, 3),
    "three parts": (THREE, {}, 1),
}

FAST = ("threshold", "clip and average", "parts of a batch")


def train(splits: Splits, name: str) -> Training:
    """Train for two epochs; the ratios are fixed in the second."""
    changes, settings, micro_batches = SETTINGS[name]
    learned = {key: changes[key] for key in ("method", "per") if key in changes}
    plan = {key: value for key, value in changes.items() if key not in learned}
    ratio = {"learned": {"grain": 1, "budget": 0.3, **learned}}
    defaults = SHAPE | {"ratio": ratio} | ({} if "operations" in plan else {"attention": "none"})
    network = Network(Plan.model_validate(defaults | plan).architecture(), 1, 10)
    initialize(network, 0)
    recipe = Recipe(ratio_freeze=0.6, lr=0.02, **settings)
    data = DeviceSplits.from_splits(splits, recipe, torch.device("cpu"))
    training = Training(network, recipe, 2, 0, data, micro_batches=micro_batches)
    for _ in range(2):
        training.run_epoch()
    return training


@pytest.mark.parametrize(
    "name",
    [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in SETTINGS],
)
def test_training_equals_that_by_autograd_bit_for_bit(
    name: str, few_digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    detached = train(few_digits, name)
    monkeypatch.setattr(RatioLearner, "detached_kernels", lambda _: nullcontext())
    states = [training.state_dict() for training in (detached, train(few_digits, name))]
    for state in states:
        del state["curve"], state["ratio_rows"]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def learned_network(**learned: Any) -> tuple[Network, RatioLearner]:
    ratio = {"learned": {"grain": 1, "budget": 0.3, **learned}}
    plan = Plan.model_validate(SHAPE | {"ratio": ratio, "attention": "none"})
    network = Network(plan.architecture(), 1, 10)
    initialize(network, 0)
    learner = make_ratio_learner(network, 8, 20, 0.5)
    assert learner is not None
    return network, learner


@pytest.mark.parametrize("step", [0, 10])
def test_evaluation_after_a_step_uses_the_new_weights(step: int) -> None:
    network, learner = learned_network()
    learner.update_boundaries(step)
    x = torch.randn(4, 1, 8, 8)
    with learner.detached_kernels():
        network(x).square().sum().backward()
    fresh, _ = learned_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    fresh.load_state_dict(network.state_dict())
    for mode in (True, False):
        with torch.no_grad():
            torch.testing.assert_close(network.train(mode)(x), fresh.train(mode)(x))


def test_an_error_in_a_pass_leaves_no_old_weights() -> None:
    network, learner = learned_network()
    learner.update_boundaries(0)
    x = torch.randn(4, 1, 8, 8)

    def fail() -> None:
        with learner.detached_kernels():
            network(x)
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    with torch.no_grad():
        before = network(x)
        for mixer in learned_mixers(network).values():
            mixer.parts[0].weight.mul_(2)
        assert not torch.equal(network(x), before)


def test_a_gradient_that_is_not_finite_leaves_no_trace() -> None:
    network, learner = learned_network()
    x = torch.randn(4, 1, 8, 8)
    for factor in (math.nan, 1.0):
        learner.update_boundaries(0)
        network.zero_grad()
        with learner.detached_kernels():
            (factor * network(x)).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_parametrized_weights_receive_their_gradients() -> None:
    class Double(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    network, learner = learned_network()
    convs: list[Any] = [mixer.parts[0] for mixer in learned_mixers(network).values()]
    for conv in convs:
        parametrize.register_parametrization(conv, "weight", Double())
    learner.update_boundaries(0)
    with learner.detached_kernels():
        network(torch.randn(4, 1, 8, 8)).square().sum().backward()
    originals = [conv.parametrizations.weight.original for conv in convs]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in originals)
