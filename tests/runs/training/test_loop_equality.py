"""The loop computes bit for bit what a plain loop computes that decides everything in Python."""

import pytest
import timm
import torch
from support.reference_loop import Result, train
from support.small_trainings import CASES, EPOCHS, begin, begin_case, make_network, make_recipe
from torch import nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.training.loop import Training

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_equal(training: Training, expected: Result) -> None:
    assert [row["train_nll"] for row in training.curve] == expected.train_nll
    assert [row["val_nll"] for row in training.curve] == expected.val_nll
    exact = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(training.network.state_dict(), expected.weights, **exact)
    if expected.average is not None:
        assert training.average is not None
        average = training.average.module.state_dict()
        torch.testing.assert_close(average, expected.average, **exact)


def expected(case: str, splits: Splits) -> Result:
    return train(make_network(case, 7), make_recipe(case), EPOCHS, 7, splits)


@pytest.mark.parametrize("by_counter", [False, True], ids=["rows", "counter"])
@pytest.mark.parametrize("case", CASES)
def test_the_loop_equals_a_plain_loop(case: str, by_counter: bool, few_digits: Splits) -> None:
    training = begin_case(case, few_digits, by_counter=by_counter)
    while len(training.curve) < EPOCHS:
        training.run_epoch()
    assert_equal(training, expected(case, few_digits))


def test_divided_batches_equal_a_plain_loop(few_digits: Splits) -> None:
    recipe = Recipe(mixup=0.4, clip_grad=1.0)
    training = begin(make_network("plain"), recipe, few_digits, micro_batches=3)
    while len(training.curve) < EPOCHS:
        training.run_epoch()
    assert_equal(training, train(make_network("plain"), recipe, EPOCHS, 7, few_digits, 3))


@pytest.mark.parametrize("by_counter", [False, True], ids=["rows", "counter"])
@pytest.mark.parametrize("case", ["average", "all augmentations", "learned"])
def test_a_resumed_training_equals_a_plain_loop(
    case: str, by_counter: bool, few_digits: Splits
) -> None:
    """The training is saved and resumed after each epoch, and its pieces are single steps."""
    training = begin_case(case, few_digits, by_counter=by_counter)
    for _ in range(EPOCHS):
        training.begin_epoch()
        while training.steps_left:
            training.run_steps(1)
        training.finish_epoch()
        state = training.state_dict()
        training = begin_case(case, few_digits, by_counter=by_counter)
        training.load_state_dict(state)
    assert_equal(training, expected(case, few_digits))


@pytest.mark.parametrize("by_counter", [False, True], ids=["rows", "counter"])
def test_a_model_of_timm_equals_a_plain_loop(by_counter: bool, few_digits: Splits) -> None:
    def model() -> nn.Module:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            network: nn.Module = timm.create_model(
                "test_resnet", in_chans=1, num_classes=10, drop_path_rate=0.2
            )
        return network

    recipe = Recipe(ema=0.9)
    training = begin(model(), recipe, few_digits, by_counter=by_counter)
    while len(training.curve) < EPOCHS:
        training.run_epoch()
    assert_equal(training, train(model(), recipe, EPOCHS, 7, few_digits))
