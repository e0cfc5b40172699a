"""Trials of studies together with the settings of these studies."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.arrays import Objectives
from partialnas.analysis.frames.columns import find_quantity
from partialnas.analysis.frames.provenance import StudyId, identify_study
from partialnas.analysis.frames.settings import axis_names
from partialnas.runs.config.quantities import (
    Quantity,
    differs_by_seed,
    direction_error,
    is_measured,
)
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest

Limits = Mapping[str, Mapping[str, Any]]
"""Limits of each study as plain data, by the study's folder."""

TIMING_COLUMN = "timing_setup"
"""Column of a frame from `load(..., timing=...)`: the settings that replace the study's own."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trials of one or several studies, with the settings that tables and figures need.

    Analysis passes this value around. Users may pass the plain frame that `load` returns instead,
    or folders: every public function that takes trials accepts either (see `as_trials`).

    Attributes:
        frame: one row per trial, with the columns of `load`.
        objectives: objectives of the first study and their directions.
        study_objectives: objectives of each study, by folder; they decide who is on its front.
        reference_point: reference point of the hypervolume that the first study stored.
        limits: limits of each study, by folder.
        studies: names and digests of the studies, in the order given.
        timing: settings that replace the studies' own measuring protocol, or None.
        axes: names of the axes and factors of the studies.
        classes: number of classes of each task, by the folder of the study and the condition.
    """

    frame: pd.DataFrame
    objectives: Objectives = field(default_factory=dict)
    study_objectives: Mapping[str, Objectives] = field(default_factory=dict)
    reference_point: Mapping[str, float] = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)
    studies: Sequence[StudyId] = ()
    timing: str | None = None
    axes: frozenset[str] = frozenset()
    classes: Mapping[tuple[str, str], int] = field(default_factory=dict)

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
        objectives = {
            str(folder): study.frozen.get("objectives", {})
            for folder, study in zip(folders, recorded, strict=True)
        }
        return cls(
            frame=frame,
            objectives=next(iter(objectives.values()), {}),
            study_objectives=objectives,
            reference_point=recorded[0].reference_point if recorded else {},
            limits={
                str(folder): _limits(study.frozen, timing)
                for folder, study in zip(folders, recorded, strict=True)
            },
            studies=[identify_study(s, f) for s, f in zip(recorded, folders, strict=True)],
            timing=timing,
            axes=frozenset().union(*map(axis_names, recorded)),
            classes={
                (str(folder), condition): task.classes
                for folder, study in zip(folders, recorded, strict=True)
                if "task" in study.meta
                for condition, task in study.tasks.items()
            },
        )

    def with_frame(self, frame: pd.DataFrame) -> "Trials":
        """Return other trials of the same studies."""
        return replace(self, frame=frame)

    def where(self, mask: "pd.Series[bool]") -> "Trials":
        """Return the trials that a mask selects."""
        return self.with_frame(self.frame[mask])

    def quantity(self, name: str) -> Quantity:
        """Return the quantity called `name`, see `find_quantity`.

        Raises:
            UserError: there is no such quantity, or `name` states the wrong direction for a
                registered one that is not such an objective of the study.
        """
        key, _, direction = name.partition(":")
        directions = ChainMap({**self.objectives}, *map(dict, self.study_objectives.values()))
        stated_by_study = directions.get(key) == direction
        if direction and not stated_by_study and (error := direction_error(key, direction)):
            raise UserError(f"{name}: {error}; write {key}")
        return find_quantity(name, self.frame, directions)

    def objectives_of(self, folder: str) -> Objectives:
        """Return the objectives of the study in a folder; none for reference families (`""`)."""
        return self.study_objectives.get(folder, self.objectives if folder else {})

    def under(self, condition: str | None) -> "Trials":
        """Return the trials that were run under a condition; all of them for None.

        Raises:
            UserError: no trial was run under this condition.
        """
        if condition is None:
            return self
        trials = self.where(self.frame["condition"].eq(condition))
        if trials.frame.empty:
            hint = suggest(condition, filter(None, self.frame["condition"].unique()))
            hint = hint or "the study has no conditions"
            raise UserError(f"no trial under the condition {quote(condition)}; {hint}")
        return trials

    @property
    def deciding_quantity(self) -> str:
        """First trained objective, which comparisons are based on; `val_nll` if none is trained."""
        return next(filter(differs_by_seed, self.objectives), "val_nll")

    def default_axes(self) -> tuple[str, str]:
        """Return two objectives of the study: a counted or measured one, and the deciding quantity.

        If all objectives are trained, the first axis is the second of them; if none is, the axes
        are the first two. What is missing is filled up: with throughput if any was measured, else
        multiply–accumulates, and with validation log-likelihood.
        """
        y = self.deciding_quantity
        costs = [key for key in self.objectives if not differs_by_seed(key)]
        if y not in self.objectives and len(costs) > 1:
            return costs[0], costs[1]
        others = [key for key in self.objectives if key not in (y, *costs)]
        measured = self.frame["throughput_img_s"].notna().any()
        return [*costs, *others, "throughput_img_s" if measured else "macs"][0], y


def _recorded_study(folder: Path) -> RecordedStudy:
    with Ledger.open(folder) as ledger:
        return ledger.study


def _limits(study: Mapping[str, Any], timing: str | None) -> dict[str, Any]:
    """Return a study's limits; with other timing settings those on measured values do not apply."""
    limits: dict[str, Any] = study.get("limits", {})
    if timing is None:
        return limits
    return {key: limit for key, limit in limits.items() if not is_measured(key)}
