"""Measurement of the speed of networks, each interleaved with a reference network."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import torch

from partialnas.runs.config.protocol import Protocol, Runtime
from partialnas.runs.datasets.task import Task
from partialnas.runs.devices.contention import watch_cpu
from partialnas.runs.devices.cuda_graph import capture
from partialnas.runs.devices.device import torch_device
from partialnas.runs.devices.device_lock import exclusive_access, shared_access
from partialnas.runs.devices.gpu_monitor import DeviceReport, GpuMonitor
from partialnas.runs.devices.precision import precision_facts
from partialnas.runs.measure.interleaved_timing import (
    MIN_CPU_TIMING_S,
    MIN_GPU_TIMING_S,
    Runner,
    cpu_runner,
    gpu_runner,
    in_turns,
    time_interleaved,
)
from partialnas.runs.measure.prepared_model import (
    PreparedModel,
    TimingInputs,
    TimingModel,
    torch_settings,
    translated_errors,
)
from partialnas.runs.measure.timing_stats import Round, RoundSummary, summarize_rounds
from partialnas.runs.records.measurement import Measurement, rescale
from partialnas.runs.records.subject import Subject, subject_digest, subject_name
from partialnas.runs.system.allocator import keep_freed_memory
from partialnas.runs.system.environment import environment, load_average
from partialnas.space.errors import UserError

_KEPT_REFERENCE: dict[tuple[str, str, Task, Protocol], TimingModel] = {}
"""The reference of this process's last measurement on a GPU: at most one, to spare its preparation.

