import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.devices.device_lock import shared_access
from partialnas.runs.measure import prepared_model
from partialnas.runs.measure.fuse_timm import UnfusableError
from partialnas.runs.measure.measure import measure, measure_many
from partialnas.runs.measure.timing_stats import MIN_VALUES
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import TimmModel, subject_digest
from partialnas.runs.system.environment import environment
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import preset
from partialnas.space.errors import MachineError, UserError

TASK = Task(data="digits", resolution=8, channels=1, classes=10)
PHOTOS = Task(data="folder:/photos", resolution=32, channels=3, classes=10)
QUICK = Protocol(batch_size=16, max_seconds=5, target_half_width=0.3)


def architecture(name: str, width: int, **plan: Any) -> Architecture:
    depths = (1, 1, 1, 1)
    return Plan(name=name, width=width, depths=depths, stem_stride=1, **plan).architecture()


REFERENCE = architecture("reference", 8)
WIDE = architecture("wide", 64)


@pytest.fixture(autouse=True)
def temporary_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a device lock of its own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture(scope="module")
def measurement(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    """Return a measurement of a wide network relative to a narrow one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))
        return measure(WIDE, TASK, QUICK, REFERENCE)


def assert_consistent(result: Measurement) -> None:
    assert result.relative_throughput is not None
    assert result.reference_throughput_img_s is not None
    expected = result.relative_throughput * result.reference_throughput_img_s
    assert result.throughput_img_s == pytest.approx(expected)
    assert result.latency_ms * result.throughput_img_s == pytest.approx(1000 * result.batch_size)


def test_a_larger_network_is_slower(measurement: Measurement) -> None:
    assert measurement.relative_throughput is not None
    assert measurement.relative_low is not None
    assert measurement.relative_high is not None
    assert (
        measurement.relative_low
        <= measurement.relative_throughput
        <= measurement.relative_high
        < 0.6
    )
    assert_consistent(measurement)


def test_a_measurement_records_its_conditions(measurement: Measurement) -> None:
    fields = measurement.model_dump()
    expected = {
        "digest": WIDE.digest,
        "name": "wide",
        "reference_digest": REFERENCE.digest,
        "reference_name": "reference",
        "reference_form": "deploy",
        "device": "cpu",
        "device_kind": "cpu",
        "threads": 1,
        "batch_size": 16,
        "resolution": 8,
        "in_chans": 1,
        "precision": "float32",
        "form": "deploy",
        "runtime": "eager",
        "peak_memory_bytes": None,
        "environment": environment(),
    }
    assert {key: fields[key] for key in expected} == expected
    assert measurement.rounds >= MIN_VALUES
    assert measurement.load >= 0
    taken = datetime.fromisoformat(measurement.taken)
    assert timedelta(0) <= datetime.now(UTC) - taken < timedelta(minutes=30)


def test_the_relative_throughput_of_the_reference_is_one() -> None:
    renamed = REFERENCE.model_copy(update={"name": "renamed"})
    result = measure(renamed, TASK, QUICK, REFERENCE)
    assert (result.relative_low, result.relative_throughput, result.relative_high) == (
        1.0,
        1.0,
        1.0,
    )
    assert result.throughput_img_s == result.reference_throughput_img_s
    assert (result.name, result.reference_name) == ("renamed", "reference")
    assert_consistent(result)


def test_without_a_reference_relative_fields_are_none() -> None:
    result = measure(REFERENCE, TASK, QUICK)
    relative = result.model_dump(include={key for key in Measurement.model_fields if "rel" in key})
    references = result.model_dump(
        include={k for k in Measurement.model_fields if "reference" in k}
    )
    assert set(relative.values()) | set(references.values()) == {None}
    assert result.latency_ms * result.throughput_img_s == pytest.approx(16_000)


def test_several_networks_share_one_scale() -> None:
    protocol = QUICK.model_copy(update={"max_seconds": 0.2})
    subjects = [REFERENCE, WIDE, architecture("middle", 16)]
    measurements = list(measure_many(subjects, TASK, protocol, REFERENCE))
    assert [m.name for m in measurements] == ["reference", "wide", "middle"]
    assert len({m.reference_throughput_img_s for m in measurements}) == 1
    for m in measurements:
        assert_consistent(m)


def test_a_measurement_cut_short_is_noisy() -> None:
    result = measure(WIDE, TASK, QUICK.model_copy(update={"max_seconds": 1e-6}), REFERENCE)
    assert result.rounds == 1
    assert result.noisy
    assert_consistent(result)


def test_settings_of_torch_are_restored() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = torch.get_rng_state()
        measure(WIDE, TASK, QUICK.model_copy(update={"max_seconds": 0.1}), REFERENCE)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    finally:
        torch.set_num_threads(threads)


class Spy(torch.nn.Module):
    """A network that records its input and the settings of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 10, 8)
        self.seen: dict[str, Any] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = {
            "shape": tuple(x.shape),
            "dtype": x.dtype,
            "threads": torch.get_num_threads(),
            "training": self.training,
            "inference": torch.is_inference_mode_enabled(),
            "channels_last": x.is_contiguous(memory_format=torch.channels_last),
        }
        out: torch.Tensor = self.layer(x)
        return out.flatten(1)


def test_the_protocol_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy()
    monkeypatch.setattr(prepared_model, "build_network", lambda *_: spy)
    protocol = QUICK.model_copy(
        update={"threads": 2, "batch_size": 3, "precision": "bfloat16", "form": "training"}
    )
    result = measure(REFERENCE, TASK, protocol)
    assert spy.seen == {
        "shape": (3, 1, 8, 8),
        "dtype": torch.bfloat16,
        "threads": 2,
        "training": False,
        "inference": True,
        "channels_last": True,
    }
    assert (result.threads, result.precision, result.form) == (2, "bfloat16", "training")


