"""How a network's speed is to be measured, and what was found. Plain values, no torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, Self

from pydantic import Field
from pydantic_core import from_json

from partialnas.runs.config.protocol import DeviceKind, Form, Precision, Runtime
from partialnas.space.values import Value


class Measurement(Value):
    """The speed of one network on one device, with all that the figure depends on.

    With a reference, three figures say the same thing: `throughput_img_s` is
    `relative_throughput * reference_throughput_img_s`, and `latency_ms`, the time of one batch, is
    `1000 * batch_size / throughput_img_s`. A reference measured against itself has 1 exactly.

    Attributes:
        digest: of the network measured.
        name: of the network measured.
        device: model of the GPU, or "cpu" (`environment` knows the processor).
        device_kind: "cpu", "cuda", or "other" on a board.
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
        tainted: another process used the device meanwhile (see `runs.foreign`).
        peak_memory_bytes: largest memory in use on a GPU for one forward pass, weights included.
        load: processes that ran or waited on the machine in the minute before.
        environment: machine, library versions and code (see `partialnas.runs.system.environment`).
        taken: when, ISO 8601 in UTC.
        seconds: that taking it took, building and waiting for the device included; None in ledgers
            of versions that did not tell.
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
    reference_throughput_img_s: float | None = None
    rounds: int = Field(ge=1)
    wall_cpu_gap: float
    noisy: bool
    tainted: bool = False
    peak_memory_bytes: int | None = None
    load: float
    environment: dict[str, str | int]
    taken: str
    seconds: float | None = None

    @property
    def num_marks(self) -> int:
        """How many marks there are against it: noisy, tainted."""
        return self.noisy + self.tainted

    @property
    def marks_text(self) -> str:
        """The marks against it in words, as `noisy, tainted`; empty for a quiet one."""
        return ", ".join(["noisy"] * self.noisy + ["tainted"] * self.tainted)


class Speed(NamedTuple):
    """What a measurement found, without what it depends on; see `Measurement`."""

    throughput_img_s: float
    latency_ms: float
    relative_throughput: float | None
    peak_memory_bytes: int | None
    noisy: bool
    tainted: bool

    @classmethod
    def from_measurement(cls, measurement: Measurement) -> Self:
        """What this measurement found."""
        return cls._make(getattr(measurement, name) for name in cls._fields)

    @property
    def num_marks(self) -> int:
        """How many marks there are against it: noisy, tainted."""
        return self.noisy + self.tainted


Columns = dict[str, list[Any]]
"""Values by the name of what they tell, those of one row in the same place of all lists."""

MEASUREMENT_DEFAULTS = {
    key: field.default for key, field in Measurement.model_fields.items() if not field.is_required()
}
"""What a measurement says that was taken by a version which did not tell."""


def parse_measurement(text: str) -> dict[str, Any]:
    """A measurement as plain data, every field told, from JSON that is not validated again.

    For what carries a seal: it is as it was written, and so as it was validated then.
    """
    return {**MEASUREMENT_DEFAULTS, **from_json(text)}


def as_written(given: dict[str, Any]) -> Measurement:
    """The measurement of which `parse_measurement` has told; validating takes ten times as long.

    The two share their data.
    """
    measurement = Measurement.__new__(Measurement)
    object.__setattr__(measurement, "__dict__", given)
    object.__setattr__(measurement, "__pydantic_fields_set__", {*given})
    object.__setattr__(measurement, "__pydantic_extra__", None)
    object.__setattr__(measurement, "__pydantic_private__", None)
    return measurement


class MeasurementTable:
    """Measurements column by column: of a hundred thousand hardly any is asked for as a whole.

    Attributes:
        columns: all fields of a measurement.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    @classmethod
    def from_records(cls, measurements: Sequence[Mapping[str, Any]]) -> Self:
        """Measurements that are told as plain data."""
        return cls({key: [m[key] for m in measurements] for key in Measurement.model_fields})

    def __len__(self) -> int:
        return len(self.columns["digest"])

    def __getitem__(self, place: int) -> Measurement:
        return as_written({key: values[place] for key, values in self.columns.items()})

    def __iter__(self) -> Iterator[Measurement]:
        return map(self.__getitem__, range(len(self)))

    def rows(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """These fields of every measurement; see `column`."""
        return zip(*map(self.column, names), strict=True)

    def column(self, name: str) -> list[Any]:
        """One field of every measurement; `processor` is that of its environment."""
        if name == "processor":
            return [each.get("processor") for each in self.columns["environment"]]
        return self.columns[name]


def rescale(measurement: Measurement, reference_throughput_img_s: float) -> Measurement:
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


def to_common_scale(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements, in order, on one scale of images a second.

    A machine is faster at one hour than at another, and only relative throughputs are free of that.
    So all that were taken under the same conditions beside the same reference get the median of its
    throughputs, and theirs follow from it: who is relatively faster has more images a second.
    Measurements without a reference stay as they are.
    """
    scales = reference_scales(MeasurementTable.from_records([*map(vars, measurements)]))
    pairs = zip(measurements, scales, strict=True)
    return [one if scale is None else rescale(one, scale) for one, scale in pairs]


def reference_scales(
    measured: MeasurementTable, places: Iterable[int] | None = None
) -> list[float | None]:
    """For each measurement the throughput that its reference has on the common scale (img/s).

    None where there is no reference; see `to_common_scale`.

    Args:
        measured: the measurements.
        places: those that count, all unless given.
    """
    groups: dict[tuple[object, ...], list[float]] = {}
    speeds = measured.columns["reference_throughput_img_s"]
    conditions = [*measured.rows(*_CONDITIONS)]
    for place in range(len(measured)) if places is None else places:
        if speeds[place] is not None:
            groups.setdefault(conditions[place], []).append(speeds[place])
    scales = {own: median(group) for own, group in groups.items()}
    return [scales.get(own) for own in conditions]


_CONDITIONS = (
    *("reference_digest", "reference_form", "device", "threads", "batch_size", "resolution"),
    *("in_chans", "precision", "runtime", "processor"),
)
"""What must be equal for the throughputs of a reference to be comparable."""
