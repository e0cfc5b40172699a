"""Measurements of speed and memory, by row and by column, on a common scale."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from statistics import median
from typing import Any, NamedTuple, Self

from pydantic import Field
from pydantic_core import from_json

from partialnas.runs.config.protocol import DeviceKind, Form, Precision, Runtime
from partialnas.space.values import Value

STEADY_REASONS = ("", "power cap")
"""Values of `throttle_reasons` that are no quality mark.

At large batches a data-center GPU usually runs at its power cap: a repetition meets it, too.
"""


class Measurement(Value):
    """The speed of one network on one device, with everything that it depends on.

    With a reference, `throughput_img_s` is `relative_throughput * reference_throughput_img_s`, and
    `latency_ms`, the time of one batch, is `1000 * batch_size / throughput_img_s`. The relative
    throughput of the reference itself is exactly 1.

    Attributes:
        digest: digest of the network.
        name: name of the network.
        device: model of the GPU, or `cpu` (`environment` has the processor).
        device_kind: `cpu`, `cuda`, or `other` on a board.
        threads: CPU threads of a forward pass.
        batch_size: images per forward pass.
        resolution: height and width of the input in pixels.
        in_chans: channels of the input.
        precision: data type of weights, feature maps and input.
        form: measured form; `training` if `deploy` was requested of a network without such a form.
        runtime: runtime of the network.
        throughput_img_s: images per second.
        latency_ms: time of one batch in milliseconds.
        relative_throughput: throughput divided by the reference's, or None without a reference.
        relative_low: lower end of its 95 % interval.
        relative_high: upper end of its 95 % interval.
        reference_digest: digest of the reference, which was timed in alternation.
        reference_name: name of the reference.
        reference_form: form of the reference.
        reference_runtime: runtime of the reference, or None if it was that of the network, as in
            measurements of older versions.
        reference_throughput_img_s: images per second of the reference in the same minutes.
        rounds: number of rounds that the values are medians of.
        wall_cpu_gap: relative difference between wall-clock time and device time.
        noisy: whether this difference exceeds 5 %, or time ran out before the interval was narrow
            enough.
        tainted: whether another process used the device meanwhile (see `runs.devices.contention`
            and `runs.devices.gpu_monitor`); None if the system does not tell it, where older
            versions recorded False.
        throttle_reasons: why the GPU lowered its clock meanwhile, such as `power cap`, which alone
            is no quality mark; empty if it did not.
        sm_clock_mhz: median clock of the GPU's multiprocessors in MHz, or None.
        power_w: median power of the GPU in watts, or None.
        peak_memory_bytes: peak memory of a forward pass on a GPU, weights included.
        inputs: number of batches that the passes take turns at, so that a GPU does not find its
            images in its cache.
        load: load average of the machine over the minute before.
        environment: machine, library versions and code (see `runs.system.environment`).
        taken: time of the measurement, ISO 8601 in UTC.
        seconds: duration, including building the network and waiting for the device; None if not
            recorded.
    """

    digest: str
    name: str
    device: str
    device_kind: DeviceKind
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
    reference_runtime: Runtime | None = None
    reference_throughput_img_s: float | None = None
    rounds: int = Field(ge=1)
    wall_cpu_gap: float
    noisy: bool
    tainted: bool | None = False
    throttle_reasons: str = ""
    sm_clock_mhz: float | None = None
    power_w: float | None = None
    peak_memory_bytes: int | None = None
    inputs: int = 1
    load: float
    environment: dict[str, str | int]
    taken: str
    seconds: float | None = None

    @property
    def num_marks(self) -> int:
        """Number of its quality marks: noisy, tainted, throttled."""
        return _num_marks(self)

    @property
    def marks_text(self) -> str:
        """What distinguishes it, such as `noisy, tainted`; empty if there is nothing.

        Besides quality marks: a power cap, a network that ran eagerly although its reference did
        not, and a device whose other processes are unknown. To repeat it changes none of them.
        """
        marks = {
            "noisy": self.noisy,
            "tainted": self.tainted,
            f"throttled ({self.throttle_reasons})": self.throttle_reasons,
            "eager": self.runtime == "eager" and self.reference_runtime not in (None, "eager"),
            "other processes unknown": self.tainted is None,
        }
        return ", ".join(mark for mark, is_set in marks.items() if is_set)


Conditions = tuple[object, ...]
"""Values of `REFERENCE_CONDITIONS`."""


class ReferenceTimings:
    """The throughputs of a reference under the same conditions, and their median."""

    def __init__(self) -> None:
        self._throughputs: list[float] = []

    def add(self, throughput_img_s: float) -> None:
        """Add a throughput in images per second."""
        self._throughputs.append(throughput_img_s)
        self.__dict__.pop("median", None)

    @cached_property
    def median(self) -> float | None:
        """The median in images per second, or None if there are no timings."""
        self._throughputs.sort()  # linear after the first time: all but the last are in order
        return median(self._throughputs) if self._throughputs else None


class ReferenceScale:
    """The timings of references by their conditions: the common scale of a study's speeds.

    The speed of a machine drifts; only relative throughputs are free of this drift. So the speed of
    a network is its relative throughput times the median of all throughputs of its reference under
    the same conditions. Tables show this speed, and limits apply to it.
    """

    def __init__(self) -> None:
        self._timings: defaultdict[Conditions, ReferenceTimings] = defaultdict(ReferenceTimings)

    def add(self, conditions: Conditions, reference_throughput_img_s: float | None) -> None:
        """Add the reference's throughput of a measurement; None without a reference."""
        if reference_throughput_img_s is not None:
            self._timings[conditions].add(reference_throughput_img_s)

    def timings(self, conditions: Conditions) -> ReferenceTimings:
        """Return the timings under these conditions; later ones are added to the same object."""
        return self._timings[conditions]


