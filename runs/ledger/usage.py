"""What a study has spent: hours by what became of them, and device-hours. Takes no torch.

One device-hour is one device for an hour: a whole GPU, or all cores of a machine. A trial on a GPU
has the share `executor.gpus_per_trial` of one, on a CPU as many cores as `recipe.threads`; a
measurement has the share of the worker that takes it. What was lost with an interrupted sitting
counts only as far as a trial went on from it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from partialnas.runs.ledger.rows import UsageRow
from partialnas.runs.system.environment import environment

USAGE_KINDS = ("done", "early", "failed", "timeout", "measuring")
"""What hours go to: trials by the state that they ended in, and measuring."""

_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class DeviceShare:
    """The share of a device that one worker of a study has.

    Attributes:
        gpus: of one GPU, or several.
        threads: cores, on a CPU.
    """

    gpus: float = 1.0
    threads: int = 1

    @classmethod
    def from_study(cls, frozen: Mapping[str, Any]) -> "DeviceShare":
        """Those of a study, as its ledger keeps it."""
        executor, recipe = frozen.get("executor", {}), frozen.get("recipe", {})
        return cls(executor.get("gpus_per_trial", 1.0), recipe.get("threads", 1))

    def share(self, *, on_gpu: bool, cores: int | None = None) -> float:
        """Of the device that a worker runs on; of this machine where no cores are told."""
        if on_gpu:
            return self.gpus
        return min(1.0, self.threads / (cores or int(environment()["cores"])))

    def device_hours(self, seconds: float, *, on_gpu: bool, cores: int | None) -> float:
        """What a worker that was busy for so many seconds has spent."""
        return seconds / _SECONDS_PER_HOUR * self.share(on_gpu=on_gpu, cores=cores)


@dataclass(frozen=True)
class ComputeUsage:
    """What a study has spent in all its sittings.

    Attributes:
        hours: that workers were busy, by kind (see `USAGE_KINDS`); kinds without any are left out.
        device_hours: all of them, each times the share of a device that it had.
    """

    hours: Mapping[str, float]
    device_hours: float

    def summary(self) -> str:
        """One line for a reader."""
        parts = [f"{kind} {format_duration(hours)}" for kind, hours in self.hours.items()]
        return f"spent: {', '.join(parts)}; {self.device_hours:.3g} device-hours"


def compute_usage(work: Iterable[UsageRow], shares: DeviceShare) -> ComputeUsage:
    """The sum of a ledger's work (see `Ledger.work`)."""
    hours: dict[str, float] = {}
    device_hours = 0.0
    for each in work:
        seconds = each.seconds or 0.0
        hours[each.kind] = hours.get(each.kind, 0.0) + seconds / _SECONDS_PER_HOUR
        on_gpu = bool(each.on_gpu)
        device_hours += shares.device_hours(seconds, on_gpu=on_gpu, cores=each.cores)
    return ComputeUsage(
        {kind: hours[kind] for kind in USAGE_KINDS if hours.get(kind)}, device_hours
    )


def format_duration(hours: float) -> str:
    """A time as a reader likes it: `43 s`, `12.5 min`, `3.1 h`."""
    seconds = hours * _SECONDS_PER_HOUR
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if hours < 1.5 else f"{hours:.1f} h"
