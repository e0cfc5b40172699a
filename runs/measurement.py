"""How a network's speed is to be measured, and what was found. Plain values, no torch."""

from collections.abc import Sequence
from statistics import median
from typing import Literal

from pydantic import Field

from partialnas.space.values import Value

Form = Literal["training", "deploy"]
"""The network as it is trained (in evaluation mode), or as it is shipped: norms folded."""

Precision = Literal["float32", "bfloat16", "float16"]

Runtime = Literal["eager", "cuda_graph"]
"""What executes the network: PyTorch's operators one by one, or as one captured CUDA graph."""


class Protocol(Value):
    """How the speed of a network is measured.

    Attributes:
        device: "cpu", "cuda" or "cuda:1".
        threads: CPU threads of one forward pass; on a GPU those that feed it.
        batch_size: images of one forward pass.
        precision: type of weights, maps and input.
        form: which form of the network runs.
        max_seconds: when to stop at the latest, warm-up included.
        target_half_width: stop when the 95 % interval reaches no further than this share of the
            value to either side.
    """

    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    threads: int = Field(default=1, ge=1)
    batch_size: int = Field(default=32, ge=1)
    precision: Precision = "float32"
    form: Form = "deploy"
    max_seconds: float = Field(default=20.0, gt=0)
    target_half_width: float = Field(default=0.02, gt=0, lt=1)


class Measurement(Value):
    """The speed of one network on one device, with all that the figure depends on.

    With a reference, three figures say the same thing: `throughput_img_s` is
    `relative_throughput * reference_throughput_img_s`, and `latency_ms`, the time of one batch, is
    `1000 * batch_size / throughput_img_s`. A reference measured against itself has 1 exactly.

    Attributes:
        digest: of the network measured.
        name: of the network measured.
        device: model of the GPU, or "cpu" (`environment` knows the processor).
        device_kind: "cpu" or "cuda".
        threads: CPU threads of one forward pass.
        batch_size: images of one forward pass.
        resolution: height and width of the input, pixels.
        in_chans: channels of the input.
        precision: type of weights, maps and input.
        form: what ran; "training" where "deploy" was asked of a network that has no such form.
        runtime: what executed it.
        throughput_img_s: images a second.
        latency_ms: milliseconds of one batch.
        relative_throughput: how many times as fast as the reference; None without a reference.
        relative_low: lower end of its 95 % interval.
        relative_high: upper end of its 95 % interval.
        reference_digest: of the network it was measured in turns with.
        reference_name: of the network it was measured in turns with.
        reference_form: form of the network it was measured in turns with.
        reference_throughput_img_s: images a second of the reference, in the same minutes.
        rounds: rounds that the figures are medians of.
        wall_cpu_gap: share by which the clock on the wall and the clock of the device disagree.
        noisy: the clocks disagree by more than 5 %, or time ran out before the interval was
            narrow enough.
        peak_memory_bytes: largest memory in use on a GPU for one forward pass, weights included.
        load: processes that ran or waited on the machine in the minute before.
        environment: machine, library versions and code (see `partialnas.runs.environment`).
        taken: when, ISO 8601 in UTC.
    """

    digest: str
    name: str
    device: str
    device_kind: Literal["cpu", "cuda"]
    threads: int
    batch_size: int
    resolution: int
    in_chans: int
    precision: Precision
    form: Form
    runtime: Runtime = "eager"
    throughput_img_s: float = Field(gt=0, allow_inf_nan=False)
    latency_ms: float = Field(gt=0, allow_inf_nan=False)
    relative_throughput: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None
    reference_digest: str | None = None
    reference_name: str | None = None
    reference_form: Form | None = None
    reference_throughput_img_s: float | None = None
    rounds: int = Field(ge=1)
    wall_cpu_gap: float
    noisy: bool
    peak_memory_bytes: int | None = None
    load: float
    environment: dict[str, str | int]
    taken: str


def rescaled(measurement: Measurement, reference_throughput_img_s: float) -> Measurement:
    """The measurement as if its reference had that throughput; as it is without a reference."""
    if measurement.relative_throughput is None:
        return measurement
    throughput = measurement.relative_throughput * reference_throughput_img_s
    return measurement.model_copy(
        update={
            "throughput_img_s": throughput,
            "latency_ms": 1000 * measurement.batch_size / throughput,
            "reference_throughput_img_s": reference_throughput_img_s,
        }
    )


def same_scale(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements, in order, on one scale of images a second.

    A machine is faster at one hour than at another, and only relative throughputs are free of that.
    So all that were taken under the same conditions beside the same reference get the median of its
    throughputs, and theirs follow from it: who is relatively faster has more images a second.
    Measurements without a reference stay as they are.
    """
    groups: dict[tuple[object, ...], list[float]] = {}
    for measurement in measurements:
        speed = measurement.reference_throughput_img_s
        if speed is not None:
            groups.setdefault(_conditions(measurement), []).append(speed)
    scales = {conditions: median(group) for conditions, group in groups.items()}
    return [
        rescaled(measurement, scales[conditions]) if conditions in scales else measurement
        for measurement, conditions in ((each, _conditions(each)) for each in measurements)
    ]


def _conditions(measurement: Measurement) -> tuple[object, ...]:
    """What must be equal for the throughputs of a reference to be comparable."""
    return (
        measurement.reference_digest,
        measurement.reference_form,
        measurement.device,
        measurement.threads,
        measurement.batch_size,
        measurement.resolution,
        measurement.in_chans,
        measurement.precision,
        measurement.runtime,
        str(measurement.environment.get("processor")),
    )
