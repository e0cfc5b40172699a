"""Trainings side by side have the results that they have alone, bit for bit."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from support.small_trainings import EPOCHS, begin, begin_case, make_network, make_recipe
from torch import Tensor, nn

from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.records.record import CurveRow
from partialnas.runs.training.lanes import run_epochs, run_side_by_side
from partialnas.runs.training.loop import Training
from partialnas.space.errors import DeviceFaultError, TrialEndedError

pytestmark = pytest.mark.usefixtures("one_thread")


def alone(training: Training) -> Training:
    while len(training.curve) < training.epochs:
        training.run_epoch()
    return training


def assert_equal(training: Training, expected: Training) -> None:
    for row, other in zip(training.curve, expected.curve, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    assert training.ratio_rows == expected.ratio_rows
    states = [t.state_dict() | {"curve": [], "ratio_rows": []} for t in (training, expected)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert training.metrics() == expected.metrics()


CASES = ["plain", "attention", "drop path", "average", "mixup", "learned", "learned by input"]


@pytest.mark.parametrize(
    ("case", "by_counter"),
    [(case, True) for case in CASES] + [(case, False) for case in ("drop path", "learned")],
)
def test_seeds_have_the_results_that_they_have_alone(
    case: str, by_counter: bool, few_digits: Splits
) -> None:
    lanes = [begin_case(case, few_digits, seed, by_counter=by_counter) for seed in range(3)]
    state = torch.get_rng_state()
    assert run_side_by_side(lanes) == [None] * 3
    assert torch.equal(torch.get_rng_state(), state)
    for seed, training in enumerate(lanes):
        assert_equal(training, alone(begin_case(case, few_digits, seed)))


class Breaking(nn.Module):
    """A network that draws random numbers, and breaks in a training step counted from 0."""

    def __init__(self, at: int, error: Exception | None = None) -> None:
        super().__init__()
        self.inner, self.left, self.error = make_network("drop path"), at, error

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        if self.training and self.left < 0 and self.error is not None:
            raise self.error
        logits: Tensor = self.inner(x)
        return logits * math.nan if self.left < 0 else logits


def breaking(splits: Splits, at: int, error: Exception | None = None) -> Training:
    return begin(Breaking(at, error), make_recipe("drop path"), splits)


@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_training_that_fails_does_not_disturb_the_others(at: int, few_digits: Splits) -> None:
    error = RuntimeError("no such kernel")
    lanes = [
        begin_case("drop path", few_digits, 0),
        breaking(few_digits, at),
        breaking(few_digits, at, error),
        begin_case("attention", few_digits, 1),
    ]
    results = run_side_by_side(lanes)
    assert results[0] is results[3] is None
    assert isinstance(results[1], TrialEndedError)
    assert results[1].reason == f"loss became NaN in epoch {at // 3 + 1} (step {at % 3 + 1})"
    assert results[2] is error
    assert [len(training.curve) for training in lanes] == [EPOCHS, at // 3, at // 3, EPOCHS]
    assert_equal(lanes[0], alone(begin_case("drop path", few_digits, 0)))
    assert_equal(lanes[3], alone(begin_case("attention", few_digits, 1)))


def test_time_limits_count_for_each_training(few_digits: Splits) -> None:
    lanes = [begin_case("drop path", few_digits, seed) for seed in range(2)]
    assert not any(isinstance(row, Exception) for row in run_epochs(lanes, 1000))
    lanes[0].curve[0]["seconds"] = 999.9999
    late, row = run_epochs(lanes, 1000)
    assert isinstance(late, TrialEndedError)
    assert late.state == "timeout"
    assert not isinstance(row, Exception)
    expected = begin_case("drop path", few_digits, 1)
    expected.run_epoch()
    assert row | {"seconds": 0} == expected.run_epoch() | {"seconds": 0}


@pytest.mark.parametrize("is_faulty", [False, True])
def test_no_work_is_left_on_a_gpu_after_an_error(
    is_faulty: bool, few_digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[torch.device] = []

    def synchronize(device: torch.device) -> None:
        waits.append(device)
        if is_faulty:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    error = RuntimeError("no such kernel")
    lanes = [begin_case("plain", few_digits), breaking(few_digits, 1, error)]
    for training in lanes:
        training.device = torch.device("cuda", 0)
    results = run_epochs(lanes)
    assert not isinstance(results[0], Exception)
    assert results[1] is error
    assert waits == [torch.device("cuda", 0)]


def test_the_last_training_of_an_epoch_runs_its_steps_at_once(
    few_digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    run_steps = Training.run_steps

    def counted(training: Training, count: int) -> None:
        counts.append(count)
        run_steps(training, count)

    monkeypatch.setattr(Training, "run_steps", counted)
    run_epochs([begin_case("plain", few_digits)])
    assert counts == [3]
    counts.clear()
    error = RuntimeError("no such kernel")
    run_epochs([begin_case("plain", few_digits), breaking(few_digits, 0, error)])
    assert counts == [1, 1, 2]


def test_a_failure_of_the_machine_ends_all(few_digits: Splits) -> None:
    fault = DeviceFaultError("cuda:0", "an illegal memory access was encountered")
    lanes = [begin_case("plain", few_digits), breaking(few_digits, 1, fault)]
    with pytest.raises(DeviceFaultError):
        run_side_by_side(lanes)


def test_trainings_may_differ_in_steps_and_epochs(few_digits: Splits) -> None:
    rows: list[tuple[int, CurveRow]] = []
    entered = []

    @contextmanager
    def access() -> Iterator[None]:
        entered.append(len(rows))
        yield

    def trainings() -> list[Training]:
        longer, fewer_steps = (begin_case("drop path", few_digits, seed) for seed in range(2))
        recipe = make_recipe("drop path").model_copy(update={"batch_size": 96})
        fewer_steps = begin(make_network("drop path"), recipe, few_digits)
        begun = begin_case("average", few_digits)
        begun.run_epoch()
        return [longer, fewer_steps, begun]

    lanes = trainings()
    run_side_by_side(lanes, access=access, on_epoch=lambda *row: rows.append(row))
    assert entered == [0, 3, 6]
    assert [number for number, _ in rows] == [0, 1, 2, 0, 1, 2, 0, 1]
    for training, expected in zip(lanes, trainings(), strict=True):
        assert_equal(training, alone(expected))
