import errno
import math
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import Subject
from partialnas.runs.training import loop as training
from partialnas.runs.trials import outcome, trial, trial_run
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.space import errors
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import MachineError, UserError
from partialnas.space.nn.network import Network

TASK = resolve_task("digits")
PLAN = Plan(width=4, depths=(1, 1, 1, 1), stem_stride=1, head_width=16, attention="channel")
SUBJECT = PLAN.architecture()
EPOCHS = 2


def job(subject: Subject = SUBJECT, seeds: tuple[int, ...] = (0,), **settings: Any) -> Job:
    usual = {"drop_path": 0.1, "ema": 0.9, "keep_weights": "all"}
    recipe = Recipe.model_validate(usual | settings)
    return Job(subject=subject, task=TASK, recipe=recipe, fidelity=EPOCHS, seeds=seeds)


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def counting(function: Callable[..., Any], active: list[str], counts: list[int]) -> Any:
    """Return a function that first stores how many contexts are active."""

    def counted(*arguments: Any) -> Any:
        counts.append(len(active))
        return function(*arguments)

    return counted


def raising(error: BaseException) -> Callable[..., Any]:
    class Raising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Network(SUBJECT, 1, 10)

        def forward(self, _: Tensor) -> Tensor:
            raise error

    return lambda *_: Raising()


class Scaled(nn.Module):
    """A network with its outputs multiplied by a factor."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.inner, self.value = Network(SUBJECT, 1, 10), value

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.value  # type: ignore[no-any-return]


def not_buildable(*_: Any) -> nn.Module:
    raise UserError("cannot be built")


FAULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "exception": (raising(ValueError("no\n way")), r"ValueError: no way"),
    "other error": (raising(KeyError()), "KeyError"),
    "memory": (raising(torch.OutOfMemoryError("x")), "out of memory on cpu with batch size 64"),
    "NaN": (lambda *_: Scaled(math.nan), r"loss became NaN in epoch 1 \(step 1\)"),
    "shape": (lambda *_: nn.Conv2d(1, 2, 1), "RuntimeError"),
    "no weights": (lambda *_: nn.Flatten(), "ValueError: optimizer got an empty parameter list"),
    "no network": (lambda *_: None, "AttributeError"),
    "unbuildable": (not_buildable, "cannot be built"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_network_gives_a_record_with_a_reason(
    fault: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, reason = FAULTS[fault]
    monkeypatch.setattr(trial_run, "build_network", build)
    assert context.folder
    first, second = run_job(job(seeds=(0, 1)), context)
    for record in (first, second):
        assert (record.state, record.metrics, record.curve) == ("failed", {}, ())
        assert record.reason is not None
        assert re.match(reason, record.reason), record.reason
    assert files(context.folder) == []


def test_a_seed_that_fails_does_not_end_those_beside_it(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = trial_run.Training.begin_epoch

    def begin_epoch(training: trial_run.Training, limit_s: float) -> None:
        if training.seed == 1 and training.curve:
            raise ValueError("no way")
        begin(training, limit_s)

    monkeypatch.setattr(trial_run.Training, "begin_epoch", begin_epoch)
    first, second, third = run_job(job(seeds=(0, 1, 2)), replace(context, lanes=3))
    assert (first.state, second.state, third.state) == ("done", "failed", "done")
    assert (second.reason, len(second.curve)) == ("ValueError: no way", 1)
    assert context.folder
    assert files(context.folder) == sorted(
        f"weights/{record.key}.safetensors" for record in (first, third)
    )


def test_images_too_small_for_the_network_give_a_record_with_a_reason(context: Context) -> None:
    large = PLAN.model_copy(update={"stem_stride": 4}).architecture()
    (record,) = run_job(job(large), context)
    assert record.state == "failed"
    assert "the smallest valid input is 32x32" in str(record.reason)


def test_a_trial_out_of_time_keeps_its_finished_epochs(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replace the clock by one that advances one second at each reading.

    An epoch has a second at its start, one for each step until it is checked, one until the steps
    end, and two at its end.
    """
    clock = SimpleNamespace(perf_counter=partial(next, count()))
    monkeypatch.setattr(training, "time", clock)
    (record,) = run_job(job(batch_size=64), replace(context, time_limit_s=9.5))
    assert record.state == "timeout"
    assert record.reason == "time limit of 9.5 s reached in epoch 2 (step 2)"
    assert [row["seconds"] for row in record.curve] == [7]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_is_not_caught(
    error: BaseException, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_run, "build_network", raising(error))
    threads = torch.get_num_threads()
    with pytest.raises(type(error)):
        run_job(job(threads=threads + 1), context)
    assert torch.get_num_threads() == threads


