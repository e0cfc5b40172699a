import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.ratio_learning.input_dependent import InputDependentLearner
from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.runs.ratio_learning.tracking import make_ratio_learner
from partialnas.runs.training.optimizer import make_optimizer
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError
from partialnas.space.nn.init import initialize
from partialnas.space.nn.network import Network

STEPS = 20
FREEZE = 0.5
METHODS = ("threshold", "gates")


def network(width: int = 16, depths: tuple[int, ...] = (1, 1, 2, 1), **learned: Any) -> Network:
    ratio = {"learned": {"grain": 2, "budget": 0.25, **learned}}
    plan = Plan(stem_stride=1, width=width, depths=depths, head_width=16, ratio=ratio)
    return Network(plan.architecture(), in_chans=1, num_classes=10)


def one_block(**learned: Any) -> Network:
    parts = [{"op": "conv", "ratio": {"learned": {"grain": 2, **learned}}}, {"op": "identity"}]
    stages = [{"width": 16, "blocks": [{"parts": parts}]}]
    data = {"stem_stride": 1, "stages": stages, "head_width": 16}
    built = Network(Architecture.from_data(data), in_chans=1, num_classes=10).double()
    initialize(built, 0)
    return built


def learner_of(built: nn.Module, steps: int = STEPS) -> RatioLearner:
    learner = make_ratio_learner(built, 8, steps, FREEZE)
    assert learner is not None
    return learner