class Speed(NamedTuple):
    """The values of a measurement; see `Measurement`.

    Attributes:
        reference: timings of the reference under the same conditions, which set the common scale.
    """

    throughput_img_s: float
    latency_ms: float
    relative_throughput: float | None
    peak_memory_bytes: int | None
    noisy: bool
    tainted: bool | None
    throttle_reasons: str
    batch_size: int
    reference: ReferenceTimings

    @property
    def num_marks(self) -> int:
        """Number of its quality marks: noisy, tainted, throttled."""
        return _num_marks(self)

    def metrics(self) -> dict[str, float]:
        """Return its quantities on the common scale (see `ReferenceScale`)."""
        scale = self.reference.median
        if self.relative_throughput is None or scale is None:
            return self._metrics(self.throughput_img_s, self.latency_ms)
        throughput = self.relative_throughput * scale
        return self._metrics(throughput, 1000 * self.batch_size / throughput)

    def relative_metrics(self) -> dict[str, float]:
        """Return its quantities relative to the reference, which no later timing changes."""
        relative = self.relative_throughput or self.throughput_img_s
        return self._metrics(relative, 1 / relative)

    def _metrics(self, throughput: float, latency: float) -> dict[str, float]:
        metrics = {"throughput_img_s": throughput, "latency_ms": latency}
        if self.relative_throughput is not None:
            metrics["relative_throughput"] = self.relative_throughput
        if self.peak_memory_bytes is not None:
            metrics["peak_memory_bytes"] = float(self.peak_memory_bytes)
        return metrics


def _num_marks(timed: Measurement | Speed) -> int:
    is_throttled = timed.throttle_reasons not in STEADY_REASONS
    return sum(map(bool, (timed.noisy, timed.tainted, is_throttled)))


SPEED_FIELDS = Speed._fields[:-1]
"""Fields of a measurement that a `Speed` repeats."""

Columns = dict[str, list[Any]]
"""Lists of values by column name, all of the same length."""