On a CPU it is cheap to prepare, and every worker would keep a copy.
"""


def measure(
    subject: Subject,
    task: Task,
    protocol: Protocol,
    reference: Subject | None = None,
    trained: TimingInputs | None = None,
) -> Measurement:
    """Measure the speed of a network with random weights on random images.

    Candidate and reference run in the order reference, candidate, candidate, reference; training
    runs cannot use the device meanwhile. `relative_throughput` is the median over these rounds of
    the ratio of their times: CPU time with one thread, wall-clock time with several threads, events
    on a GPU. `throughput_img_s` is that ratio times the reference's median throughput in the same
    rounds. Without a reference, or if the subject is the reference, it is computed from the median
    of the subject's own times. On a CPU it is therefore the throughput on an otherwise idle core.

    The process keeps freed memory from then on (see `keep_freed_memory`), and the reference on a
    GPU for the next measurement; torch's settings and random state are restored.

    Args:
        subject: network to measure.
        task: gives the shape of the images.
        protocol: measurement settings.
        reference: network to compare with, or None for absolute speed only.
        trained: weights and images, for networks with a speed that depends on them.

    Raises:
        UserError: a network cannot be built for the task or cannot run on its images.
        MachineError: the device is unavailable or out of memory.
        DeviceFaultError: the device failed; the process cannot use it any more.
    """
    return next(measure_many([subject], task, protocol, reference, trained))


def measure_many(
    subjects: Iterable[Subject],
    task: Task,
    protocol: Protocol,
    reference: Subject | None = None,
    trained: TimingInputs | None = None,
) -> Iterator[Measurement]:
    """Measure networks one by one as `measure` does, and yield each measurement when it is done.

    All are rescaled to the reference's throughput in the first measurement, so that throughputs
    rank networks as relative throughputs do, even if the machine was slower for some of them.

    Raises:
        UserError: a network cannot be built for the task or cannot run on its images.
        MachineError: the device is unavailable or out of memory.
        DeviceFaultError: the device failed; the process cannot use it any more.
    """
    device = torch_device(protocol.device)
    keep_freed_memory()
    reference_model = None
    if reference is not None:
        reference_model = _reference_model(reference, task, protocol, device, trained)
    scale = None
    for subject in subjects:
        start = perf_counter()
        model = TimingModel(subject, task, protocol, device, trained)
        measurement = _measure(model, reference_model, task, protocol, device, start)
        scale = scale or measurement.reference_throughput_img_s
        yield measurement if scale is None else rescale(measurement, scale)


def check_measurable(subject: Subject, task: Task, protocol: Protocol) -> None:
    """Run a network once by the protocol to check that it can be measured.

    Raises:
        UserError: it cannot be built for the task or cannot run on its images.
        MachineError: the device is unavailable or out of memory.
        DeviceFaultError: the device failed; the process cannot use it any more.
    """
    device = torch_device(protocol.device)
    model = TimingModel(subject, task, protocol, device)
    with shared_access(protocol.device), torch_settings(protocol, device):
        _check_capturable(model.load(), protocol)


def _reference_model(
    reference: Subject,
    task: Task,
    protocol: Protocol,
    device: torch.device,
    trained: TimingInputs | None,
) -> TimingModel:
    """Return the reference; on a GPU it is kept, unless it runs on given images."""
    if trained is not None or device.type == "cpu":
        inputs = None if trained is None else trained._replace(weights=None)
        return TimingModel(reference, task, protocol, device, inputs)
    key = subject_digest(reference), subject_name(reference), task, protocol
    model = _KEPT_REFERENCE.get(key)
    if model is None:
        _KEPT_REFERENCE.clear()  # before another one takes memory
        model = _KEPT_REFERENCE[key] = TimingModel(reference, task, protocol, device)
    return model


def _measure(
    model: TimingModel,
    reference_model: TimingModel | None,
    task: Task,
    protocol: Protocol,
    device: torch.device,
    start: float,
) -> Measurement:
    load = load_average()
    with exclusive_access(protocol.device), torch_settings(protocol, device):
        reference = None if reference_model is None else reference_model.load()
        candidate = model.load()
        timing = _time(candidate, reference, task, protocol, device)
    summary = summarize_rounds(timing.rounds, protocol.target_half_width)
    return Measurement(
        digest=candidate.digest,
        name=candidate.name,
        device="cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        device_kind="cpu" if device.type == "cpu" else "cuda",
        threads=protocol.threads,
        batch_size=protocol.batch_size,
        resolution=task.resolution,
        in_chans=task.channels,
        precision=protocol.precision,
        form=candidate.form,
        runtime=timing.runtime,
        **_speed_fields(summary, protocol.batch_size),
        **_reference_fields(summary, reference, candidate, protocol.batch_size),
        reference_runtime=timing.reference_runtime,
        rounds=len(timing.rounds),
        wall_cpu_gap=summary.clock_gap,
        noisy=summary.noisy,
        **timing.device_report._asdict(),
        peak_memory_bytes=candidate.peak_memory_bytes,
        inputs=len(candidate.passes),
        load=load,
        environment=environment() | precision_facts(protocol.precision, device),
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=perf_counter() - start,
    )


class _Timing(NamedTuple):
    """Rounds of a measurement, and the conditions that are known afterwards."""

    rounds: list[Round]
    runtime: Runtime
    reference_runtime: Runtime | None
    device_report: DeviceReport


def _time(
    candidate: PreparedModel,
    reference: PreparedModel | None,
    task: Task,
    protocol: Protocol,
    device: torch.device,
) -> _Timing:
    """Time a network, interleaved with the reference; the reference itself is timed alone."""
    runner, runtime = _translated_runner(candidate, task, protocol, device)
    reference_runner, reference_runtime = None, None if reference is None else runtime
    if reference is not None and reference.digest != candidate.digest:
        reference_runner, reference_runtime = _translated_runner(reference, task, protocol, device)
    time_runners = partial(
        time_interleaved,
        runner,
        reference_runner,
        max_seconds=protocol.max_seconds,
        target_half_width=protocol.target_half_width,
    )
    if device.type == "cpu":
        watch = watch_cpu()
        rounds = time_runners(min_timing_s=MIN_CPU_TIMING_S)
        return _Timing(rounds, runtime, reference_runtime, DeviceReport(tainted=watch()))
    monitor = GpuMonitor(device.index)
    rounds = time_runners(min_timing_s=MIN_GPU_TIMING_S, after_round=monitor.poll)
    return _Timing(rounds, runtime, reference_runtime, monitor.report())


def _translated_runner(
    model: PreparedModel, task: Task, protocol: Protocol, device: torch.device
) -> tuple[Runner, Runtime]:
    """Return `_runner`, with errors that name this model."""
    errors = partial(translated_errors, model.name, task, protocol)
    with errors():
        runner, runtime = _runner(model, protocol, device)
    return errors()(runner), runtime


def _runner(
    model: PreparedModel, protocol: Protocol, device: torch.device
) -> tuple[Runner, Runtime]:
    """Return the runner of a model in the fastest runtime that the protocol allows.

    Raises:
        UserError: the model cannot be captured, and the protocol requires it.
        DeviceFaultError: the capture failed.
    """
    if device.type == "cpu":
        runtime: Runtime = "compiled" if protocol.runtime == "compiled" else "eager"
        return cpu_runner(model.passes[0], protocol.threads), runtime
    _check_capturable(model, protocol)
    if protocol.runtime == "eager" or model.capture_obstacle is not None:
        return gpu_runner(in_turns(model.passes)), "eager"
    replays = capture(model.passes, device)
    captured: Runtime = "compiled" if protocol.runtime == "compiled" else "cuda_graph"
    return gpu_runner(in_turns(replays)), captured


def _check_capturable(model: PreparedModel, protocol: Protocol) -> None:
    """Raise an error if the protocol requires a CUDA graph, and the model prevents it."""
    if model.capture_obstacle is not None and protocol.runtime != "auto":
        raise UserError(
            f"{model.name} cannot be captured as a CUDA graph: {model.capture_obstacle}; measure "
            "with runtime eager"
        )


def _speed_fields(summary: RoundSummary, batch_size: int) -> dict[str, float]:
    seconds = summary.reference_seconds / summary.speed.median
    return {"throughput_img_s": batch_size / seconds, "latency_ms": 1000 * seconds}


def _reference_fields(
    summary: RoundSummary,
    reference: PreparedModel | None,
    candidate: PreparedModel,
    batch_size: int,
) -> dict[str, Any]:
    """Return the fields about the reference; its own relative throughput is 1.0."""
    if reference is None:
        return {}
    is_reference = reference.digest == candidate.digest
    median, low, high = (1.0, 1.0, 1.0) if is_reference else summary.speed
    seconds = summary.reference_seconds / (summary.speed.median if is_reference else 1.0)
    return {
        "relative_throughput": median,
        "relative_low": low,
        "relative_high": high,
        "reference_digest": reference.digest,
        "reference_name": reference.name,
        "reference_form": reference.form,
        "reference_throughput_img_s": batch_size / seconds,
    }
