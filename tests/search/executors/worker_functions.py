"""Items, a feed, and work that misbehaves, for tests of executors; importable in workers."""

import ctypes
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import TimmModel
from partialnas.search.executors.base import END, End, ItemResult, Wait, failed_result
from partialnas.space.errors import DeviceFaultError, MachineError, UserError
from partialnas.space.values import Value

TASK = Task(data="digits", resolution=8, channels=1, classes=10)


class Timing(Value):
    """An item that is not a job."""

    network: str


Item = Job | Timing


def job(name: str, seeds: tuple[int, ...] = (0,), epochs: int = 1) -> Job:
    subject, recipe = TimmModel(timm=name), RECIPES["short"]
    return Job(subject=subject, task=TASK, recipe=recipe, fidelity=epochs, seeds=seeds)


def name_of(item: Item) -> str:
    if isinstance(item, Timing):
        return item.network
    assert isinstance(item.subject, TimmModel)
    return item.subject.timm


@dataclass
class Listed:
    """A feed of named jobs that stores their results."""

    todo: list[str]
    results: list[tuple[str, ItemResult]] = field(default_factory=list)

    def ask(self) -> Item | Wait | End:
        if not self.todo:
            return END
        name = self.todo.pop(0)
        return Timing(network=name) if name.startswith("timing") else job(name)

    def tell(self, item: Item, outcome: ItemResult) -> None:
        self.results.append((name_of(item), outcome))

    def reason(self, name: str) -> str:
        (outcome,) = (outcome for item, outcome in self.results if item == name)
        (record,) = outcome.records
        return f"{record.state}: {record.reason}"


def work(item: Item) -> ItemResult:
    """Work that raises what the item's name says."""
    if isinstance(item, Timing):
        raise OSError("no such clock")
    name = name_of(item)
    if name == "bad":
        raise ZeroDivisionError("of the network")
    if name == "user":
        raise UserError("no such data set")
    if name == "machine":
        raise MachineError("no such device")
    return failed_result(item, f"worked on {name}", "done")


@dataclass(frozen=True)
class Faulty:
    """Work that behaves as the item's name says; `images` is too large for a message."""

    folder: Path
    images: npt.NDArray[np.uint8]

    def __call__(self, item: Item) -> ItemResult:
        name = name_of(item)
        with (self.folder / "starts").open("a") as starts:
            starts.write(f"{name} {os.getpid()} {self.images.flags.writeable}\n")
        if name.startswith("timing"):
            raise OSError("no such clock")
        if name == "raises":
            raise ArithmeticError("as asked")
        if name == "leaves":
            raise SystemExit(3)
        if name == "always_dies":
            os._exit(3)
        if name == "dies_once" and self._starts(name) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "ended_once" and self._starts(name) == 1:
            os.kill(os.getpid(), signal.SIGTERM)  # as when a machine is preempted
            time.sleep(600)
        if name == "hangs":
            ctypes.PyDLL(None).sleep(600)  # keeps the interpreter's lock: no thread can run
        time.sleep(0.05)
        return failed_result(item, f"{self.images.nbytes} bytes", "done")

    def _starts(self, name: str) -> int:
        return (self.folder / "starts").read_text().count(name)


def process_id_or_fault(item: Item) -> ItemResult:
    """Return the worker's process id, or raise a fault of its device if the item's name says so."""
    if "fault" in name_of(item):
        raise DeviceFaultError("cuda", "device-side assert triggered")
    return process_id(item)


def process_id(item: Item) -> ItemResult:
    """Return the worker's process id, or raise what the item's name says."""
    work(item)
    return failed_result(item, str(os.getpid()), "done")


def settings_of_gpu(item: Item) -> ItemResult:
    """Return the GPUs that the worker sees, and the settings of its allocator."""
    names = "CUDA_VISIBLE_DEVICES", "PYTORCH_ALLOC_CONF"
    return failed_result(item, " ".join(os.environ.get(name, "none") for name in names), "done")


class Deadly:
    """Work that exits every process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os._exit, (3,))

    def __call__(self, item: Item) -> ItemResult:
        return work(item)


class Unloadable:
    """Work from a module that workers do not have."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (__import__, ("a_module_that_is_nowhere",))

    def __call__(self, item: Item) -> ItemResult:
        return work(item)


@dataclass(frozen=True)
class OnTwoNodes:
    """Work that writes its node, waits for the other node, and then sleeps."""

    folder: Path

    def __call__(self, item: Item) -> ItemResult:
        import ray

        node = ray.get_runtime_context().get_node_id()
        with (self.folder / "starts").open("a") as starts:
            starts.write(f"{name_of(item)} {node}\n")
        while len(set(column(self.folder / "starts", 1))) < 2:
            time.sleep(0.1)
        time.sleep(2)
        return failed_result(item, node, "done")


@dataclass(frozen=True)
class Sleeping:
    """Work that sleeps after the first items."""

    folder: Path
    quick: int

    def __call__(self, item: Item) -> ItemResult:
        with (self.folder / "started").open("a") as file:
            file.write("started\n")
        started = len((self.folder / "started").read_text().splitlines())
        time.sleep(600 if started > self.quick else 0)
        return work(item)


def column(path: Path, number: int) -> list[str]:
    return [line.split()[number] for line in path.read_text().splitlines()]