def test_the_deploy_form_has_no_batch_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    batch_norm = functional.batch_norm

    def recording_batch_norm(*arguments: Any) -> torch.Tensor:
        ran.append("norm")
        return batch_norm(*arguments)

    monkeypatch.setattr(functional, "batch_norm", recording_batch_norm)
    channel = architecture("channel", 8, attention={"channel": "stages 1-4"})
    protocol = QUICK.model_copy(update={"max_seconds": 0.1})
    assert measure(channel, TASK, protocol).form == "deploy"
    assert not ran
    training = protocol.model_copy(update={"form": "training"})
    assert measure(channel, TASK, training).form == "training"
    assert ran


def test_a_timm_model_is_measured_relative_to_a_preset() -> None:
    model = TimmModel(timm="mobilenetv3_small_050")
    protocol = QUICK.model_copy(update={"max_seconds": 0.5})
    result = measure(model, PHOTOS, protocol, preset("fasternet_t0"))
    assert (result.name, result.digest) == ("timm:mobilenetv3_small_050", subject_digest(model))
    assert result.form == "deploy"
    assert_consistent(result)


def test_a_network_without_a_deploy_form_is_recorded_in_training_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> torch.nn.Module:
        raise UnfusableError("cannot be traced")

    monkeypatch.setattr(prepared_model, "fuse_model", refuse)
    protocol = QUICK.model_copy(update={"max_seconds": 0.1})
    result = measure(TimmModel(timm="mobilenetv3_small_050"), PHOTOS, protocol, REFERENCE)
    assert (result.form, result.reference_form) == ("training", "deploy")


def test_measuring_waits_for_the_end_of_an_epoch() -> None:
    done = threading.Event()

    def work() -> None:
        measure(REFERENCE, TASK, QUICK.model_copy(update={"max_seconds": 0.1}))
        done.set()

    thread = threading.Thread(target=work)
    with shared_access("cpu"):
        thread.start()
        assert not done.wait(1.0)
    assert done.wait(60)
    thread.join()


def test_too_small_images_are_refused() -> None:
    with pytest.raises(UserError, match="32x32"):
        measure(preset("fasternet_t0"), TASK, QUICK)
    with pytest.raises(UserError, match="timm:fasternet_t0 cannot run on 16 images of 1x8x8"):
        measure(TimmModel(timm="fasternet_t0"), TASK, QUICK)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
        ValueError("wrapped: CUDA out of memory"),
    ],
)
def test_out_of_memory_is_a_machine_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> torch.nn.Module:
        raise error

    monkeypatch.setattr(prepared_model, "build_network", fail)
    with pytest.raises(MachineError, match="smaller batch_size"):
        measure(REFERENCE, TASK, QUICK)


@pytest.mark.parametrize("count", [0, 2])
def test_an_unavailable_device_is_refused(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(
        MachineError, match=rf"no cuda:7 on this machine \(PyTorch finds {count} CUDA"
    ):
        measure(REFERENCE, TASK, Protocol(device="cuda:7"))


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    protocol = Protocol(device="cuda", batch_size=64, max_seconds=10)
    result = measure(WIDE, PHOTOS, protocol, REFERENCE)
    assert result.device == torch.cuda.get_device_name(0)
    assert (result.device_kind, result.runtime) == ("cuda", "cuda_graph")
    assert result.peak_memory_bytes is not None
    assert result.peak_memory_bytes > 64 * 3 * 32 * 32 * 4
    assert_consistent(result)


@pytest.mark.gpu
def test_on_a_gpu_a_network_that_cannot_be_captured_leaves_the_process_intact() -> None:
    protocol = Protocol(device="cuda", batch_size=64, max_seconds=4)
    ratio = {"learned": {"budget": "1/2", "per": "input"}}
    result = measure(architecture("by input", 32, ratio=ratio), PHOTOS, protocol, REFERENCE)
    assert (result.runtime, result.reference_runtime) == ("eager", "cuda_graph")
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.cuda.empty_cache()
    assert measure(WIDE, PHOTOS, protocol).runtime == "cuda_graph"


@pytest.mark.gpu
@pytest.mark.parametrize("batch_size", [1, 256])
def test_on_a_gpu_peak_memory_does_not_depend_on_what_ran_before(batch_size: int) -> None:
    protocol = Protocol(device="cuda", batch_size=batch_size, max_seconds=2)
    alone, beside, again = (
        measure(WIDE, PHOTOS, protocol, reference).peak_memory_bytes
        for reference in (None, REFERENCE, None)
    )
    assert alone is not None
    assert beside == pytest.approx(alone, rel=0.1)
    assert again == pytest.approx(alone, rel=0.1)


@pytest.mark.slow
def test_compiled_networks_are_recorded_as_compiled() -> None:
    protocol = QUICK.model_copy(update={"runtime": "compiled", "max_seconds": 0.5})
    narrow, reference = (
        Architecture(stem_stride=1, stages=of.stages[:1], head_width=16)  # compile for seconds
        for of in (architecture("narrow", 4), REFERENCE)
    )
    measurement = measure(narrow, TASK, protocol, reference)
    assert measurement.runtime == "compiled"
    assert_consistent(measurement)


@pytest.mark.slow
def test_a_network_that_cannot_be_compiled_as_a_whole_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    monkeypatch.setattr(prepared_model, "build_network", lambda *_: Branching())
    protocol = QUICK.model_copy(update={"runtime": "compiled", "form": "training"})
    with pytest.raises(UserError, match="reference cannot be compiled as a whole"):
        measure(REFERENCE, TASK, protocol)
