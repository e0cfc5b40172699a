import math

import pytest
import torch

from partialnas.runs.training.loss_table import LossTable
from partialnas.space.errors import TrialEndedError


class Event:
    """An event of a stream whose work is done when the test says so."""

    def __init__(self) -> None:
        self.is_done = False

    def record(self) -> None:
        self.is_done = False

    def query(self) -> bool:
        return self.is_done


def table(*values: float) -> LossTable:
    losses = LossTable(len(values), torch.device("cpu"))
    losses.values.copy_(torch.tensor(values))
    return losses


@pytest.mark.parametrize(("value", "name"), [(math.nan, "NaN"), (-math.inf, "infinite")])
def test_the_first_loss_that_is_not_finite_is_named(value: float, name: str) -> None:
    losses = table(1.0, 2.0, value, math.nan)
    losses.check(2, epoch=4)
    for action in (lambda: losses.check(3, 4), lambda: losses.check(4, 4), lambda: losses.mean(4)):
        with pytest.raises(TrialEndedError) as caught:
            action()
        assert caught.value.reason == f"loss became {name} in epoch 5 (step 3)"


def test_a_check_does_not_wait_for_the_device() -> None:
    losses, event = table(1.0, math.nan, 1.0, 1.0), Event()
    losses._copied = event  # type: ignore[assignment]
    for done in (2, 3):  # nothing is known of the first two steps yet
        losses.check(done, 0)
    event.is_done = True
    with pytest.raises(TrialEndedError, match="step 2"):
        losses.check(4, 0)


def test_the_next_epoch_does_not_read_the_losses_of_the_last() -> None:
    losses, event = table(1.0, math.nan), Event()
    losses._copied = event  # type: ignore[assignment]
    losses.check(2, 0)
    event.is_done = True
    losses.restart()
    losses.values.fill_(3.0)
    losses.check(2, 1)
    assert losses.mean(1) == 3.0
