"""Which of a ledger's measurements stands for a network. Plain values, no torch.

A ledger may hold measurements of several devices, batch sizes, precisions, forms and runtimes.
They are never mixed: a `TimingSetup` says which of them are meant, by default those that the study's own
protocol asks for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.records.measurement import Measurement, MeasurementTable
from partialnas.space.errors import UserError
from partialnas.space.values import validate_as

Machine = tuple[str, str]
"""A device by its model, and the processor beside it."""

ImageSize = tuple[int | None, int | None]
"""Resolution in pixels and channels of images; None stands for any."""


@dataclass(frozen=True)
class TimingSetup:
    """How networks were measured.

    Attributes:
        device: "cpu", "cuda", "other", or a part of the name of a device or processor.
        threads: CPU threads.
        batch_size: images of one forward pass.
        precision: of weights and maps.
        form: "training" or "deploy".
        runtime: what executed the network; "auto" is the fastest of PyTorch's own that compile
            nothing: captured graphs on a GPU where they can be had, else operators one by one.
    """

    device: str
    threads: int
    batch_size: int
    precision: str
    form: str
    runtime: str = "auto"

    @classmethod
    def from_protocol(cls, protocol: Protocol) -> "TimingSetup":
        """What a protocol asks for."""
        kind = protocol.device.partition(":")[0]
        asked = (protocol.threads, protocol.batch_size, protocol.precision)
        return cls(kind, *asked, protocol.form, protocol.runtime)

    @classmethod
    def from_measurement(cls, m: Measurement) -> "TimingSetup":
        """How a measurement was taken."""
        runtime = "auto" if m.runtime in _OWN else m.runtime
        return cls(m.device_kind, m.threads, m.batch_size, m.precision, m.form, runtime)

    def with_overrides(self, text: str) -> "TimingSetup":
        """The same with settings replaced.

        Args:
            text: such as `batch_size=1,device=H100`.

        Raises:
            UserError: no such setting, or a value that makes no sense.
        """
        settings: dict[str, Any] = {}
        for pair in filter(None, map(str.strip, text.split(","))):
            key, equals, value = (word.strip() for word in pair.partition("="))
            if key not in asdict(self) or not equals or not value:
                known = ", ".join(asdict(self))
                raise UserError(
                    f"--timing: expected settings such as batch_size=1,device=cpu, got {pair!r}; "
                    f"there are {known}"
                )
            settings[key] = int(value) if value.isdigit() and key != "device" else value
        told = {k: v for k, v in settings.items() if v != "onnxruntime"}
        validate_as(Protocol, told | {"device": "cuda"}, "--timing")
        return replace(self, **settings)

    def matches(self, m: Measurement) -> bool:
        """Whether a measurement was taken so.

        Where the deploy form is asked for, a network that has none answers in its training form.
        """
        asked = (self.threads, self.batch_size, self.precision)
        forms = ("deploy", "training") if self.form == "deploy" else (self.form,)
        runtimes = _OWN if self.runtime == "auto" else (self.runtime,)
        alike = (m.threads, m.batch_size, m.precision) == asked
        return alike and m.form in forms and m.runtime in runtimes and self._on(m)

    def _on(self, m: Measurement) -> bool:
        if self.device in ("cpu", "cuda", "other"):
            return m.device_kind == self.device
        return self.device.lower() in " ".join(machine(m)).lower()


_OWN = ("eager", "cuda_graph")


def machine(m: Measurement) -> Machine:
    """What a network was measured on."""
    return m.device, str(m.environment.get("processor"))


def study_machine(measurements: Iterable[Measurement], way: TimingSetup) -> Machine | None:
    """The machine of the first measurement that was taken so: the study's own."""
    return next((machine(m) for m in measurements if way.matches(m)), None)


def best_measurement(
    measurements: Sequence[Measurement], way: TimingSetup, at: Machine | None = None
) -> Measurement | None:
    """The one of a network's measurements that stands for it.

    Of those that were taken in this way: one on the study's own machine, in the form and by the
    runtime asked for, with the fewest marks against it; of several such ones the latest.

    Args:
        measurements: of one network, in the order in which they were taken.
        way: that is asked for.
        at: the machine that is preferred.
    """
    fitting = [m for m in measurements if way.matches(m)]
    return max(reversed(fitting), key=_merit(way, at), default=None)


def _merit(way: TimingSetup, at: Machine | None) -> Callable[[Measurement], tuple[object, ...]]:
    def merit(m: Measurement) -> tuple[object, ...]:
        return machine(m) == at, m.form == way.form, m.runtime == "cuda_graph", -m.num_marks

    return merit


def best_measurements(
    measurements: Sequence[Measurement], way: TimingSetup
) -> dict[str, Measurement]:
    """By digest the measurement that stands for each network; see `best`."""
    measured = MeasurementTable.from_records([*map(vars, measurements)])
    return {
        digest: measured[place]
        for digest, place in select_measurements(measured, way).best_positions.items()
    }


class MeasurementSelection(NamedTuple):
    """Measurements that were taken in one way.

    Attributes:
        fitting: places of all of them.
        best_positions: by digest the place of the one that stands for each network; see `best`.
    """

    fitting: list[int]
    best_positions: dict[str, int]


def select_measurements(
    measured: MeasurementTable,
    way: TimingSetup,
    size: ImageSize = (None, None),
    at: Machine | None = None,
) -> MeasurementSelection:
    """Those of many measurements that were taken in a way; which of them stand.

    Few differ in what decides about that: each kind is looked at once.

    Args:
        measured: in the order in which they were taken.
        way: that is asked for.
        size: resolution and channels of the images; None where all count.
        at: the machine that is preferred; the first that took one so unless given.
    """
    kinds = [*measured.rows(*_KIND)]
    samples: dict[tuple[object, ...], Measurement] = {}
    for kind in dict.fromkeys(kinds):
        sample = measured[kinds.index(kind)]
        if way.matches(sample) and _is_of(size, sample):
            samples[kind] = sample
    merit = _merit(way, at or study_machine(samples.values(), way))
    merits = {kind: merit(sample) for kind, sample in samples.items()}
    fitting: list[int] = []
    places: dict[str, int] = {}
    for place, (kind, digest) in enumerate(zip(kinds, measured.columns["digest"], strict=True)):
        if kind in merits:
            fitting.append(place)
            known = places.setdefault(digest, place)
            if merits[kind] >= merits[kinds[known]]:
                places[digest] = place
    return MeasurementSelection(fitting, places)


def _is_of(size: ImageSize, m: Measurement) -> bool:
    resolution, in_chans = size
    return resolution in (None, m.resolution) and in_chans in (None, m.in_chans)


_KIND = (
    *("device", "device_kind", "threads", "batch_size", "precision", "form", "runtime"),
    *("noisy", "tainted", "resolution", "in_chans", "processor"),
)


def group_by_digest(measurements: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """Measurements by the digest of their network, each list in order."""
    by_digest: dict[str, list[Measurement]] = {}
    for m in measurements:
        by_digest.setdefault(m.digest, []).append(m)
    return by_digest


def study_timing_setup(measure: Mapping[str, Any]) -> TimingSetup:
    """What the `measure` settings of a frozen study ask for."""
    return TimingSetup.from_protocol(Protocol.model_validate(dict(measure)))