def images(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(16, 1, 8, 8, generator=chance, dtype=dtype)
    return x, torch.randint(10, (16,), generator=chance)


def loss_of(built: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    x, y = images(dtype)
    return functional.cross_entropy(built(x), y)


def push(learner: RatioLearner, step: int, gradients: list[float]) -> None:
    """Run a step in which all channels of a layer have the same gradient."""
    learner.update_boundaries(step)
    for mixer, gradient in zip(learner.mixers.values(), gradients, strict=True):
        mixer.shares.grad = torch.full_like(mixer.shares, gradient)
    learner.update_sizes(step)


def dense_macs(built: Network, sizes: dict[Any, Any]) -> tuple[int, int]:
    """Return the cost of convolutions over the first parts, and over all channels."""
    widths = built.architecture.widths
    used = sum(9 * int(s[0]) ** 2 * (8 >> stage) ** 2 for (stage, _), s in sizes.items())
    return used, sum(9 * widths[stage] ** 2 * (8 >> stage) ** 2 for stage, _ in sizes)


def test_networks_without_learned_ratios_have_no_learner() -> None:
    static = Plan(stem_stride=1, width=8, depths=(1, 1, 1, 1), head_width=16).architecture()
    assert make_ratio_learner(Network(static, 1, 10), 8, STEPS, FREEZE) is None
    assert make_ratio_learner(nn.Linear(2, 2), 8, STEPS, FREEZE) is None


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_out_of_reach_is_rejected(method: str) -> None:
    with pytest.raises(UserError, match="out of reach"):
        make_ratio_learner(network(method=method, budget=0.0001), 8, STEPS, FREEZE)


@pytest.mark.parametrize("step", [0, 4, 9])
def test_the_gradient_of_a_threshold_matches_central_differences(step: int) -> None:
    """The ramp has a different width at each step."""
    built = one_block()
    learner = learner_of(built)
    learner.update_boundaries(step)
    (mixer,) = learner.mixers.values()
    sizes, ramp = mixer.sizes, mixer.ramp
    loss_of(built, torch.float64).backward()
    learner.update_sizes(step)
    losses = []
    for moved in (1e-4, -1e-4):
        mixer.set_sizes((sizes[0] + moved, sizes[1] - moved), ramp)
        losses.append(float(loss_of(built, torch.float64).detach()))
    slope = 16 * (losses[0] - losses[1]) / 2e-4
    assert learner.pop_gradient_norm() == pytest.approx(abs(slope), rel=1e-3)
    assert learner.pop_gradient_norm() == 0


def test_without_a_budget_a_threshold_follows_the_gradient() -> None:
    built = one_block()
    for sign in (1.0, -1.0):
        learner = learner_of(built)
        (before,) = (sizes[0] for sizes in learner.initial_sizes.values())
        push(learner, 0, [sign])
        (after,) = (sizes[0] for sizes in learner.sizes.values())
        assert (after - before) * sign < 0


@pytest.mark.parametrize("method", METHODS)
def test_the_scale_of_the_loss_does_not_matter(method: str) -> None:
    states = []
    for scale in (1.0, 1024.0):
        built = network(method=method)
        initialize(built, 0)
        learner = learner_of(built)
        for step in range(3):
            learner.update_boundaries(step)
            (scale * loss_of(built)).backward()
            learner.update_sizes(step, scale)
        states.append((learner.sizes, learner.multiplier, learner.pop_gradient_norm()))
    (sizes, *numbers), (others, *theirs) = states
    assert numbers == pytest.approx(theirs, rel=1e-4)
    for place, block_sizes in sizes.items():
        assert block_sizes == pytest.approx(others[place], rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("broken", [math.inf, -math.inf, math.nan])
def test_non_finite_gradients_change_nothing(broken: float, method: str) -> None:
    learner = learner_of(network(method=method))
    push(learner, 0, [0.1, -0.2, 0.3, 0.1, 0.2])
    learner.pop_gradient_norm()
    before = learner.state_dict()
    push(learner, 1, [0.1, broken, 0.3, 0.1, 0.2])
    assert learner.state_dict() == before
    assert learner.pop_gradient_norm() == 0


gradients = st.lists(st.floats(-100, 100), min_size=5, max_size=5)


@settings(deadline=None, max_examples=30)
@given(
    budget=st.floats(0.05, 0.9),
    pushes=st.lists(gradients, min_size=1, max_size=10),
    method=st.sampled_from(METHODS),
)
def test_ratios_end_within_the_budget_for_any_gradients(
    budget: float, pushes: list[list[float]], method: str
) -> None:
    built = network(method=method, budget=budget)
    learner = learner_of(built)
    for step, push_ in enumerate(pushes):
        push(learner, step, push_)
        for block in learner.learned_blocks:
            (size,) = block.learned_sizes(learner.sizes[block.block_index])
            assert 2 - 1e-9 <= size <= block.block.width + 1e-9
    learner.update_boundaries(learner.freeze_step)
    assert all(size == int(size) and size % 2 == 0 for size, _ in learner.sizes.values())
    used, dense = dense_macs(built, learner.sizes)
    assert used == learner.used_macs()
    assert used <= budget * dense * (1 + 1e-9)
    assert used >= (0.95 if method == "threshold" else 0) * budget * dense


@settings(deadline=None, max_examples=30)
@given(budget=st.floats(0.05, 0.9), pushes=st.lists(gradients, min_size=1, max_size=10))
@example(budget=0.8125, pushes=[[0.0, 0.0, 0.0, 0.0, 1.0], [0.0] * 5])  # where the cost is flat
def test_thresholds_stay_on_the_budget_at_every_step(
    budget: float, pushes: list[list[float]]
) -> None:
    learner = learner_of(network(budget=budget))
    assert learner.budget_macs is not None
    for step, push_ in enumerate(pushes):
        push(learner, step, push_)
        assert learner.used_macs() == pytest.approx(learner.budget_macs, rel=0.02)


def test_the_multiplier_follows_the_gradient_of_the_budget() -> None:
    """Of one layer that costs 9 c^2 HW: dL/dlog(cost) = dL/dc * c / 2."""
    built = one_block(budget=0.25)
    learner = learner_of(built)
    learner.update_boundaries(0)
    (mixer,) = learner.mixers.values()
    mixer.shares.grad = torch.full_like(mixer.shares, 0.3)
    inside = int(((mixer.shares > 0) & (mixer.shares < 1)).sum())
    slope = 0.3 * inside / mixer.ramp * mixer.sizes[0] / 2
    learner.update_sizes(0)
    assert learner.multiplier == pytest.approx(-0.1 * slope, rel=1e-3)  # a tenth each step


def test_gates_halve_and_double_sizes() -> None:
    built = network(method="gates", budget=None)
    learner = learner_of(built, 60)
    seen = set()
    for step in range(25):
        push(learner, step, [-8.0, 4.0, -2.0, 2.0, 1.0])
        seen |= {sizes[0] / sum(sizes) for sizes in learner.sizes.values()}
    assert seen <= {2.0**-halvings for halvings in range(8)}
    assert len(seen) > 1
    first, second = learner.sizes[0, 0][0] / 16, learner.sizes[1, 0][0] / 32
    assert first > 0.25 > second


def test_gates_follow_the_budget() -> None:
    """Gradients are noise; the budget is half of the initial cost."""
    built = network(method="gates", budget=0.25)
    learner = learner_of(built, 600)
    assert learner.budget_macs is not None
    learner.budget_macs //= 2
    chance = np.random.default_rng(0)
    spent = []
    for step in range(300):
        push(learner, step, chance.normal(size=5).tolist())
        spent.append(learner.used_macs() / learner.budget_macs)
    assert spent[0] > 1.5
    assert 0.4 < np.median(spent[-100:]) < 1.5


def test_gradients_do_not_accumulate_over_steps() -> None:
    built = network()
    learner = learner_of(built)
    norms = []
    for _ in range(3):
        learner.update_boundaries(0)
        loss_of(built).backward()
        norms.append([float(m.shares.grad.norm()) for m in learner.mixers.values()])
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert norms[2] == pytest.approx(norms[0], rel=1e-4)


def test_frozen_ratios_have_no_gradients_and_do_not_change() -> None:
    built = network()
    learner = learner_of(built)
    push(learner, 0, [0.1, -0.2, 0.3, 0.1, 0.2])
    learner.update_boundaries(learner.freeze_step)
    sizes = dict(learner.sizes)
    loss_of(built).backward()
    learner.update_sizes(learner.freeze_step)
    learner.update_boundaries(learner.freeze_step + 1)
    assert learner.sizes == sizes
    for mixer in learner.mixers.values():
        assert not mixer.shares.requires_grad
        assert mixer.shares.grad is None


def test_networks_with_learned_ratios_run_in_inference_mode() -> None:
    built = network()
    learner = learner_of(built)
    learner.update_boundaries(0)
    x, _ = images()
    with torch.no_grad():
        expected = built.eval()(x)
    with torch.inference_mode():
        torch.testing.assert_close(built(x), expected)


def test_input_dependent_ratios_are_frozen_once() -> None:
    learner = learner_of(network(per="input"))
    assert not learner.state_dict()["settled"]
    learner.update_boundaries(learner.freeze_step)
    assert learner.state_dict()["settled"]
    assert not any(mixer.predictor_trainable for mixer in learner.mixers.values())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_few_steps_are_enough(steps: int) -> None:
    learner = learner_of(network(), steps)
    assert learner.freeze_step == 1
    push(learner, 0, [1.0] * 5)
    assert not learner.state_dict()["settled"]
    learner.update_boundaries(1)
    assert learner.budget_macs is not None
    assert learner.used_macs() <= learner.budget_macs
    assert learner.state_dict()["settled"]


def test_predictors_have_no_weight_decay() -> None:
    built = network(per="input")
    optimizer = make_optimizer(built, Recipe(weight_decay=0.1))
    predictors = {id(p) for n, p in built.named_parameters() if "predictor" in n}
    decays = {
        group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
        if id(parameter) in predictors
    }
    assert len(predictors) == 10
    assert decays == {0.0}


def test_calibration_meets_the_budget_on_the_images() -> None:
    built = network(per="input", budget=0.3)
    initialize(built, 0)
    learner = learner_of(built)
    for mixer in learner.mixers.values():
        nn.init.normal_(mixer.predictor[0].weight)
        nn.init.normal_(mixer.predictor[2].weight)
    x, _ = images()

    def choose() -> dict[Any, Tensor]:
        with torch.no_grad():
            built.eval()(x)
        return {place: mixer.option_indices for place, mixer in learner.mixers.items()}

    assert isinstance(learner, InputDependentLearner)
    assert learner.budget_macs is not None
    learner.calibrate(choose)
    used = learner.mean_macs(choose())
    assert used == learner.used_macs()
    assert 0.95 * learner.budget_macs <= used <= learner.budget_macs
