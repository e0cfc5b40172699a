"""The trials of a study by arm, with its design: what effects are computed from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.arms import load_arm_trials
from partialnas.analysis.frames.provenance import StudyId
from partialnas.analysis.frames.selection import select_condition
from partialnas.runs.config.design import Design, SequentialSeeds
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.space.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ArmRows:
    """The trials of a study's arms.

    Attributes:
        frame: one row per arm and seed, a trial that several arms share under each of them.
        arms: all that there should be, in the study's order, also those without a trial.
        design: of an ablation.
        studies: that the trials are of.
        seeds: how many each arm should have.
        sequential: how seeds were added by rule; None where they were not.
    """

    frame: pd.DataFrame
    arms: tuple[str, ...]
    design: Design | None
    studies: Sequence[StudyId]
    seeds: Mapping[str, int]
    sequential: SequentialSeeds | None

    @property
    def first_stage(self) -> tuple[int, ...] | None:
        """The seeds that fixed how many more were run; None where their number was fixed."""
        return self.sequential.first_stage if self.sequential else None


@dataclass(frozen=True)
class _Study:
    """A ledger's trials by arm and what it knows of itself."""

    frame: pd.DataFrame
    recorded: RecordedStudy


def arm_rows(folders: Path | str | Iterable[Path | str], condition: str | None = None) -> ArmRows:
    """The trials of the arms of a study, or of several that were trained alike.

    Of several studies each arm carries its study's name, and there is no design.

    Raises:
        UserError: no ledger, no arms, a condition to be chosen, or studies whose tasks or recipes
            differ.
        MachineError: a ledger is damaged or cannot be read.
    """
    paths = [folders] if isinstance(folders, str | Path) else [*folders]
    if not paths:
        raise UserError("no study named: give at least one folder that `partialnas run` wrote")
    studies = [_study(Path(path), condition) for path in dict.fromkeys(paths)]
    _require_alike(paths, studies, condition or "")
    return _one(studies[0]) if len(studies) == 1 else _together(studies)


def is_search(folder: Path) -> bool:
    """Whether a study searches, so that its named arms are baselines beside a front."""
    with Ledger.open(folder) as ledger:
        return ledger.study.is_search


def _study(folder: Path, condition: str | None) -> _Study:
    with Ledger.open(folder) as ledger:
        recorded = ledger.study
    frame = select_condition(load_arm_trials(folder), condition)
    _require_one_condition(folder, frame)
    return _Study(frame, recorded)


def _require_one_condition(folder: Path, frame: pd.DataFrame) -> None:
    if frame["condition"].nunique() > 1:
        names = ", ".join(frame["condition"].unique())
        raise UserError(
            f"{folder} was run under several conditions, which share no table: choose one of "
            f"{names} with --condition"
        )


def _require_alike(paths: Sequence[Path | str], studies: Sequence[_Study], condition: str) -> None:
    """Refuses studies that were not trained alike, with what differs."""
    parts = [
        {part: study.recorded.settings(condition)[part] for part in ("task", "recipe")}
        for study in studies
    ]
    first = _flat(parts[0])
    for path, other in zip(paths[1:], map(_flat, parts[1:]), strict=True):
        apart = [
            f"{key}: {first.get(key)!r} in {paths[0]}, {other.get(key)!r} in {path}"
            for key in dict.fromkeys([*first, *other])
            if first.get(key) != other.get(key)
        ]
        if apart:
            raise UserError(
                "these studies were not trained alike, so no table can compare them:\n  "
                + "\n  ".join(apart)
                + "\nMake a table of each."
            )


def _flat(settings: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{at}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _one(study: _Study) -> ArmRows:
    own = study.frame
    planned = [arm.name for arm in study.recorded.design.arms] if study.recorded.design else []
    arms = tuple(dict.fromkeys([*planned, *study.recorded.frozen.get("arms", {}), *own["arm"]]))
    if not arms:
        raise UserError("no arms: nothing to compare; `partialnas pareto` draws what was searched")
    return ArmRows(
        frame=own,
        arms=arms,
        design=study.recorded.design,
        studies=own.attrs["studies"],
        seeds=_seeds(study, arms),
        sequential=study.recorded.sequential,
    )


def _seeds(study: _Study, arms: Sequence[str]) -> dict[str, int]:
    """How many seeds each arm should have, by the study or by the rule that added some."""
    if study.recorded.sequential is not None:
        return study.recorded.sequential.seeds
    stated = study.recorded.frozen.get("seeds", 0)
    number = stated["min"] if isinstance(stated, Mapping) else stated
    return dict.fromkeys(arms, int(number))


def _together(studies: Sequence[_Study]) -> ArmRows:
    """Several studies as one list of arms, each named with its study."""
    each = [_one(study) for study in studies]
    names = [str(rows.studies[0].name) for rows in each]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(
            f"several of these folders hold a study called {' and '.join(twice)}, so no table can "
            "tell their arms apart; make a table of each"
        )
    frames = [
        rows.frame.assign(arm=name + ": " + rows.frame["arm"])
        for name, rows in zip(names, each, strict=True)
    ]
    frame = pd.concat(frames, ignore_index=True)
    studies_named = [study for rows in each for study in rows.studies]
    frame.attrs = {**each[0].frame.attrs, "studies": studies_named}
    return ArmRows(
        frame=frame,
        arms=tuple(f"{n}: {a}" for n, rows in zip(names, each, strict=True) for a in rows.arms),
        design=None,
        studies=studies_named,
        seeds={
            f"{name}: {arm}": number
            for name, rows in zip(names, each, strict=True)
            for arm, number in rows.seeds.items()
        },
        sequential=None,
    )
