"""Batches that do not fit into memory are divided in two, their gradients added up."""

import gc
import subprocess
import sys
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.devices.device import is_out_of_memory
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record
from partialnas.runs.training.loop import Training
from partialnas.runs.trials import trial_run
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.space.arch.plan import Plan
from partialnas.space.nn.network import Network

SUBJECT = Plan(width=4, depths=(1, 1, 1, 1), stem_stride=1, head_width=16).architecture()
EPOCHS = 3
RICH = {"mixup": 0.3, "cutmix": 1.0, "clip_grad": 0.5, "shift": 1}


class Normless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 8, 2, stride=2), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(functional.gelu(self.stem(x)).flatten(1))
        return logits


class Limited(nn.Module):
    """A network on a device with memory for `most` images in training.

    The limit applies after some steps, as if another program then used the memory.
    """

    def __init__(self, most: int, after: int, error: Exception | None = None) -> None:
        super().__init__()
        self.inner, self.most, self.after = Network(SUBJECT, 1, 10), most, after
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.after -= 1
            if self.after < 0 and len(x) > self.most:
                raise self.error
        return self.inner(x)  # type: ignore[no-any-return]


def job(**settings: Any) -> Job:
    recipe = Recipe.model_validate(settings)
    task = resolve_task("digits")
    return Job(subject=SUBJECT, task=task, recipe=recipe, fidelity=EPOCHS, seeds=(0,))


def trained(splits: Splits, micro_batches: int, **settings: Any) -> Training:
    recipe = Recipe.model_validate(settings)
    pools = DeviceSplits.from_splits(splits, recipe, torch.device("cpu"))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = Normless()
    training = Training(network, recipe, EPOCHS, 0, pools, micro_batches=micro_batches)
    training.run_epoch()
    return training


@pytest.mark.parametrize("micro_batches", [2, 3])
@pytest.mark.parametrize("batch_size", [64, 33])
def test_added_gradients_match_those_of_the_whole_batch(
    few_digits: Splits, micro_batches: int, batch_size: int
) -> None:
    settings = {**RICH, "batch_size": batch_size, "optimizer": "sgd", "lr": 0.1}
    whole = trained(few_digits, 1, **settings)
    parts = trained(few_digits, micro_batches, **settings)
    start = trained(few_digits, 1, **{**settings, "lr": 1e-9}).network.state_dict()
    for name, weight in whole.network.state_dict().items():
        moved = (weight - start[name]).abs().max()
        assert moved > 1e-3
        torch.testing.assert_close(
            parts.network.state_dict()[name], weight, rtol=0, atol=1e-5 * float(moved) + 1e-7
        )
    assert parts.curve[0]["train_nll"] == pytest.approx(whole.curve[0]["train_nll"], rel=1e-5)
    assert parts.curve[0]["val_nll"] == pytest.approx(whole.curve[0]["val_nll"], rel=1e-5)


def run_limited(
    monkeypatch: pytest.MonkeyPatch,
    context: Context,
    most: int,
    after: int = 0,
    error: Exception | None = None,
) -> Record:
    monkeypatch.setattr(trial_run, "build_network", lambda *_: Limited(most, after, error))
    monkeypatch.setattr(trial_run, "initialize", lambda network, _: reset(network))
    (record,) = run_job(job(batch_size=64), context)
    return record


def reset(network: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)


