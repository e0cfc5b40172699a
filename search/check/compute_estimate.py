"""Estimate the compute of a study: wall-clock hours and device-hours, as intervals."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

from partialnas.runs.ledger.usage import DeviceShare, format_duration
from partialnas.runs.measure.interleaved_timing import (
    MIN_CPU_TIMING_S,
    MIN_GPU_TIMING_S,
    MIN_ROUNDS,
)
from partialnas.search.check.time_estimate import TrialTimeEstimate
from partialnas.search.resolve.resolved_study import (
    ResolvedStudy,
    count_arm_trials,
    expected_trials,
)
from partialnas.search.resolve.resources import Resources
from partialnas.search.study.fidelity import rung_shares
from partialnas.search.study.sections import SeedRule

_SECONDS_PER_HOUR = 3600
_TIMINGS_PER_ROUND = 4  # reference, candidate, candidate, reference

Interval = tuple[float, float]


@dataclass(frozen=True)
class ComputeEstimate:
    """Lower and upper bounds of the hours that a study takes.

    Attributes:
        wall_clock: hours from start to end.
        device: device-hours (see `runs.ledger.usage`).
        measuring: wall-clock hours of measuring, when nothing is trained.
    """

    wall_clock: Interval
    device: Interval
    measuring: Interval


def estimate_compute(
    trial_time: TrialTimeEstimate, resolved: ResolvedStudy, resources: Resources
) -> ComputeEstimate | None:
    """Return the compute of a study, or None if only hours limit it.

    The networks of a search are not known in advance; their cost is assumed to lie between the
    lower and the upper quartile of the space. Both bounds include the timing error of the pilots.
    With a seed rule, the lower bound has the first seeds only and the upper bound all seeds.
    Failures and interference between parallel trials are ignored.

    Args:
        trial_time: time of one trial.
        resolved: the study.
        resources: devices and workers that it runs on.
    """
    trials = expected_trials(resolved)
    if trials is None:
        return None
    study = resolved.study
    max_seeds = study.seeds.max if isinstance(study.seeds, SeedRule) else study.first_seeds
    max_trials = trials * max_seeds // study.first_seeds
    training = trials * trial_time.lower, max_trials * trial_time.upper
    parallel = _parallel_trials(resolved, resources)
    # trials of equal length end together, so that the last ones may leave workers idle
    fewest, most = trials / parallel, math.ceil(max_trials / parallel)
    trained = max(fewest, 1) * trial_time.lower, most * trial_time.upper
    protocol, networks = study.protocol, _measured_networks(resolved, trials)
    shortest_timing = MIN_CPU_TIMING_S if protocol.device == "cpu" else MIN_GPU_TIMING_S
    fastest = min(protocol.max_seconds, MIN_ROUNDS * _TIMINGS_PER_ROUND * shortest_timing)
    measuring = networks * fastest, networks * protocol.max_seconds
    share = DeviceShare.from_study(study.frozen()).share(on_gpu=resources.device.startswith("cuda"))
    clock = [t + m for t, m in zip(trained, measuring, strict=True)]
    device = [share * (t + m) for t, m in zip(training, measuring, strict=True)]
    return ComputeEstimate(_hours(*clock), _hours(*device), _hours(*measuring))


def _parallel_trials(resolved: ResolvedStudy, resources: Resources) -> int:
    """Return the trials that run at full speed in parallel: more workers share the CPU cores.

    A study with a shared folder is for a cluster, whose cores are not known here.
    """
    if resources.device != "cpu" or resolved.study.executor.shared is not None:
        return resources.workers
    cores = (os.cpu_count() or 1) // resources.cpus_per_trial
    return max(1, min(resources.workers, cores))


def _measured_networks(resolved: ResolvedStudy, trials: int) -> float:
    """Return the number of networks that are timed.

    If the search decides by measured quantities, networks are timed on their first rung; else only
    those that reach the last rung are.
    """
    study = resolved.study
    if not study.times_networks:
        return 0.0
    if study.search is None or not resolved.rungs:
        return trials / study.first_seeds
    arms = count_arm_trials(resolved)
    shares = rung_shares(len(resolved.rungs), study.search.promote, study.first_seeds)
    share = shares[0] if study.measures_before_tell else shares[-1] / study.first_seeds
    return arms / study.first_seeds + (trials - arms) * share


def compute_lines(estimate: ComputeEstimate, resolved: ResolvedStudy) -> Iterator[str]:
    """Yield the lines that report an estimate, with a warning if the budget may be too small."""
    budget = resolved.study.budget
    low, high = estimate.device
    measuring = f", including {_format(estimate.measuring)} of measuring"
    yield (
        f"compute: {_format(estimate.wall_clock)} of wall-clock time"
        f"{measuring if estimate.measuring[1] else ''}; {low:.3g} to {high:.3g} device-hours"
    )
    if budget.hours is not None and budget.hours < estimate.wall_clock[1]:
        yield f"compute: budget.hours of {budget.hours:g} may not be enough for all trials"
    if budget.device_hours is not None and budget.device_hours < high:
        shares = (min(1.0, budget.device_hours / end) for end in (high, low))
        least, most = (f"{share:.0%}" for share in shares)
        yield (
            f"compute: budget.device_hours of {budget.device_hours:g} is enough for {least} to "
            f"{most} of this"
        )


def _hours(low: float, high: float) -> Interval:
    return low / _SECONDS_PER_HOUR, high / _SECONDS_PER_HOUR


def _format(hours: Interval) -> str:
    low, high = map(format_duration, hours)
    return low if low == high else f"{low} to {high}"
