"""Compute that a study has used: hours by kind, and device-hours.

One device-hour is one hour of a whole GPU, or of all cores of a machine. A trial uses the share
`executor.gpus_per_trial` of a GPU, or `recipe.threads` cores of a CPU; a measurement uses the share
of its worker. Time lost with an interrupted session counts only as far as a trial resumed from it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from partialnas.runs.ledger.rows import UsageRow
from partialnas.runs.system.environment import environment

USAGE_KINDS = ("done", "early", "failed", "timeout", "measuring")
"""Kinds of use: final states of trials, and measuring."""

_LABELS = {
    "done": "training",
    "early": "in trials stopped early",
    "failed": "in failed trials",
    "timeout": "in trials that timed out",
    "measuring": "measuring",
}
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class DeviceShare:
    """Share of a device that one worker of a study uses.

    Attributes:
        gpus: GPUs per worker, a fraction or a number of them.
        threads: CPU cores per worker.
    """

    gpus: float = 1.0
    threads: int = 1

    @classmethod
    def from_study(cls, frozen: Mapping[str, Any]) -> "DeviceShare":
        """Return the share that the settings of a frozen study state."""
        executor, recipe = frozen.get("executor", {}), frozen.get("recipe", {})
        return cls(executor.get("gpus_per_trial", 1.0), recipe.get("threads", 1))

    def share(self, *, on_gpu: bool, cores: int | None = None) -> float:
        """Return the share of one device.

        Args:
            on_gpu: whether the worker runs on a GPU.
            cores: CPU cores of its machine; those of this machine by default.
        """
        if on_gpu:
            return self.gpus
        return min(1.0, self.threads / (cores or int(environment()["cores"])))

    def device_hours(self, seconds: float, *, on_gpu: bool, cores: int | None) -> float:
        """Return the device-hours of a worker that was busy for `seconds`."""
        return seconds / _SECONDS_PER_HOUR * self.share(on_gpu=on_gpu, cores=cores)


@dataclass(frozen=True)
class ComputeUsage:
    """Compute that a study has used in all its sessions.

    Attributes:
        hours: hours that workers were busy, by kind (see `USAGE_KINDS`); kinds without any are
            left out.
        device_hours: their sum, weighted by the share of a device.
    """

    hours: Mapping[str, float]
    device_hours: float

    def summary(self, limit: float | None = None, *, calls_function: bool = False) -> str:
        """Return one line such as `compute: 83 s training, 30 s measuring (0.016 device-hours)`.

        Args:
            limit: the budget in device-hours, if there is one.
            calls_function: whether a user function replaces training.
        """
        labels = _LABELS | ({"done": "in function calls"} if calls_function else {})
        parts = [f"{format_duration(hours)} {labels[kind]}" for kind, hours in self.hours.items()]
        is_whole = math.isclose(self.device_hours, sum(self.hours.values()))
        share = "" if is_whole else ", as workers use a part of the device"
        total = f"{self.device_hours:.3g}" + ("" if limit is None else f" of {limit:g}")
        return f"compute: {', '.join(parts) or 'none'} ({total} device-hours{share})"


def compute_usage(rows: Iterable[UsageRow], shares: DeviceShare) -> ComputeUsage:
    """Return the sum of a ledger's usage (see `LedgerReader.usage_rows`)."""
    hours: dict[str, float] = {}
    device_hours = 0.0
    for row in rows:
        seconds = row.seconds or 0.0
        hours[row.kind] = hours.get(row.kind, 0.0) + seconds / _SECONDS_PER_HOUR
        on_gpu = bool(row.on_gpu)
        device_hours += shares.device_hours(seconds, on_gpu=on_gpu, cores=row.cores)
    shown = {kind: hours[kind] for kind in USAGE_KINDS if hours.get(kind)}
    return ComputeUsage(shown, device_hours)


def format_duration(hours: float) -> str:
    """Return a duration such as `43 s`, `12.5 min` or `3.1 h`."""
    seconds = hours * _SECONDS_PER_HOUR
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if hours < 1.5 else f"{hours:.1f} h"