MEASUREMENT_DEFAULTS = {
    key: field.default for key, field in Measurement.model_fields.items() if not field.is_required()
}
"""Values of fields that measurements of older versions lack."""


def _unvalidated(fields: dict[str, Any]) -> Measurement:
    """Return the measurement with these fields, ten times as fast as with validation."""
    measurement = Measurement.__new__(Measurement)
    object.__setattr__(measurement, "__dict__", fields)
    object.__setattr__(measurement, "__pydantic_fields_set__", {*fields})
    object.__setattr__(measurement, "__pydantic_extra__", None)
    object.__setattr__(measurement, "__pydantic_private__", None)
    return measurement


class MeasurementTable:
    """Measurements by column; single ones are built on demand.

    Attributes:
        columns: list of values by field of `Measurement`.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    @classmethod
    def from_records(cls, measurements: Sequence[Mapping[str, Any]]) -> Self:
        """Return the table of measurements given as plain data."""
        return cls({key: [m[key] for m in measurements] for key in Measurement.model_fields})

    @classmethod
    def from_json(cls, texts: Iterable[str]) -> Self:
        """Read measurements from JSON text without validating them again.

        The text is that of rows with checksums, which was validated when it was written.
        """
        return cls.from_records([{**MEASUREMENT_DEFAULTS, **from_json(text)} for text in texts])

    def __len__(self) -> int:
        return len(self.columns["digest"])

    def __getitem__(self, position: int) -> Measurement:
        return _unvalidated({key: values[position] for key, values in self.columns.items()})

    def __iter__(self) -> Iterator[Measurement]:
        return map(self.__getitem__, range(len(self)))

    def rows(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """Yield these fields of every measurement; see `column`."""
        return zip(*map(self.column, names), strict=True)

    def column(self, name: str) -> list[Any]:
        """Return one field of every measurement; `processor` is taken from the environment.

        Missing runtimes of references are filled in.
        """
        if name == "processor":
            return [environment.get("processor") for environment in self.columns["environment"]]
        if name == "reference_runtime":
            pairs = zip(self.columns[name], self.columns["runtime"], strict=True)
            return [of_reference or runtime for of_reference, runtime in pairs]
        return self.columns[name]


def rescale(measurement: Measurement, reference_throughput_img_s: float) -> Measurement:
    """Return the measurement for another throughput of its reference.

    A measurement without a reference is returned unchanged.
    """
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


def to_common_scale(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements, in order, on their common scale (see `ReferenceScale`).

    Measurements without a reference are returned unchanged.
    """
    scales = reference_scales(MeasurementTable.from_records([*map(vars, measurements)]))
    pairs = zip(measurements, scales, strict=True)
    return [one if scale is None else rescale(one, scale) for one, scale in pairs]


def reference_scales(
    measured: MeasurementTable, positions: Iterable[int] | None = None
) -> list[float | None]:
    """Return the throughput of each measurement's reference on the common scale, in img/s.

    The throughput is None without a reference; see `ReferenceScale`.

    Args:
        measured: the measurements.
        positions: positions of the measurements that determine the scale; all by default.
    """
    scale = ReferenceScale()
    speeds = measured.columns["reference_throughput_img_s"]
    conditions = [*measured.rows(*REFERENCE_CONDITIONS)]
    for position in range(len(measured)) if positions is None else positions:
        scale.add(conditions[position], speeds[position])
    return [scale.timings(key).median for key in conditions]


def reference_conditions(measurement: Measurement) -> Conditions:
    """Return what must be equal for two throughputs of a reference to be comparable."""
    return next(MeasurementTable.from_records([vars(measurement)]).rows(*REFERENCE_CONDITIONS))


REFERENCE_CONDITIONS = (
    *("reference_digest", "reference_form", "device", "threads", "batch_size", "resolution"),
    *("in_chans", "precision", "reference_runtime", "processor"),
)
"""Fields that must be equal for throughputs of a reference to be comparable."""
