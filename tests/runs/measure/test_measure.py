import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.measure import prepared_model as entrant
from partialnas.runs.measure.fuse_timm import UnfusableError
from partialnas.runs.measure.measure import measure, measure_many
from partialnas.runs.measure.timing_stats import MIN_VALUES
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import TimmModel, subject_digest
from partialnas.runs.system.device_lock import shared_access
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
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's lock is then this test's alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    """A wide network beside a narrow one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))
        return measure(WIDE, TASK, QUICK, REFERENCE)


def assert_fits_together(found: Measurement) -> None:
    assert found.relative_throughput is not None
    assert found.reference_throughput_img_s is not None
    expected = found.relative_throughput * found.reference_throughput_img_s
    assert found.throughput_img_s == pytest.approx(expected)
    assert found.latency_ms * found.throughput_img_s == pytest.approx(1000 * found.batch_size)


def test_a_network_that_does_more_is_slower(beside: Measurement) -> None:
    assert beside.relative_throughput is not None
    assert beside.relative_low is not None
    assert beside.relative_high is not None
    assert beside.relative_low <= beside.relative_throughput <= beside.relative_high < 0.6
    assert_fits_together(beside)


def test_it_says_what_was_measured_and_where(beside: Measurement) -> None:
    said = beside.model_dump()
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
    assert {key: said[key] for key in expected} == expected
    assert beside.rounds >= MIN_VALUES
    assert beside.load >= 0
    taken = datetime.fromisoformat(beside.taken)
    assert timedelta(0) <= datetime.now(UTC) - taken < timedelta(minutes=30)


def test_a_reference_beside_itself_is_as_fast_as_itself() -> None:
    renamed = REFERENCE.model_copy(update={"name": "renamed"})
    found = measure(renamed, TASK, QUICK, REFERENCE)
    assert (found.relative_low, found.relative_throughput, found.relative_high) == (1.0, 1.0, 1.0)
    assert found.throughput_img_s == found.reference_throughput_img_s
    assert (found.name, found.reference_name) == ("renamed", "reference")
    assert_fits_together(found)


def test_without_a_reference_there_is_nothing_relative() -> None:
    found = measure(REFERENCE, TASK, QUICK)
    relative = found.model_dump(include={key for key in Measurement.model_fields if "rel" in key})
    references = found.model_dump(include={k for k in Measurement.model_fields if "reference" in k})
    assert set(relative.values()) | set(references.values()) == {None}
    assert found.latency_ms * found.throughput_img_s == pytest.approx(16_000)


def test_several_networks_are_on_one_scale() -> None:
    protocol = QUICK.model_copy(update={"max_seconds": 0.2})
    subjects = [REFERENCE, WIDE, architecture("middle", 16)]
    found = list(measure_many(subjects, TASK, protocol, REFERENCE))
    assert [each.name for each in found] == ["reference", "wide", "middle"]
    assert len({each.reference_throughput_img_s for each in found}) == 1
    for each in found:
        assert_fits_together(each)


def test_time_that_is_up_leaves_a_noisy_measurement() -> None:
    found = measure(WIDE, TASK, QUICK.model_copy(update={"max_seconds": 1e-6}), REFERENCE)
    assert found.rounds == 1
    assert found.noisy
    assert_fits_together(found)


def test_torch_is_left_as_it_was() -> None:
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
    """Stands in for a network and notes what it is shown."""

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


def test_the_protocol_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy()
    monkeypatch.setattr(entrant, "build", lambda *_: spy)
    protocol = QUICK.model_copy(
        update={"threads": 2, "batch_size": 3, "precision": "bfloat16", "form": "training"}
    )
    found = measure(REFERENCE, TASK, protocol)
    assert spy.seen == {
        "shape": (3, 1, 8, 8),
        "dtype": torch.bfloat16,
        "threads": 2,
        "training": False,
        "inference": True,
        "channels_last": True,
    }
    assert (found.threads, found.precision, found.form) == (2, "bfloat16", "training")


def test_deploy_means_without_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    forward = torch.nn.BatchNorm2d.forward

    def noting(self: torch.nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
        ran.append("norm")
        return forward(self, x)

    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", noting)
    channel = architecture("channel", 8, attention={"channel": "stages 1-4"})
    protocol = QUICK.model_copy(update={"max_seconds": 0.1})
    assert measure(channel, TASK, protocol).form == "deploy"
    assert not ran
    training = protocol.model_copy(update={"form": "training"})
    assert measure(channel, TASK, training).form == "training"
    assert ran


def test_a_timm_model_is_measured_beside_ours() -> None:
    model = TimmModel(timm="mobilenetv3_small_050")
    protocol = QUICK.model_copy(update={"max_seconds": 0.5})
    found = measure(model, PHOTOS, protocol, preset("fasternet_t0"))
    assert (found.name, found.digest) == ("timm:mobilenetv3_small_050", subject_digest(model))
    assert found.form == "deploy"
    assert_fits_together(found)


def test_a_form_that_cannot_be_had_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> torch.nn.Module:
        raise UnfusableError("cannot be traced")

    monkeypatch.setattr(entrant, "fused", refusing)
    protocol = QUICK.model_copy(update={"max_seconds": 0.1})
    found = measure(TimmModel(timm="mobilenetv3_small_050"), PHOTOS, protocol, REFERENCE)
    assert (found.form, found.reference_form) == ("training", "deploy")


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


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(UserError, match="32x32"):
        measure(preset("fasternet_t0"), TASK, QUICK)
    with pytest.raises(UserError, match="timm:fasternet_t0 cannot run on 16 images of 1x8x8"):
        measure(TimmModel(timm="fasternet_t0"), TASK, QUICK)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_too_little_memory_is_the_machines_fault(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> torch.nn.Module:
        raise error

    monkeypatch.setattr(entrant, "build", failing)
    with pytest.raises(MachineError, match="smaller batch_size"):
        measure(REFERENCE, TASK, QUICK)


@pytest.mark.parametrize("count", [0, 2])
def test_a_device_that_is_not_there_is_told(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(MachineError, match=f"no cuda:7 on this machine, torch sees {count} CUDA"):
        measure(REFERENCE, TASK, Protocol(device="cuda:7"))


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    protocol = Protocol(device="cuda", batch_size=64, max_seconds=10)
    found = measure(WIDE, PHOTOS, protocol, REFERENCE)
    assert found.device == torch.cuda.get_device_name(0)
    assert (found.device_kind, found.runtime) == ("cuda", "cuda_graph")
    assert found.peak_memory_bytes is not None
    assert found.peak_memory_bytes > 64 * 3 * 32 * 32 * 4
    assert_fits_together(found)


@pytest.mark.slow
def test_compiled_networks_are_measured_as_such() -> None:
    protocol = QUICK.model_copy(update={"runtime": "compiled", "max_seconds": 0.5})
    found = [*measure_many([WIDE, architecture("narrow", 4)], TASK, protocol, REFERENCE)]
    assert [each.runtime for each in found] == ["compiled", "compiled"]
    for each in found:
        assert_fits_together(each)


@pytest.mark.slow
def test_what_cannot_be_compiled_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    monkeypatch.setattr(entrant, "build", lambda *_: Branching())
    protocol = QUICK.model_copy(update={"runtime": "compiled", "form": "training"})
    with pytest.raises(UserError, match="reference cannot be compiled as a whole"):
        measure(REFERENCE, TASK, protocol)
