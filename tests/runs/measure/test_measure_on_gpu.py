"""Measuring on a GPU, with a stand-in for torch.cuda."""

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.devices import cuda_graph
from partialnas.runs.devices.device_lock import exclusive_access
from partialnas.runs.measure import measure as measure_module
from partialnas.runs.measure import prepared_model
from partialnas.runs.measure.measure import check_measurable, measure
from partialnas.runs.records.measurement import Measurement
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import DeviceFaultError, MachineError, UserError
from tests.fake_nvml import FakeNvml, Gpu, InstallNvml
from tests.support.fake_cuda import WORKSPACE_BYTES, FakeCuda, install_fake_cuda

TASK = Task(data="digits", resolution=8, channels=1, classes=10)
SETTINGS: dict[str, Any] = {"batch_size": 4, "max_seconds": 0.2, "form": "training"}
GPU = Protocol(device="cuda", **SETTINGS)
CPU = Protocol(**SETTINGS)


def architecture(name: str, width: int, **plan: Any) -> Architecture:
    depths = (1, 1, 1, 1)
    return Plan(name=name, width=width, depths=depths, stem_stride=1, **plan).architecture()


REFERENCE, WIDE = architecture("reference", 4), architecture("wide", 8)
INPUT_DEPENDENT = architecture("by input", 8, ratio={"learned": {"budget": "1/2", "per": "input"}})


