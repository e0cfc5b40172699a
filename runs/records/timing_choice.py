"""Selection of the measurement that represents a network.

A ledger may hold measurements with several devices, batch sizes, precisions, forms and runtimes.
They are never mixed: a `TimingSetup` selects among them, by default that of the study's protocol.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.records.measurement import Measurement, MeasurementTable
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest
from partialnas.space.values import Value, validate_as

Machine = tuple[str, str]
"""Model of the device, and processor of the machine."""

ImageSize = tuple[int | None, int | None]
"""Resolution in pixels and channels of images; None matches any."""


@dataclass(frozen=True)
class TimingSetup:
    """Conditions of measurements.

    Attributes:
        device: `cpu`, `cuda`, `other`, or a part of the name of a device or processor.
        threads: CPU threads.
        batch_size: images per forward pass.
        precision: data type of weights and feature maps.
        form: `training` or `deploy`.
        runtime: runtime of the network; `auto` is the fastest of PyTorch's runtimes without
            compilation: a CUDA graph on a GPU if the network can be captured, else eager.
    """

    device: str
    threads: int
    batch_size: int
    precision: str
    form: str
    runtime: str = "auto"

    @classmethod
    def from_protocol(cls, protocol: Protocol) -> "TimingSetup":
        """Return the setup of a protocol."""
        kind = protocol.device.partition(":")[0]
        settings = (protocol.threads, protocol.batch_size, protocol.precision)
        return cls(kind, *settings, protocol.form, protocol.runtime)

    @classmethod
    def from_measurement(cls, m: Measurement) -> "TimingSetup":
        """Return the setup of a measurement."""
        runtime = "auto" if m.runtime in _AUTO_RUNTIMES else m.runtime
        return cls(m.device_kind, m.threads, m.batch_size, m.precision, m.form, runtime)

    def with_overrides(self, text: str) -> "TimingSetup":
        """Return the setup with settings replaced.

        Args:
            text: settings such as `batch_size=1,device=H100`.

        Raises:
            UserError: there is no such setting, or a value is invalid.
        """
        settings: dict[str, Any] = {}
        for pair in filter(None, map(str.strip, text.split(","))):
            key, equals, value = (word.strip() for word in pair.partition("="))
            if key not in asdict(self) or not equals or not value:
                raise UserError(
                    f"--timing: expected settings such as batch_size=1, got {quote(pair)}; "
                    f"{suggest(key, asdict(self))}"
                )
            is_number = key != "device" and re.fullmatch(r"[0-9]{1,9}", value)
            settings[key] = int(value) if is_number else value
        checked = {k: v for k, v in settings.items() if v != "onnxruntime"}
        validate_as(Protocol, checked | {"device": "cuda"}, "--timing")
        return replace(self, **settings)

    def matches(self, m: Measurement) -> bool:
        """Return whether a measurement has this setup.

        The form `deploy` also matches the training form, for networks without a deploy form.
        """
        settings = (self.threads, self.batch_size, self.precision)
        forms = ("deploy", "training") if self.form == "deploy" else (self.form,)
        runtimes = _AUTO_RUNTIMES if self.runtime == "auto" else (self.runtime,)
        same = (m.threads, m.batch_size, m.precision) == settings
        return same and m.form in forms and m.runtime in runtimes and self._matches_device(m)

    def _matches_device(self, m: Measurement) -> bool:
        if self.device in ("cpu", "cuda", "other"):
            return m.device_kind == self.device
        return self.device.lower() in " ".join(machine(m)).lower()


_AUTO_RUNTIMES = ("eager", "cuda_graph")


class FailedTiming(Value):
    """A network that could not be timed, so that a resumed search does not time it again.

    Attributes:
        digest: digest of the network.
        name: name of the network.
        setup: conditions of the timing.
        resolution: height and width of the input in pixels.
        in_chans: channels of the input.
        reason: what went wrong.
        ended: time of the failure, ISO 8601 in UTC.
        retried: whether the user has asked to time the network again since then.
    """

    digest: str
    name: str
    setup: TimingSetup
    resolution: int
    in_chans: int
    reason: str
    ended: str
    retried: bool = False


def machine(m: Measurement) -> Machine:
    """Return the machine of a measurement."""
    return m.device, str(m.environment.get("processor"))


def study_machine(measurements: Iterable[Measurement], setup: TimingSetup) -> Machine | None:
    """Return the study's machine: that of the first measurement with this setup, or None."""
    return next((machine(m) for m in measurements if setup.matches(m)), None)


