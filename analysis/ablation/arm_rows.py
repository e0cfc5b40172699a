"""Trials of a study by arm, with its design: the input of the effects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.arms import load_arm_trials
from partialnas.analysis.frames.folders import Paths, study_folders
from partialnas.analysis.frames.provenance import StudyId
from partialnas.analysis.frames.trials import Trials
from partialnas.runs.config.design import Design, SequentialSeeds
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.space.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ArmRows:
    """The trials of a study's arms.

    Attributes:
        trials: one row per arm and seed; a trial that several arms share is repeated for each.
        arms: all arms of the study in its order, including those without trials.
        design: design of the ablation, or None for a plain list of arms.
        seeds: planned number of seeds of each arm.
        sequential: rule that determined the number of seeds, or None if it was fixed.
    """

    trials: Trials
    arms: tuple[str, ...]
    design: Design | None
    seeds: Mapping[str, int]
    sequential: SequentialSeeds | None

    @property
    def frame(self) -> pd.DataFrame:
        """One row per arm and seed, with the columns of `load`."""
        return self.trials.frame

    @property
    def studies(self) -> Sequence[StudyId]:
        """Studies of the trials."""
        return self.trials.studies


@dataclass(frozen=True)
class _Study:
    """Trials of a ledger by arm, and the recorded study."""

    trials: Trials
    recorded: RecordedStudy


def arm_rows(folders: Paths, condition: str | None = None) -> ArmRows:
    """Load the trials of the arms of one study, or of several with the same task and recipe.

    The arms of several studies are prefixed with the name of their study and have no design.

    Raises:
        UserError: there is no ledger or no arm, a condition must be chosen, or the tasks or recipes
            of the studies differ.
        MachineError: a ledger is damaged or cannot be read.
    """
    paths = study_folders(folders)
    studies = [_study(path, condition) for path in paths]
    _require_same_training(paths, studies, condition or "")
    return _single(studies[0]) if len(studies) == 1 else _combined(studies)


def no_ablation_message(trials: Trials) -> str:
    """Return why a search without arms to compare has no effects, and what to draw instead."""
    names = " and ".join(study.name for study in trials.studies)
    return (
        f"{names} is a search, not an ablation: it has no arms to compare; draw its results with "
        "`partialnas pareto` (in Python `pareto_figure`)"
    )


def is_search(folder: Path) -> bool:
    """Return whether a study is a search, in which named arms are baselines."""
    with Ledger.open(folder) as ledger:
        return ledger.study.is_search


def _study(folder: Path, condition: str | None) -> _Study:
    with Ledger.open(folder) as ledger:
        recorded = ledger.study
    trials = load_arm_trials(folder).under(condition)
    _require_one_condition(folder, trials.frame)
    return _Study(trials, recorded)


def _require_one_condition(folder: Path, frame: pd.DataFrame) -> None:
    if frame["condition"].nunique() > 1:
        names = ", ".join(frame["condition"].unique())
        raise UserError(
            f"{folder} has several conditions, which cannot share a table: choose one of {names} "
            "as the condition"
        )


def _require_same_training(
    paths: Sequence[Path | str], studies: Sequence[_Study], condition: str
) -> None:
    """Check that all studies have the same task and recipe."""
    settings = [study.recorded.settings(condition) for study in studies]
    functions = [study.recorded.frozen.get("trial") or "" for study in studies]
    first, *others = (
        _flat({"task": s["task"], "recipe": s["recipe"], "trial": function})
        for s, function in zip(settings, functions, strict=True)
    )
    for path, other in zip(paths[1:], others, strict=True):
        differences = [
            f"{key}: {first.get(key)!r} in {paths[0]}, {other.get(key)!r} in {path}"
            for key in dict.fromkeys([*first, *other])
            if first.get(key) != other.get(key)
        ]
        if differences:
            raise UserError(
                "these studies differ in task or recipe, so one table cannot compare them:\n  "
                + "\n  ".join(differences)
                + "\nMake a separate table for each."
            )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _single(study: _Study) -> ArmRows:
    recorded, frame = study.recorded, study.trials.frame
    planned = [arm.name for arm in recorded.design.arms] if recorded.design else []
    arms = tuple(dict.fromkeys([*planned, *recorded.frozen.get("arms", {}), *frame["arm"]]))
    if not arms:
        raise UserError(no_ablation_message(study.trials))
    return ArmRows(
        trials=study.trials,
        arms=arms,
        design=recorded.design,
        seeds=_seeds(recorded, arms),
        sequential=recorded.sequential,
    )


def _seeds(recorded: RecordedStudy, arms: Sequence[str]) -> dict[str, int]:
    """Return the planned number of seeds of each arm, from the study or from its seed rule."""
    if recorded.sequential is not None:
        return recorded.sequential.seeds
    stated = recorded.frozen.get("seeds", 0)
    number = stated["min"] if isinstance(stated, Mapping) else stated
    return dict.fromkeys(arms, int(number))


def _combined(studies: Sequence[_Study]) -> ArmRows:
    """Combine several studies into one list of arms, prefixed with the names of their studies."""
    parts = [_single(study) for study in studies]
    names = [str(rows.studies[0].name) for rows in parts]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(
            f"several of these folders hold a study called {' and '.join(repeated)}, so that their "
            "arms have the same names; make a separate table for each"
        )
    pairs = [(f"{name}: ", rows) for name, rows in zip(names, parts, strict=True)]
    frames = [rows.frame.assign(arm=prefix + rows.frame["arm"]) for prefix, rows in pairs]
    frame = pd.concat(frames, ignore_index=True)
    studies_named = [study for rows in parts for study in rows.studies]
    classes = {place: n for rows in parts for place, n in rows.trials.classes.items()}
    return ArmRows(
        trials=replace(parts[0].trials, frame=frame, studies=studies_named, classes=classes),
        arms=tuple(prefix + arm for prefix, rows in pairs for arm in rows.arms),
        design=None,
        seeds={prefix + arm: n for prefix, rows in pairs for arm, n in rows.seeds.items()},
        sequential=None,
    )
