"""Where and how the jobs of a study run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from partialnas.runs.records.record import CurveRow

if TYPE_CHECKING:
    from partialnas.runs.datasets.loaders import (
        Splits,  # takes torch, which a table to look up can do without
    )


@dataclass(frozen=True)
class Context:
    """Where and how jobs run. Nothing of it belongs to a trial's identity.

    Attributes:
        device: `cpu`, `cuda` or `cuda:1`.
        splits: the task's data, if they are loaded already.
        folder: of the study; checkpoints and weights go there, and nowhere without it.
        time_limit_s: seconds that the epochs of one trial may take.
        on_epoch: is told the trial's key and each new row of its curve.
    """

    device: str = "cpu"
    splits: "Splits | None" = None
    folder: Path | None = None
    time_limit_s: float | None = None
    on_epoch: Callable[[str, CurveRow], None] | None = None
