"""Measurement of the speed of networks, each interleaved with a reference network."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import torch

from partialnas.runs.config.protocol import Protocol, Runtime
from partialnas.runs.datasets.task import Task
from partialnas.runs.measure.interleaved_timing import (
    MIN_CPU_TIMING_S,
    MIN_GPU_TIMING_S,
    Runner,
    capture_graph,
    cpu_runner,
    gpu_runner,
    time_interleaved,
)
from partialnas.runs.measure.prepared_model import (
    PreparedModel,
    TimingInputs,
    prepare_for_timing,
    torch_settings,
)
from partialnas.runs.measure.timing_stats import RoundSummary, summarize_rounds
from partialnas.runs.records.measurement import Measurement, rescale
from partialnas.runs.records.subject import Subject
from partialnas.runs.system.allocator import keep_freed_memory
from partialnas.runs.system.contention import Watch, watch_cpu, watch_gpu
from partialnas.runs.system.device import torch_device
from partialnas.runs.system.device_lock import exclusive_access
from partialnas.runs.system.environment import environment, load_average
from partialnas.space.errors import UserError


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

    The process keeps freed memory from then on (see `keep_freed_memory`); torch's number of threads
    and random state are restored.

    Args:
        subject: network to measure.
        task: gives the shape of the images.
        protocol: measurement settings.
        reference: network to compare with, or None for absolute speed only.
        trained: weights and images, for networks with a speed that depends on them.

    Raises:
        UserError: a network cannot be built for the task or cannot run on its images.
        MachineError: the device is unavailable or out of memory.
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
    """
    device = torch_device(protocol.device)
    keep_freed_memory()
    images = None if trained is None else trained._replace(weights=None)
    prepared_reference = (
        None if reference is None else prepare_for_timing(reference, task, protocol, device, images)
    )
    scale = None
    for subject in subjects:
        start = perf_counter()
        candidate = prepare_for_timing(subject, task, protocol, device, trained)
        measurement = _measure(candidate, prepared_reference, task, protocol, device, start)
        scale = scale or measurement.reference_throughput_img_s
        yield measurement if scale is None else rescale(measurement, scale)


def check_measurable(subject: Subject, task: Task, protocol: Protocol) -> None:
    """Run a network once by the protocol to check that it can be measured.

    Raises:
        UserError: it cannot be built for the task or cannot run on its images.
        MachineError: the device is unavailable or out of memory.
    """
    prepare_for_timing(subject, task, protocol, torch_device(protocol.device))


def _measure(
    candidate: PreparedModel,
    reference: PreparedModel | None,
    task: Task,
    protocol: Protocol,
    device: torch.device,
    start: float,
) -> Measurement:
    load = load_average()
    models = [*{m.digest: m for m in (candidate, reference or candidate)}.values()]
    with exclusive_access(protocol.device), torch_settings(protocol, device):
        runners, runtime = _runners(models, protocol, device)
        watch = _watch(device)
        rounds = time_interleaved(
            *runners,
            min_timing_s=MIN_CPU_TIMING_S if device.type == "cpu" else MIN_GPU_TIMING_S,
            max_seconds=protocol.max_seconds,
            target_half_width=protocol.target_half_width,
        )
        tainted = watch()
    summary = summarize_rounds(rounds, protocol.target_half_width)
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
        runtime=runtime,
        **_speed_fields(summary, protocol.batch_size),
        **_reference_fields(summary, reference, candidate, protocol.batch_size),
        rounds=len(rounds),
        wall_cpu_gap=summary.clock_gap,
        noisy=summary.noisy,
        tainted=tainted,
        peak_memory_bytes=candidate.peak_memory_bytes,
        load=load,
        environment=environment(),
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=perf_counter() - start,
    )


def _runners(
    models: list[PreparedModel], protocol: Protocol, device: torch.device
) -> tuple[list[Runner], Runtime]:
    """Return runners of the models and their runtime: CUDA graphs if all can be captured.

    Raises:
        UserError: a model cannot be captured, and the protocol requires it.
    """
    forwards = [model.forward for model in models]
    plain: Runtime = "compiled" if protocol.runtime == "compiled" else "eager"
    if device.type == "cpu":
        return [cpu_runner(forward, protocol.threads) for forward in forwards], plain
    if protocol.runtime == "eager":
        return [gpu_runner(forward) for forward in forwards], plain
    try:
        graphs = [capture_graph(forward) for forward in forwards]
    except RuntimeError as error:  # a network synchronizes with the GPU or branches on its results
        if protocol.runtime == "cuda_graph":
            names = " or ".join(model.name for model in models)
            raise UserError(
                f"{names} cannot be captured as a CUDA graph: {error}; measure with runtime eager"
            ) from error
        return [gpu_runner(forward) for forward in forwards], plain
    captured: Runtime = "compiled" if protocol.runtime == "compiled" else "cuda_graph"
    return [gpu_runner(graph) for graph in graphs], captured


def _watch(device: torch.device) -> Watch:
    if device.type == "cpu":
        return watch_cpu()
    return watch_gpu(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


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
