import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.training.lr_schedule import learning_rate, set_learning_rate
from partialnas.runs.training.optimizer import make_optimizer
from partialnas.space.arch.plan import Plan
from partialnas.space.nn.network import Network

SCHEDULES = ["one_cycle", "cosine", "constant"]


def networks() -> dict[str, nn.Module]:
    attention = {"channel": "stages 1-2", "spatial": "stage 3", "self": "stage 4"}
    plan = Plan(width=8, depths=(1, 1, 1, 1), attention=attention, pat_sp=True)
    return {
        "ours": Network(plan.architecture()),
        "vit": timm.create_model("test_vit"),
        "convnext": timm.create_model("test_convnext"),
    }


@pytest.mark.parametrize("name", ["ours", "vit", "convnext"])
def test_only_weights_of_convolutions_and_linear_layers_decay(name: str) -> None:
    network = networks()[name]
    matrices = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    decayed: set[int] = set()
    others: set[int] = set()
    for group in make_optimizer(network, Recipe(weight_decay=0.3)).param_groups:
        assert group["weight_decay"] in (0, 0.3)
        (decayed if group["weight_decay"] else others).update(map(id, group["params"]))
    assert decayed == matrices
    assert others == {id(parameter) for parameter in network.parameters()} - matrices


@pytest.mark.parametrize("name", ["adamw", "nadamw", "lamb", "lion", "sgd", "muon"])
def test_every_optimizer_reduces_the_loss(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Linear(4, 1)
    x, y = torch.randn(64, 4), torch.randn(64, 1)
    optimizer = make_optimizer(network, Recipe.model_validate({"optimizer": name}))
    losses = []
    for _ in range(20):
        loss = (network(x) - y).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_muon_steps_along_orthogonal_matrices() -> None:
    """Its update of a 1x1 convolution is near the closest orthogonal matrix, times the rate."""
    torch.manual_seed(0)
    network = nn.Conv2d(8, 8, 1, bias=False)
    before = network.weight.detach().clone()
    network.weight.grad = torch.randn_like(network.weight)
    u, _, vh = torch.linalg.svd(network.weight.grad.flatten(1))
    make_optimizer(network, Recipe(optimizer="muon", lr=0.1, weight_decay=0)).step()
    step = (network.weight - before).flatten(1)
    singular = torch.linalg.svdvals(step) / (0.1 * 0.2 * 8**0.5)  # the RMS of steps of AdamW
    assert torch.allclose(singular, torch.ones(8), atol=0.35)
    assert functional.cosine_similarity(step.flatten(), -(u @ vh).flatten(), 0) > 0.97


@pytest.mark.parametrize("name", ["ours", "vit", "convnext"])
def test_muon_leaves_vectors_depthwise_kernels_and_the_classifier_to_adamw(name: str) -> None:
    network = networks()[name]
    optimizer = make_optimizer(network, Recipe(optimizer="muon"))
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    orthogonalized = {
        parameter for parameter, state in optimizer.state.items() if "momentum_buffer" in state
    }
    layers = {id(layer.weight): layer for layer in network.modules() if hasattr(layer, "weight")}
    assert orthogonalized
    for parameter in orthogonalized:
        layer = layers[id(parameter)]
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert getattr(layer, "groups", 1) == 1
        assert layer is not network.get_classifier()  # type: ignore[operator]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@given(rate=st.floats(1e-9, 1))
def test_a_rate_in_a_tensor_gives_the_same_weights(name: str, rate: float) -> None:
    weights = []
    for value in (rate, torch.tensor(rate)):
        parameter = nn.Parameter(torch.linspace(-1, 1, 7))
        optimizer = make_optimizer(
            nn.ParameterList([parameter]), Recipe.model_validate({"optimizer": name})
        )
        parameter.grad = torch.linspace(0.3, -2, 7)
        set_learning_rate(optimizer, rate)
        if isinstance(value, torch.Tensor):
            for group in optimizer.param_groups:
                group["lr"] = value
        optimizer.step()
        weights.append(parameter.detach())
    assert torch.equal(*weights)


@given(st.sampled_from(SCHEDULES), st.floats(0, 0.99), st.integers(1, 400))
def test_rates_rise_to_the_peak_in_the_warm_up_and_never_exceed_it(
    schedule: str, warmup: float, steps: int
) -> None:
    recipe = Recipe.model_validate({"schedule": schedule, "warmup": warmup, "lr": 0.1})
    rates = [learning_rate(recipe, step, steps) for step in range(steps)]
    rising = [rate for step, rate in enumerate(rates) if step < warmup * steps]
    assert all(0 < rate <= 0.1 for rate in rates)
    assert rising == sorted(rising)
    assert rates[len(rising) :] == sorted(rates[len(rising) :], reverse=True)


@given(st.sampled_from(SCHEDULES), st.floats(0, 0.9))
def test_long_schedules_reach_their_peak_and_their_end(schedule: str, warmup: float) -> None:
    recipe = Recipe.model_validate({"schedule": schedule, "warmup": warmup, "lr": 0.1})
    rates = [learning_rate(recipe, step, 1000) for step in range(1000)]
    assert max(rates) == pytest.approx(0.1, rel=0.01)
    assert rates[-1] == pytest.approx(0.1 if schedule == "constant" else 0, abs=1e-4)


def test_one_cycle_matches_torch() -> None:
    """The scheduler of torch fails on some short schedules, so it is not used."""
    recipe = Recipe(lr=0.1, warmup=0.25)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 2000, pct_start=0.25)
    for step in range(2000):
        assert learning_rate(recipe, step, 2000) == pytest.approx(
            optimizer.param_groups[0]["lr"], abs=1e-3
        )
        optimizer.step()
        if step < 1999:
            theirs.step()


