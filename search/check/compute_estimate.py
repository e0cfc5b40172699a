"""What a study will cost, as an interval: hours on the clock and device-hours."""

from collections.abc import Iterator
from dataclasses import dataclass

from partialnas.runs.ledger.usage import DeviceShare, format_duration
from partialnas.runs.measure.interleaved_timing import MIN_CPU_TIMING_S, MIN_ROUNDS
from partialnas.search.check.time_estimate import TrialTimeEstimate
from partialnas.search.resolve.resolved_study import ResolvedStudy, expected_trials
from partialnas.search.resolve.resources import Resources
from partialnas.search.study.sections import SeedRule

_SECONDS_PER_HOUR = 3600
_LAPS = 4  # of one round of a measurement: reference, candidate, candidate, reference

Interval = tuple[float, float]


@dataclass(frozen=True)
class Price:
    """What a study takes, at least and at most, in hours.

    Attributes:
        wall_clock: from its beginning to its end, with so many workers at once.
        device: of whole devices (see `runs.spent`).
        measuring: of the clock's hours, those for measuring, when nothing is trained.
    """

    wall_clock: Interval
    device: Interval
    measuring: Interval


def estimate_compute(
    each: TrialTimeEstimate, prepared: ResolvedStudy, placement: Resources
) -> Price | None:
    """The price of a study; None where only hours bound it.

    Of a search the networks are not known yet: they lie between the lower and the upper quartile of
    what its space has. Both ends are widened by what two pilots of one network differ. Where seeds
    are added by rule, none is at the lower end and all are at the upper. Trainings that run at the
    same time are taken not to slow each other, and failures not to happen.
    """
    trials = expected_trials(prepared)
    if trials is None:
        return None
    study = prepared.study
    most = trials
    if isinstance(study.seeds, SeedRule):
        most = trials * study.seeds.max // study.first_seeds
    training = trials * each.lower, most * each.upper
    networks = trials / study.first_seeds if study.trial is None else 0
    protocol = study.measure
    quickest = min(protocol.max_seconds, MIN_ROUNDS * _LAPS * MIN_CPU_TIMING_S)
    measuring = networks * quickest, networks * protocol.max_seconds
    share = DeviceShare.from_study(study.frozen()).share(on_gpu=placement.device.startswith("cuda"))
    clock = [t / placement.workers + m for t, m in zip(training, measuring, strict=True)]
    device = [share * (t + m) for t, m in zip(training, measuring, strict=True)]
    return Price(_hours(*clock), _hours(*device), _hours(*measuring))


def compute_lines(found: Price, prepared: ResolvedStudy) -> Iterator[str]:
    """The price as a reader likes it, and which budget ends the study before it is done."""
    budget = prepared.study.budget
    low, high = found.device
    yield (
        f"price: {_between(found.wall_clock)} on the clock, of which {_between(found.measuring)} for "
        f"measuring; {low:.3g} to {high:.3g} device-hours"
    )
    if budget.hours is not None and budget.hours < found.wall_clock[1]:
        yield f"price: budget.hours of {budget.hours:g} may end it before all trials are done"
    if budget.device_hours is not None and budget.device_hours < high:
        shares = (min(1.0, budget.device_hours / end) for end in (high, low))
        least, most = (f"{share:.0%}" for share in shares)
        yield f"price: budget.device_hours of {budget.device_hours:g} pays for {least} to {most}"


def _hours(low: float, high: float) -> Interval:
    return low / _SECONDS_PER_HOUR, high / _SECONDS_PER_HOUR


def _between(hours: Interval) -> str:
    low, high = map(format_duration, hours)
    return low if low == high else f"{low} to {high}"
