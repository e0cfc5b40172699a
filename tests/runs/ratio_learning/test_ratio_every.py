"""Boundaries that move once in several steps: which gradients they use, and when they move."""

import copy
import math
from statistics import fmean
from typing import Any

import pytest
import torch

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.runs.ratio_learning.tracking import make_ratio_learner
from partialnas.runs.training.loop import DeviceSplits, Training
from partialnas.space.arch.plan import Plan
from partialnas.space.nn.network import Network

STEPS = 400
METHODS = ("threshold", "gates")


def network(**learned: Any) -> Network:
    ratio = {"learned": {"grain": 2, "budget": 0.25, **learned}}
    plan = Plan(stem_stride=1, width=16, depths=(1, 1, 1, 1), head_width=16, ratio=ratio)
    return Network(plan.architecture(), in_chans=1, num_classes=10)


def learner_of(every: int, **learned: Any) -> RatioLearner:
    learner = make_ratio_learner(network(**learned), 8, STEPS, 0.5, every)
    assert learner is not None
    return learner


def push(learner: RatioLearner, step: int, gradients: list[float], scale: float = 1.0) -> None:
    """Run a step in which all channels of a layer have the same gradient."""
    learner.update_boundaries(step)
    for mixer, gradient in zip(learner.mixers.values(), gradients, strict=True):
        mixer.shares.grad = torch.full_like(mixer.shares, scale * gradient)
    learner.update_sizes(step, scale)


NOISE = [[0.3, -0.2, 0.1, 0.5], [-0.1, 0.4, 0.2, -0.3], [0.7, 0.1, -0.5, 0.2]]
MEANS = [fmean(column) for column in zip(*NOISE, strict=True)]


@pytest.mark.parametrize("method", METHODS)
def test_boundaries_move_by_the_mean_gradient_of_several_steps(method: str) -> None:
    one, other = (learner_of(3, method=method) for _ in range(2))
    before = one.state_dict()
    for step in range(3):
        assert one.state_dict() == before
        push(one, step, NOISE[step])
        push(other, step, MEANS)
    assert one.state_dict() != before
    assert one.pop_gradient_norm() == pytest.approx(other.pop_gradient_norm(), rel=1e-5)
    for block_index, sizes in one.sizes.items():
        assert sizes == pytest.approx(other.sizes[block_index], rel=1e-5)
    assert one.multiplier == pytest.approx(other.multiplier, rel=1e-4)


def test_a_constant_gradient_moves_boundaries_further_by_the_root_of_the_steps() -> None:
    """Moves are 4 times as rare and have twice the length."""
    moved = []
    for every in (1, 4):
        learner = learner_of(every, budget=None)
        for step in range(8):
            push(learner, step, [0.1] * 4)
        moved.append(learner.initial_sizes[0, 0][0] - learner.sizes[0, 0][0])
    assert moved[1] == pytest.approx(moved[0] * 2 / 4, rel=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_scale_may_change_between_moves(method: str) -> None:
    one, other = (learner_of(3, method=method) for _ in range(2))
    for step, scale in enumerate((1024.0, 1024.0, 2048.0)):
        push(one, step, NOISE[step])
        push(other, step, NOISE[step], scale)
    assert one.state_dict() == other.state_dict()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_non_finite_gradients_change_nothing_until_the_next_move(broken: float) -> None:
    learner, expected = learner_of(3), learner_of(3)
    for step in range(3):
        push(learner, step, [broken if step == 1 else 0.1, 0.2, 0.1, 0.3])
    assert learner.state_dict() == expected.state_dict()
    for step in range(3, 6):
        push(learner, step, [0.1, -0.2, 0.1, 0.3])
    assert learner.sizes != learner.initial_sizes


def test_masks_stay_where_they_are_until_the_boundaries_move() -> None:
    learner = learner_of(4)
    seen = []
    for step in range(8):
        push(learner, step, [0.1, -0.1, 0.2, 0.3])
        seen.append([(mixer.sizes, mixer.ramp) for mixer in learner.mixers.values()])
        assert all(mixer.ramp > 0 for mixer in learner.mixers.values())
    assert seen[0] == seen[3] != seen[4] == seen[7]


def test_the_last_gradients_are_used_before_ratios_are_fixed() -> None:
    learner = make_ratio_learner(network(), 8, 10, 0.5, 64)
    assert learner is not None
    for step in range(learner.freeze_step):
        push(learner, step, [0.1, -0.1, 0.2, 0.3])
    assert learner.sizes != learner.initial_sizes
    learner.update_boundaries(learner.freeze_step)
    assert learner.is_frozen


def training(splits: Splits, weights: int = 0) -> Training:
    torch.manual_seed(weights)
    recipe = Recipe(ratio_every=4, ratio_freeze=0.6, clip_grad=1.0, ema=0.9)
    data = DeviceSplits.from_splits(splits, recipe, torch.device("cpu"))
    return Training(network(grain=1), recipe, 2, 0, data)


def test_resuming_after_an_epoch_gives_the_same_ratios_bit_for_bit(few_digits: Splits) -> None:
    """An epoch is no multiple of four steps."""
    uninterrupted = training(few_digits)
    assert len(uninterrupted.data.train) // uninterrupted.recipe.batch_size % 4
    uninterrupted.run_epoch()
    resumed = training(few_digits, weights=1)
    resumed.load_state_dict(copy.deepcopy(uninterrupted.state_dict()))
    for run in (uninterrupted, resumed):
        run.run_epoch()
    one, other = (
        [run.network.state_dict(), *(row.ratios for row in run.ratio_rows)]
        for run in (uninterrupted, resumed)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_default_leaves_no_trace_in_the_identity() -> None:
    fields = Recipe().identity(has_learned_ratios=True)
    assert "ratio_every" not in fields
    changed = Recipe(ratio_every=4)
    assert changed.identity(has_learned_ratios=True) == fields | {"ratio_every": 4}
    static = Recipe().identity(has_learned_ratios=False)
    assert changed.identity(has_learned_ratios=False) == static