@given(st.integers(0, 300), st.floats(0.01, 1), st.integers(1, 60), st.integers(1, 12))
def test_a_trapezoid_rises_for_its_steps_stays_and_falls_to_zero(
    warmup_steps: int, cool_down: float, steps_per_epoch: int, epochs: int
) -> None:
    recipe = Recipe(schedule="trapezoid", warmup_steps=warmup_steps, cool_down=cool_down, lr=0.1)
    steps = steps_per_epoch * epochs
    rates = [learning_rate(recipe, step, steps) for step in range(steps)]
    corners = [-1, warmup_steps, (1 - cool_down) * steps, steps]
    for step, rate in enumerate(rates):
        rising = np.interp(step, corners[:2], [0, 0.1])
        falling = np.interp(step, corners[2:], [0.1, 0])
        assert rate == pytest.approx(min(rising, falling))


@given(st.integers(0, 100), st.floats(0.05, 1), st.integers(1, 30), st.integers(1, 12))
def test_trapezoids_of_all_lengths_share_the_trunk(
    warmup_steps: int, cool_down: float, steps_per_epoch: int, epochs: int
) -> None:
    recipe = Recipe(schedule="trapezoid", warmup_steps=warmup_steps, cool_down=cool_down)
    trunk = recipe.trunk_epochs(epochs) * steps_per_epoch
    for longer in (epochs + 1, 2 * epochs, 7 * epochs):
        for step in range(trunk):
            rate = learning_rate(recipe, step, epochs * steps_per_epoch)
            assert rate == learning_rate(recipe, step, longer * steps_per_epoch)


def test_other_schedules_have_no_trunk() -> None:
    assert [Recipe(schedule=s).trunk_epochs(100) for s in ("one_cycle", "cosine", "constant")] == [
        0
    ] * 3
    assert Recipe(schedule="trapezoid", cool_down=0.2).trunk_epochs(10) == 8
    assert Recipe(schedule="trapezoid", cool_down=0.25).trunk_epochs(3) == 2