def best_measurement(
    measurements: Sequence[Measurement],
    setup: TimingSetup,
    preferred_machine: Machine | None = None,
) -> Measurement | None:
    """Return the measurement that represents a network, or None if none matches the setup.

    Preferred are, in this order, the given machine, the form and the runtime of the setup, fewer
    quality marks, and the latest measurement. The runtime counts for the network and for its
    reference; `auto` is that of CUDA graphs, so that a network that cannot be captured is compared
    with a reference that is.

    Args:
        measurements: measurements of one network, oldest first.
        setup: requested setup.
        preferred_machine: machine with preference over the others.
    """
    matching = [m for m in measurements if setup.matches(m)]
    return max(reversed(matching), key=_preference(setup, preferred_machine), default=None)


def _preference(
    setup: TimingSetup, preferred_machine: Machine | None
) -> Callable[[Measurement], tuple[object, ...]]:
    wanted = "cuda_graph" if setup.runtime == "auto" else setup.runtime

    def preference(m: Measurement) -> tuple[object, ...]:
        suited = (m.runtime, m.reference_runtime or m.runtime).count(wanted)
        return machine(m) == preferred_machine, m.form == setup.form, suited, -m.num_marks

    return preference


def best_measurements(
    measurements: Sequence[Measurement], setup: TimingSetup
) -> dict[str, Measurement]:
    """Return the measurement of each network by digest; see `best_measurement`."""
    measured = MeasurementTable.from_records([*map(vars, measurements)])
    positions = select_measurements(measured, setup).best_positions
    return {digest: measured[position] for digest, position in positions.items()}


class MeasurementSelection(NamedTuple):
    """Positions of the measurements with one setup.

    Attributes:
        matching: positions of all of them.
        best_positions: position of the one that represents each network, by digest; see
            `best_measurement`.
    """

    matching: list[int]
    best_positions: dict[str, int]


def select_measurements(
    measured: MeasurementTable,
    setup: TimingSetup,
    size: ImageSize = (None, None),
    preferred_machine: Machine | None = None,
) -> MeasurementSelection:
    """Return which of many measurements match a setup, and which represent their networks.

    Measurements with equal conditions are compared with the setup only once.

    Args:
        measured: measurements, oldest first.
        setup: requested setup.
        size: resolution and channels of the images; None matches any.
        preferred_machine: machine with preference over the others; by default that of the first
            matching measurement.
    """
    kinds = [*measured.rows(*_KIND)]
    samples: dict[tuple[object, ...], Measurement] = {}
    for kind in dict.fromkeys(kinds):
        sample = measured[kinds.index(kind)]
        if setup.matches(sample) and _has_size(size, sample):
            samples[kind] = sample
    preference = _preference(setup, preferred_machine or study_machine(samples.values(), setup))
    preferences = {kind: preference(sample) for kind, sample in samples.items()}
    matching: list[int] = []
    best: dict[str, int] = {}
    for position, (kind, digest) in enumerate(zip(kinds, measured.columns["digest"], strict=True)):
        if kind in preferences:
            matching.append(position)
            earlier = best.setdefault(digest, position)
            if preferences[kind] >= preferences[kinds[earlier]]:
                best[digest] = position
    return MeasurementSelection(matching, best)


def _has_size(size: ImageSize, m: Measurement) -> bool:
    resolution, in_chans = size
    return resolution in (None, m.resolution) and in_chans in (None, m.in_chans)


_KIND = (
    *("device", "device_kind", "threads", "batch_size", "precision", "form", "runtime"),
    *(
        "reference_runtime",
        "noisy",
        "tainted",
        "throttle_reasons",
        "resolution",
        "in_chans",
        "processor",
    ),
)


def group_by_digest(measurements: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """Return measurements by the digest of their network, in order."""
    by_digest: dict[str, list[Measurement]] = {}
    for m in measurements:
        by_digest.setdefault(m.digest, []).append(m)
    return by_digest


def study_timing_setup(measure: Mapping[str, Any]) -> TimingSetup:
    """Return the setup of the `measure` settings of a frozen study."""
    return TimingSetup.from_protocol(Protocol.model_validate(dict(measure)))
