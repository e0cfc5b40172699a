"""Context of jobs: where and how they run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partialnas.runs.records.record import CurveRow

if TYPE_CHECKING:
    from partialnas.runs.datasets.loaders import Splits  # imports torch


@dataclass(frozen=True)
class Context:
    """Where and how jobs run; not part of the identity of a trial.

    Attributes:
        device: `cpu`, `cuda` or `cuda:1`.
        splits: data of the task, if they are already loaded.
        folder: folder of the study for checkpoints and weights; None to save nothing.
        time_limit_s: seconds that the epochs of one trial may take.
        on_epoch: called with the key of the trial and each new row of its curve.
        lanes: seeds of a job that are trained side by side.
        gpu_share: share of the GPU that belongs to this process; 1 on a CPU.
        checkpoint_every_s: seconds of training that a killed process may lose, or one epoch if that
            is longer.
    """

    device: str = "cpu"
    splits: "Splits | None" = None
    folder: Path | None = None
    time_limit_s: float | None = None
    on_epoch: Callable[[str, CurveRow], None] | None = None
    lanes: int = 1
    gpu_share: float = 1.0
    checkpoint_every_s: float = 30.0
