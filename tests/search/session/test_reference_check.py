"""The check of the reference network: in a worker of Ray if it needs a GPU, else in the driver."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.task import Task
from partialnas.runs.devices import device
from partialnas.runs.measure import measure
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import Subject, TimmModel
from partialnas.runs.system.seeding import kernel_selection
from partialnas.runs.trials.context import Context
from partialnas.search.executors.base import END, WAIT, End, InProcess, ItemResult, Wait
from partialnas.search.executors.tasks import Item, ReferenceCheck, TaskRunner
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.resolve.resources import Resources
from partialnas.search.session.feed_wrappers import ReferenceCheckFeed
from partialnas.search.session.run_study import _task_runner, _worker_check
from partialnas.search.study.study import Study
from partialnas.space.errors import MachineError, UserError

TASK = Task(data="digits", resolution=8, channels=1, classes=10)
GPU = Protocol(device="cuda", batch_size=64, precision="float16")


def resolved(kind: str, device: str) -> ResolvedStudy:
    settings: dict[str, Any] = {
        "study": "checked",
        "task": {"data": "digits"},
        "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
        "arms": {"resnet": "timm:test_resnet"},
        "measure": {"device": device, "batch_size": 64},
        "executor": {"kind": kind},
    }
    return resolve_study(Study.model_validate(settings), Path())


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Protocol]:
    """The protocols by which a reference is checked, in place of the checks."""
    protocols: list[Protocol] = []

    def check(_subject: Subject, _task: Task, protocol: Protocol) -> None:
        protocols.append(protocol)

    monkeypatch.setattr(measure, "check_measurable", check)
    return protocols


@pytest.mark.parametrize(
    ("kind", "measured_on", "checked_on", "worker_checks"),
    [
        ("ray", "cuda", ("cpu", 2), True),
        ("in-process", "cuda", ("cuda", 64), False),
        ("ray", "cpu", ("cpu", 64), False),
    ],
)
def test_the_driver_leaves_the_gpu_to_the_workers_of_ray(
    checks: list[Protocol],
    kind: str,
    measured_on: str,
    checked_on: tuple[str, int],
    worker_checks: bool,
) -> None:
    study = resolved(kind, measured_on)
    _task_runner(study, Resources("cuda", 1, 1, 1.0), Path(), None)
    assert [(protocol.device, protocol.batch_size) for protocol in checks] == [checked_on]
    item = _worker_check(study)
    assert (item is not None) == worker_checks
    if item is not None:
        condition = study.conditions[0]
        assert item.settings == ((condition.task, condition.protocol),)


@pytest.mark.parametrize(("share", "limits"), [(1.0, []), (0.25, [("cuda", 0.25)])])
def test_a_worker_that_shares_a_gpu_limits_its_memory(
    checks: list[Protocol],
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    limits: list[tuple[str, float]],
) -> None:
    calls: list[tuple[str, float]] = []
    monkeypatch.setattr(device, "limit_memory", lambda *arguments: calls.append(arguments))
    study, context = resolved("ray", "cuda"), Context(device="cuda", gpu_share=share)
    TaskRunner(context, splits={}, reference=study.reference)(check_item())
    assert (calls, checks) == (limits, [GPU])


def test_a_worker_that_has_measured_can_train_with_deterministic_kernels(
    checks: list[Protocol], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    started: list[bool] = []

    def start_cuda(*_: object) -> None:
        started.append("CUBLAS_WORKSPACE_CONFIG" in os.environ)

    monkeypatch.setattr(device, "limit_memory", start_cuda)
    study, context = resolved("ray", "cuda"), Context(device="cuda", gpu_share=0.25)
    TaskRunner(context, splits={}, reference=study.reference)(check_item())
    assert (started, checks) == ([True], [GPU])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with kernel_selection(torch.device("cuda"), deterministic=True, cudnn_benchmark=False):
        pass


def check_item() -> ReferenceCheck:
    return ReferenceCheck(settings=((TASK, GPU),))


def job(name: str) -> Job:
    subject, recipe = TimmModel(timm=name), RECIPES["short"]
    return Job(subject=subject, task=TASK, recipe=recipe, fidelity=1, seeds=(0,))


class Jobs:
    """A feed of two jobs that stores their results."""

    def __init__(self) -> None:
        self.todo = [job("a"), job("b")]
        self.results: list[tuple[Item, ItemResult]] = []

    def ask(self) -> Item | Wait | End:
        return self.todo.pop(0) if self.todo else END

    def tell(self, item: Item, outcome: ItemResult) -> None:
        self.results.append((item, outcome))


def test_a_worker_checks_the_reference_by_the_protocol(checks: list[Protocol]) -> None:
    study = resolved("ray", "cuda")
    work = TaskRunner(Context(), splits={}, reference=study.reference)
    assert work(check_item()) == ItemResult()
    assert checks == [GPU]


def test_nothing_else_runs_before_the_check_has_succeeded() -> None:
    jobs = Jobs()
    feed = ReferenceCheckFeed(jobs, check_item())
    check = feed.ask()
    assert check == check_item()
    assert feed.ask() is WAIT
    assert isinstance(check, ReferenceCheck)
    feed.tell(check, ItemResult())
    assert feed.ask() == job("a")
    feed.tell(job("a"), ItemResult())
    assert [feed.ask(), feed.ask()] == [job("b"), END]
    assert jobs.results == [(job("a"), ItemResult())]


def test_without_a_check_the_feed_is_the_same() -> None:
    assert ReferenceCheckFeed(Jobs(), None).ask() == job("a")


def test_a_reference_that_breaks_the_device_ends_the_run() -> None:
    feed = ReferenceCheckFeed(Jobs(), check_item())
    feed.ask()
    with pytest.raises(MachineError, match="reference network cannot be measured: device fault: x"):
        feed.tell(check_item(), ItemResult(reason="device fault: x"))


def test_a_reference_that_cannot_be_measured_ends_the_run() -> None:
    def work(item: Item | ReferenceCheck) -> ItemResult:
        assert isinstance(item, ReferenceCheck)
        raise UserError("the reference cannot run on 64 images")

    jobs = Jobs()
    with pytest.raises(UserError, match="cannot run on 64 images"):
        InProcess().run(ReferenceCheckFeed(jobs, check_item()), work)
    assert len(jobs.todo) == 2
