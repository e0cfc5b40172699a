"""Measures how fast networks run, each in turns with a reference network."""

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
    """Measures the speed of a network with random weights on random images, unless it is trained.

    Candidate and reference run in turns, in the order reference, candidate, candidate, reference,
    with the device locked against training. `relative_throughput` is the median over these rounds
    of the ratio of their times: CPU time of the one thread on a CPU, events on a GPU, the clock on
    the wall where several threads run. `throughput_img_s` is that ratio times the reference's
    median throughput in the same rounds; without a reference, or where the subject is the
    reference, it comes from the median of the subject's own times. So on a CPU it is what a core
    gives that has nothing else to do.

    From then on the process keeps the memory that it frees (see `keep_freed_memory`); torch's
    number of threads and its random numbers are afterwards as before.

    Raises:
        UserError: a network cannot be built for the task, or cannot run on its images.
        MachineError: the device is not there, or out of memory.
    """
    return next(measure_many([subject], task, protocol, reference, trained))


def measure_many(
    subjects: Iterable[Subject],
    task: Task,
    protocol: Protocol,
    reference: Subject | None = None,
    trained: TimingInputs | None = None,
) -> Iterator[Measurement]:
    """Measures networks one by one, as `measure` does, and yields each when it is done.

    All are on the scale of the first: who is relatively faster has more images a second, even if
    the machine was slower in its minute (see `same_scale`).

    Raises:
        UserError: a network cannot be built for the task, or cannot run on its images.
        MachineError: the device is not there, or out of memory.
    """
    device = torch_device(protocol.device)
    keep_freed_memory()
    images = None if trained is None else trained._replace(weights=None)
    beside = (
        None if reference is None else prepare_for_timing(reference, task, protocol, device, images)
    )
    scale = None
    for subject in subjects:
        began = perf_counter()
        candidate = prepare_for_timing(subject, task, protocol, device, trained)
        measurement = _measure(candidate, beside, task, protocol, device, began)
        scale = scale or measurement.reference_throughput_img_s
        yield measurement if scale is None else rescale(measurement, scale)


def check_measurable(subject: Subject, task: Task, protocol: Protocol) -> None:
    """Run a network once by the protocol, to find out whether it can be measured so.

    Raises:
        UserError: it cannot be built for the task, or cannot run on its images.
        MachineError: the device is not there, or out of memory.
    """
    prepare_for_timing(subject, task, protocol, torch_device(protocol.device))


def _measure(
    candidate: PreparedModel,
    reference: PreparedModel | None,
    task: Task,
    protocol: Protocol,
    device: torch.device,
    began: float,
) -> Measurement:
    busy = load_average()
    rivals = [] if reference is None or reference.digest == candidate.digest else [reference]
    with exclusive_access(protocol.device), torch_settings(protocol, device):
        runners, runtime = _runners([candidate, *rivals], protocol, device)
        watch = _watch(device)
        rounds = time_interleaved(
            *runners,
            min_timing_s=MIN_CPU_TIMING_S if device.type == "cpu" else MIN_GPU_TIMING_S,
            max_seconds=protocol.max_seconds,
            target_half_width=protocol.target_half_width,
        )
        tainted = watch()
    finding = summarize_rounds(rounds, protocol.target_half_width)
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
        **_speed(finding, protocol.batch_size),
        **_beside(finding, reference, candidate, protocol.batch_size),
        rounds=len(rounds),
        wall_cpu_gap=finding.clock_gap,
        noisy=finding.noisy,
        tainted=tainted,
        peak_memory_bytes=candidate.peak_memory_bytes,
        load=busy,
        environment=environment(),
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=perf_counter() - began,
    )


def _runners(
    entrants: list[PreparedModel], protocol: Protocol, device: torch.device
) -> tuple[list[Runner], Runtime]:
    """The entrants' runners: all as captured graphs where each of them can be captured.

    Raises:
        UserError: one cannot, and the protocol wants nothing else.
    """
    forwards = [entrant.forward for entrant in entrants]
    plain: Runtime = "compiled" if protocol.runtime == "compiled" else "eager"
    if device.type == "cpu":
        return [cpu_runner(forward, protocol.threads) for forward in forwards], plain
    if protocol.runtime == "eager":
        return [gpu_runner(forward) for forward in forwards], plain
    try:
        graphs = [capture_graph(forward) for forward in forwards]
    except RuntimeError as error:  # a network waits for the GPU or chooses by its results
        if protocol.runtime == "cuda_graph":
            names = " or ".join(entrant.name for entrant in entrants)
            raise UserError(f"{names} cannot be captured as a CUDA graph: {error}") from error
        return [gpu_runner(forward) for forward in forwards], plain
    captured_as: Runtime = "compiled" if protocol.runtime == "compiled" else "cuda_graph"
    return [gpu_runner(graph) for graph in graphs], captured_as


def _watch(device: torch.device) -> Watch:
    if device.type == "cpu":
        return watch_cpu()
    return watch_gpu(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


def _speed(finding: RoundSummary, batch_size: int) -> dict[str, float]:
    seconds = finding.reference_seconds / finding.speed.median
    return {"throughput_img_s": batch_size / seconds, "latency_ms": 1000 * seconds}


def _beside(
    finding: RoundSummary,
    reference: PreparedModel | None,
    candidate: PreparedModel,
    batch_size: int,
) -> dict[str, Any]:
    """What is said of the reference; a network beside itself is as fast as itself."""
    if reference is None:
        return {}
    itself = reference.digest == candidate.digest
    median, low, high = (1.0, 1.0, 1.0) if itself else finding.speed
    seconds = finding.reference_seconds / (finding.speed.median if itself else 1.0)
    return {
        "relative_throughput": median,
        "relative_low": low,
        "relative_high": high,
        "reference_digest": reference.digest,
        "reference_name": reference.name,
        "reference_form": reference.form,
        "reference_throughput_img_s": batch_size / seconds,
    }