def test_a_full_disk_is_an_error_of_the_machine(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match=r"checkpoints/\w{16}\.pt: .*No space left on device"):
        run_job(job(), context)


ASSERT = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously"


def test_a_fault_of_the_device_is_an_error_of_its_own(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_run, "build_network", raising(torch.AcceleratorError(ASSERT)))
    with pytest.raises(errors.DeviceFaultError, match="device cpu failed: device-side") as caught:
        run_job(job(), context)
    assert caught.value.reason == "device fault: device-side assert triggered"
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # as workers send it
    assert (str(copy), copy.reason) == (str(caught.value), caught.value.reason)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.AcceleratorError(ASSERT), "cpu failed before a network ran on it: device-side"),
        (torch.AcceleratorError("CUDA error: out of memory"), "too little free memory for the im"),
        (torch.OutOfMemoryError("CUDA out of memory"), "too little free memory for the images"),
    ],
)
def test_no_network_is_to_blame_if_the_images_cannot_be_moved_to_the_device(
    error: Exception, message: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> trial_run.DeviceSplits:
        raise error

    monkeypatch.setattr(trial_run.DeviceSplits, "from_splits", fail)
    with pytest.raises(MachineError, match=message) as caught:
        run_job(job(shift=5), context)
    assert not isinstance(caught.value, errors.DeviceFaultError)


def test_after_a_fault_errors_of_libraries_are_no_failures_of_the_network(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a kernel has failed, every call fails, those of libraries with other messages."""

    def synchronize(_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    error = RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`")
    on_gpu = replace(context, device="cuda:0")
    with pytest.raises(errors.DeviceFaultError, match="cuda:0 failed: an illegal memory access"):
        outcome.from_exception(error, job(), on_gpu)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    assert outcome.from_exception(error, job(), on_gpu).state == "failed"


def test_a_failing_callback_is_an_error_of_the_machine(context: Context) -> None:
    def deaf(*_: Any) -> None:
        raise ValueError("deaf")

    with pytest.raises(MachineError, match=r"cannot report the progress of .*: deaf"):
        run_job(job(), replace(context, on_epoch=deaf))


def test_missing_data_raise_an_error(tmp_path: Path) -> None:
    lost = TASK.model_copy(update={"data": f"cifar10:{tmp_path / 'lost'}"})
    with pytest.raises(UserError, match="does not exist"):
        run_job(job().model_copy(update={"task": lost}), Context())


def test_a_missing_device_raises_an_error(context: Context) -> None:
    with pytest.raises(MachineError, match="no cuda:99"):
        run_job(job(), replace(context, device="cuda:99"))


def test_training_shares_the_device_for_copies_to_it_and_for_one_epoch_at_a_time(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[str] = []
    active: list[str] = []

    @contextmanager
    def sharing(device: str) -> Iterator[None]:
        entered.append(device)
        active.append(device)
        yield
        active.pop()

    for module in (trial, trial_run):
        monkeypatch.setattr(module, "shared_access", sharing)
    active_in_callback: list[int] = []
    active_in_copies: list[int] = []
    for owner, name in ((trial.SPLIT_CACHE, "get"), (trial_run.TrialRun, "start")):
        monkeypatch.setattr(owner, name, counting(getattr(owner, name), active, active_in_copies))
    run_job(job(), replace(context, on_epoch=lambda *_: active_in_callback.append(len(active))))
    assert active_in_copies == [1, 1]
    assert entered == ["cpu"] * (2 + EPOCHS + 1)
    assert active_in_callback == [0] * EPOCHS