def test_a_trial_out_of_memory_is_trained_with_half_batches(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_limited(monkeypatch, context, most=32)
    assert (record.state, record.reason) == ("done", None)
    assert len(record.curve) == EPOCHS
    assert record.key == job(batch_size=64).trial_keys[0]
    assert record.environment["micro_batch"] == 32
    assert "BatchNorm saw 32 images at a time" in str(record.environment["memory"])


def test_a_trial_that_fits_has_no_memory_facts(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_limited(monkeypatch, context, most=64)
    assert record.state == "done"
    assert not {"micro_batch", "memory"} & record.environment.keys()


def test_the_reason_names_both_batch_sizes_if_halves_do_not_fit_either(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_limited(monkeypatch, context, most=31)
    assert record.state == "failed"
    assert record.reason == "out of memory on cpu with batch size 64, and in two parts of 32"


_LIBRARY_ERRORS = {
    "allocation outside of torch": torch.AcceleratorError(
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"
    ),
    "cuBLAS": RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "no engine, by heuristics": RuntimeError(
        "GET was unable to find an engine to execute this computation"
    ),
    "no engine, by benchmark": RuntimeError(
        "FIND was unable to find an engine to execute this computation after trying 4 plans."
    ),
}
"""Messages of torch: `CUDAException.cpp`, `CUDABlas.cpp`, `Exceptions.h` and `Conv_v8.cpp`."""


@pytest.mark.parametrize("library", _LIBRARY_ERRORS)
def test_cuda_libraries_out_of_memory_are_no_fault_of_the_network(
    library: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = _LIBRARY_ERRORS[library]
    halved = run_limited(monkeypatch, context, most=32, error=error)
    assert (halved.state, halved.environment["micro_batch"]) == ("done", 32)
    failed = run_limited(monkeypatch, replace(context, folder=None), most=31, error=error)
    assert failed.state == "failed"
    assert str(failed.reason).startswith("out of memory on cpu with batch size 64, and in two")
    assert ("cuDNN does not support" in str(failed.reason)) == ("engine" in library)


def test_no_record_mixes_whole_and_half_batches(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 192 // 64
    late = run_limited(monkeypatch, context, most=32, after=2 * steps + 1)
    early = run_limited(monkeypatch, context, most=32)
    whole = run_limited(monkeypatch, context, most=64)
    without = ("seconds",)
    curves = [
        [{k: v for k, v in row.items() if k not in without} for row in record.curve]
        for record in (late, early, whole)
    ]
    assert curves[0] == curves[1] != curves[2]


def test_an_interrupted_trial_with_half_batches_resumes_with_them(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_key: str, row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_limited(monkeypatch, replace(context, on_epoch=interrupt), most=32)
    seen: list[float] = []
    resumed = replace(context, on_epoch=lambda _, row: seen.append(row["epoch"]))
    record = run_limited(monkeypatch, resumed, most=32)
    assert seen == [3]
    assert record.environment["micro_batch"] == 32


class Shared(nn.Module):
    """A network on a device with memory for the training of `most` networks, by their count."""

    alive = 0

    def __init__(self, most: int) -> None:
        super().__init__()
        self.inner, self.most = Network(SUBJECT, 1, 10), most
        Shared.alive += 1
        weakref.finalize(self, Shared.forget)

    @staticmethod
    def forget() -> None:
        Shared.alive -= 1

    def forward(self, x: Tensor) -> Tensor:
        if self.training and Shared.alive > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.inner(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("most", [1, 2])
def test_without_memory_for_all_seeds_fewer_are_trained_at_a_time(
    most: int, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = job(batch_size=64).model_copy(update={"seeds": (0, 1, 2, 3)})
    monkeypatch.setattr(trial_run, "initialize", lambda network, _: reset(network))
    monkeypatch.setattr(trial_run, "build_network", lambda *_: Shared(4))
    alone = run_job(requested, replace(context, folder=None))
    gc.collect()
    assert Shared.alive == 0
    monkeypatch.setattr(trial_run, "build_network", lambda *_: Shared(most))
    records = run_job(requested, replace(context, lanes=3))
    assert [record.state for record in records] == ["done"] * 4
    assert not any("micro_batch" in record.environment for record in records)
    assert [record.metrics for record in records] == [record.metrics for record in alone]


def test_a_single_image_cannot_be_halved(
    few_digits: Splits, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {f"{part}_{axis}": getattr(few_digits, f"{part}_{axis}")[:1] for part, axis in _AXES}
    monkeypatch.setattr(trial_run, "build_network", lambda *_: Limited(0, 0))
    (record,) = run_job(job(batch_size=1), replace(context, splits=replace(few_digits, **one)))
    assert record.reason == "out of memory on cpu with batch size 1"


_AXES = [("train", "x"), ("train", "y")]


def test_out_of_memory_on_a_cpu_is_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as other:
        torch.empty(2) @ torch.empty(3)
    assert not is_out_of_memory(other.value)


LIMITED = """
import os, resource
import torch
from partialnas.runs.trials.context import Context
from partialnas.runs.records.job import Job
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.trials.trial import run_job
from partialnas.space.arch.plan import Plan

torch.set_num_threads(1)
torch.backends.mkldnn.enabled = False  # it does not recover from a lack of memory
subject = Plan(width=32, depths=(1, 1, 1, 1), stem_stride=1, head_width=16).architecture()
task = resolve_task("digits")

def trained(batch_size):
    recipe = Recipe(batch_size=batch_size)
    (record,) = run_job(Job(subject=subject, task=task, recipe=recipe, fidelity=1, seeds=(0,)),
                          Context())
    return f"{record.state} {record.environment.get('micro_batch')} {record.reason}"

def address_space(word):
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(word))

def in_another_process(work):
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, str(work()).encode())
        os._exit(0)
    os.wait()
    return os.read(reading, 10_000).decode()

def needed(batch_size):
    return int(in_another_process(lambda: (trained(batch_size), address_space("VmPeak"))[1]))

def with_at_most(size):
    def work():
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
        return trained(1024)
    return in_another_process(work)

trained(32)  # loads the libraries
start, halved, whole = address_space("VmSize"), needed(512), needed(1024)
print(with_at_most((start + halved) // 2))
print(with_at_most((halved + whole) // 2))
print(with_at_most(2 * whole - halved))
"""


@pytest.mark.slow
def test_with_more_memory_a_training_fails_then_uses_half_batches_then_fits() -> None:
    lines = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    failed = "failed 512 out of memory on cpu with batch size 1024, and in two parts of 512"
    assert lines == [failed, "done 512 None", "done None None"]