class Layer(torch.nn.Module):
    """A network of one layer that calls a function in each pass."""

    def __init__(self, act: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.act(x)
        out: torch.Tensor = self.layer(x.flatten(1))
        return out


@pytest.fixture(autouse=True)
def temporary_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(measure_module, "_KEPT_REFERENCE", {})
    monkeypatch.setattr(cuda_graph, "side_stream", cache(cuda_graph.side_stream.__wrapped__))
    return install_fake_cuda(monkeypatch)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that replaces every network by one that calls a function."""

    def replace(act: Callable[[torch.Tensor], object]) -> None:
        monkeypatch.setattr(prepared_model, "build_network", lambda *_: Layer(act))

    return replace


def is_held(device: str) -> bool:
    """Return whether a measurement holds the device alone."""
    try:
        with exclusive_access(device, timeout_s=0):
            return False
    except MachineError:
        return True


# ---------------------------------------------------------------- the exclusive lane


@pytest.mark.parametrize("protocol", [CPU, GPU], ids=["cpu", "cuda"])
@pytest.mark.usefixtures("cuda")
def test_every_pass_holds_the_device_alone(
    protocol: Protocol, network: Callable[..., None]
) -> None:
    held: list[bool] = []
    network(lambda _: held.append(is_held(protocol.device)))
    measure(WIDE, TASK, protocol, REFERENCE)
    assert held
    assert all(held)


@pytest.mark.usefixtures("cuda")
def test_networks_are_built_without_holding_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    build = prepared_model.build_network

    def building(*arguments: Any) -> torch.nn.Module:
        held.append(is_held("cuda"))
        return build(*arguments)

    monkeypatch.setattr(prepared_model, "build_network", building)
    measure(WIDE, TASK, GPU, REFERENCE)
    assert held == [False, False]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the networks that have been built, in order."""
    names: list[str] = []
    build = prepared_model.build_network

    def building(subject: Architecture, *others: Any) -> torch.nn.Module:
        names.append(subject.name)
        return build(subject, *others)

    monkeypatch.setattr(prepared_model, "build_network", building)
    return names


def test_on_a_cpu_a_process_keeps_no_reference(built: list[str]) -> None:
    for _ in range(2):
        measure(WIDE, TASK, CPU, REFERENCE)
    assert built == ["reference", "wide"] * 2


@pytest.mark.usefixtures("cuda")
def test_on_a_gpu_a_process_prepares_the_reference_once(built: list[str]) -> None:
    first, second = (measure(WIDE, TASK, GPU, REFERENCE) for _ in range(2))
    assert built == ["reference", "wide", "wide"]
    assert first.peak_memory_bytes == second.peak_memory_bytes
    measure(WIDE, TASK, GPU.model_copy(update={"batch_size": 2}), REFERENCE)
    assert built[3:] == ["reference", "wide"]


# ---------------------------------------------------------------- eager and captured


def test_networks_are_captured_by_default(cuda: FakeCuda) -> None:
    result = measure(WIDE, TASK, GPU, REFERENCE)
    assert (result.runtime, result.device_kind) == ("cuda_graph", "cuda")
    assert cuda.replays


@pytest.mark.parametrize("subject", [WIDE, INPUT_DEPENDENT], ids=["reads a result", "by input"])
def test_what_cannot_be_captured_is_known_before(
    subject: Architecture, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = prepared_model.build_network

    def building(built: Architecture, *others: Any) -> torch.nn.Module:
        return Layer(lambda x: x.sum().item()) if built is WIDE else build(built, *others)

    monkeypatch.setattr(prepared_model, "build_network", building)
    result = measure(subject, TASK, GPU, REFERENCE)
    assert (result.runtime, cuda.capturing, cuda.sync_mode) == ("eager", False, 0)
    assert cuda.current is cuda.default
    with pytest.raises(UserError, match=r"cannot be captured.*runtime eager"):
        measure(subject, TASK, GPU.model_copy(update={"runtime": "cuda_graph"}), REFERENCE)


def test_a_failed_capture_is_a_fault_of_the_device(cuda: FakeCuda) -> None:
    cuda.failure = torch.AcceleratorError("CUDA error: capture invalidated")
    with pytest.raises(DeviceFaultError, match="capture"):
        measure(WIDE, TASK, GPU, REFERENCE)


def test_a_capture_without_memory_is_a_lack_of_memory(cuda: FakeCuda) -> None:
    cuda.failure = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(MachineError, match="memory") as caught:
        measure(WIDE, TASK, GPU, REFERENCE)
    assert not isinstance(caught.value, DeviceFaultError)


def test_a_process_captures_on_one_stream(cuda: FakeCuda) -> None:
    for subject in (WIDE, REFERENCE, WIDE):
        measure(subject, TASK, GPU, REFERENCE)
    assert len(cuda.streams) <= 1
    assert len({stream for _, stream in cuda.captures}) == 1


@pytest.mark.usefixtures("cuda")
def test_peak_memory_leaves_out_what_libraries_keep() -> None:
    first, second = (measure(WIDE, TASK, GPU).peak_memory_bytes for _ in range(2))
    assert first == second
    assert first is not None
    assert first < WORKSPACE_BYTES


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("run", [measure, check_measurable])
@pytest.mark.usefixtures("cuda")
def test_a_fault_of_the_device_is_no_error_of_the_network(
    run: Callable[..., Measurement | None], network: Callable[..., None]
) -> None:
    def fail(_: torch.Tensor) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    network(fail)
    with pytest.raises(DeviceFaultError, match="device-side assert"):
        run(WIDE, TASK, GPU)


def test_an_error_of_the_reference_names_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    def fail_when_timed(_: torch.Tensor) -> None:
        passes.append(1)
        if len(passes) > 1:
            raise RuntimeError("no kernel")

    def building(subject: Architecture, *_: Any) -> torch.nn.Module:
        return Layer(fail_when_timed if subject is REFERENCE else lambda x: x)

    monkeypatch.setattr(prepared_model, "build_network", building)
    with pytest.raises(UserError, match="reference cannot run on"):
        measure(WIDE, TASK, CPU, REFERENCE)


# ---------------------------------------------------------------- inputs in turn


@pytest.mark.parametrize("runtime", ["eager", "cuda_graph"])
@pytest.mark.parametrize(("batch_size", "expected"), [(4, 16), (32, 7), (512, 2)])
def test_passes_take_turns_at_inputs_that_exceed_the_cache(
    runtime: str, batch_size: int, expected: int, cuda: FakeCuda, network: Callable[..., None]
) -> None:
    cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    seen: list[int] = []
    network(lambda x: seen.append(x.data_ptr()))
    protocol = GPU.model_copy(update={"runtime": runtime, "batch_size": batch_size})
    result = measure(WIDE, TASK, protocol)
    order = cuda.replays if runtime == "cuda_graph" else seen[-4 * expected :]
    assert result.inputs == expected
    assert len({id(graph) for graph, _ in cuda.captures}) in (0, expected)
    assert len(set(order)) == expected
    assert all(a != b for a, b in pairwise(order))
    assert expected == 16 or expected * batch_size * 256 > cache_bytes
    pools = {id(graph.pool()) for graph, _ in cuda.captures}
    assert len(pools) <= 1, "graphs of one network share their memory"


def test_on_a_cpu_every_pass_has_the_same_input(network: Callable[..., None]) -> None:
    seen: set[int] = set()
    network(lambda x: seen.add(x.data_ptr()))
    measure(WIDE, TASK, CPU)
    assert len(seen) == 1


@pytest.mark.usefixtures("cuda")
def test_further_inputs_do_not_count_as_memory_of_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = measure(WIDE, TASK, GPU)
    properties = torch.cuda.get_device_properties(0)
    monkeypatch.setattr(properties, "L2_cache_size", 1)
    few = measure(WIDE, TASK, GPU)
    assert (many.inputs, few.inputs) == (16, 2)
    assert many.peak_memory_bytes == few.peak_memory_bytes


# ---------------------------------------------------------------- what a measurement records


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("precision", "tf32"), [("float32", "off"), ("tfloat32", "on")])
def test_measurements_state_whether_tf32_was_on(
    precision: str, tf32: str, network: Callable[..., None]
) -> None:
    seen: set[str] = set()
    network(lambda _: seen.add(torch.backends.cudnn.conv.fp32_precision))
    result = measure(WIDE, TASK, GPU.model_copy(update={"precision": precision}))
    assert (result.precision, result.environment["tf32"]) == (precision, tf32)
    assert seen == {"tf32" if tf32 == "on" else "ieee"}


@pytest.mark.usefixtures("cuda")
def test_measurements_record_clock_power_and_throttling(install_nvml: InstallNvml) -> None:
    nvml = FakeNvml([Gpu("GPU-1")])
    nvml.clock_mhz, nvml.power_mw = 1410, 690_000
    nvml.reasons = nvml.nvmlClocksEventReasonSwThermalSlowdown
    install_nvml(nvml)
    result = measure(WIDE, TASK, GPU)
    assert (result.sm_clock_mhz, result.power_w, result.tainted) == (1410, 690, None)
    assert "throttled (thermal slowdown), other processes unknown" in result.marks_text
    assert result.num_marks >= 1
