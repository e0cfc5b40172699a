"""Trials of studies together with the settings of these studies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.arrays import Objectives
from partialnas.analysis.frames.columns import find_quantity
from partialnas.analysis.frames.provenance import StudyId, identify_study
from partialnas.runs.config.quantities import QUANTITIES, Quantity, differs_by_seed
from partialnas.runs.ledger.file import LEDGER_FILE
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.space.errors import UserError

Limits = Mapping[str, Mapping[str, Any]]
"""Limits of each study as plain data, by the study's folder."""

TIMING_COLUMN = "timing_setup"
"""Column of a frame from `load(..., timing=...)`: the settings that replace the study's own."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trials of one or several studies, with the settings that tables and figures need.

    Analysis passes this value around. Users may pass the plain frame that `load` returns instead:
    every public function that takes trials accepts either (see `as_trials`).

    Attributes:
        frame: one row per trial, with the columns of `load`.
        objectives: objectives of the first study and their directions.
        reference_point: reference point of the hypervolume that the first study stored.
        limits: limits of each study, by folder.
        studies: names and digests of the studies, in the order given.
        timing: settings that replace the studies' own measuring protocol, or None.
    """

    frame: pd.DataFrame
    objectives: Objectives = field(default_factory=dict)
    reference_point: Mapping[str, float] = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)
    studies: Sequence[StudyId] = ()
    timing: str | None = None

    @classmethod
    def of_studies(
        cls, frame: pd.DataFrame, folders: Sequence[Path], timing: str | None = None
    ) -> "Trials":
        """Return the trials with the settings of their studies, read from the ledgers.

        Raises:
            UserError: a folder holds no ledger.
            MachineError: a ledger is damaged or cannot be read.
        """
        recorded = [_recorded_study(folder) for folder in folders]
        return cls(
            frame=frame,
            objectives=recorded[0].frozen.get("objectives", {}) if recorded else {},
            reference_point=recorded[0].reference_point if recorded else {},
            limits={
                str(folder): _limits(study.frozen, timing)
                for folder, study in zip(folders, recorded, strict=True)
            },
            studies=[identify_study(s, f) for s, f in zip(recorded, folders, strict=True)],
            timing=timing,
        )

    def with_frame(self, frame: pd.DataFrame) -> "Trials":
        """Return other trials of the same studies."""
        return replace(self, frame=frame)

    def where(self, mask: "pd.Series[bool]") -> "Trials":
        """Return the trials that a mask selects."""
        return self.with_frame(self.frame[mask])

    def quantity(self, name: str) -> Quantity:
        """Return the quantity called `name`, see `find_quantity`."""
        return find_quantity(name, self.frame, self.objectives)

    def under(self, condition: str | None) -> "Trials":
        """Return the trials that were run under a condition; all of them for None.

        Raises:
            UserError: no trial was run under this condition.
        """
        if condition is None:
            return self
        trials = self.where(self.frame["condition"].eq(condition))
        if trials.frame.empty:
            names = ", ".join(filter(None, self.frame["condition"].unique())) or "none"
            raise UserError(f"no trial was run under condition {condition!r}; conditions: {names}")
        return trials

    def default_axes(self) -> tuple[str, str]:
        """Return the study's first counted or measured objective, and its first trained one.

        Without such objectives: throughput if any was measured, else multiply–accumulates, and
        validation log-likelihood.
        """
        trained = [key for key in self.objectives if differs_by_seed(key)]
        costs = [key for key in self.objectives if key not in trained]
        measured = self.frame["throughput_img_s"].notna().any()
        costs.append("throughput_img_s" if measured else "macs")
        return costs[0], [*trained, "val_nll"][0]


def as_trials(trials: Trials | pd.DataFrame) -> Trials:
    """Return trials with the settings of their studies.

    The settings of a plain frame are read from the ledgers of the folders that its column `folder`
    names, so that they survive whatever the user did to the frame: filtering, grouping,
    concatenation. Nothing is known of a folder that holds no ledger: its trials have no limits,
    and files made from them carry no stamp.

    Raises:
        UserError: the trials were loaded with different settings of `timing`.
        MachineError: a ledger is damaged or cannot be read.
    """
    if isinstance(trials, Trials):
        return trials
    frame, timing = trials, None
    if TIMING_COLUMN in frame:
        setups = [*frame[TIMING_COLUMN].unique()]
        if len(setups) > 1:
            raise UserError(
                "these trials were loaded with different timing settings "
                f"({', '.join(map(str, setups))}); load all of them with the same `timing`"
            )
        frame, timing = frame.drop(columns=TIMING_COLUMN), next(iter(setups), None)
    named = [Path(name) for name in frame["folder"].unique() if name] if "folder" in frame else []
    folders = [folder for folder in named if (folder / LEDGER_FILE).is_file()]
    return Trials.of_studies(frame, folders, timing)


def _recorded_study(folder: Path) -> RecordedStudy:
    with Ledger.open(folder) as ledger:
        return ledger.study


def _limits(study: Mapping[str, Any], timing: str | None) -> dict[str, Any]:
    """Return a study's limits; with other timing settings those on speeds do not apply."""
    limits: dict[str, Any] = study.get("limits", {})
    if timing is None:
        return limits
    return {k: v for k, v in limits.items() if k not in QUANTITIES or not QUANTITIES[k].timed}
