"""Settings of trials as columns: axis values of the network, task and recipe."""

import json
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import numpy as np
import pandas as pd
from pydantic_core import from_json

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import RecordedStudy

PARAMS_PREFIX = "params_"
"""Beginning of the names of columns with axis values and factor levels, as Optuna names them."""

TASK_COLUMNS = tuple(f"task_{name}" for name in Task.model_fields)
"""Columns of the task of a trial."""

RECIPE_COLUMNS = tuple(f"recipe_{name}" for name in Recipe.model_fields)
"""Columns of the recipe of a trial."""

_RECIPE, _RESOLUTION = "recipe.", "task.resolution"

_Plain = Mapping[str, Any]


def load_settings(folder: Path, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the settings of the trials of a study, with the index of their frame.

    The columns are `params_AXIS` for each axis of which a value is recorded (see `axis_points`),
    then `TASK_COLUMNS` and `RECIPE_COLUMNS`, with the changes that condition, stage, arm and rung
    of a trial make. `recipe_epochs` is the length of the trial itself.

    Args:
        folder: folder of the study.
        trials: trials of this study, with the columns of `load_trials`.

    Raises:
        UserError: the folder holds no ledger.
        MachineError: the ledger is damaged or cannot be read.
    """
    with Ledger.open(folder) as ledger:
        study, requests = ledger.study, _requests(ledger, trials)
    points = _points(study, trials["arm"], requests)
    axes = dict.fromkeys(axis for point in points for axis in point)
    columns = {f"{PARAMS_PREFIX}{axis}": typed([p.get(axis) for p in points]) for axis in axes}
    contexts = [*zip(trials["condition"], trials["stage"], *_changes(requests), strict=True)]
    codes = {context: code for code, context in enumerate(dict.fromkeys(contexts))}
    places = np.array([codes[context] for context in contexts], dtype=np.int64)
    settings = [_task_and_recipe(study, *context) for context in codes]
    for which, (prefix, model) in enumerate((("task_", Task), ("recipe_", Recipe))):
        for name, field in model.model_fields.items():
            values = [plain[which].get(name) for plain in settings]
            columns[prefix + name] = typed(values, _dtype(field.annotation)).take(places)
    return pd.DataFrame(columns, index=trials.index).assign(recipe_epochs=trials["fidelity"])


def axis_points(ledger: Ledger, trials: pd.DataFrame) -> list[_Plain]:
    """Return what was chosen on each axis for the network of each trial.

    In a search it is what the sampler proposed, in an ablation the levels of the arm's factors. An
    axis is missing where it is inactive; named networks without levels have none.

    Args:
        ledger: ledger of the study.
        trials: trials of this study, with `trial` and `arm`.
    """
    return _points(ledger.study, trials["arm"], _requests(ledger, trials))


def axis_names(study: RecordedStudy) -> set[str]:
    """Return the names of the axes of a study's space and of the factors of its design."""
    space = study.frozen.get("space") or {}
    factors = study.design.factors if study.design else ()
    return {*space.get("axes", ()), *(factor.name for factor in factors)}


def setting_columns(frame: pd.DataFrame, axes: Collection[str]) -> list[str]:
    """Return the columns of a frame that hold settings, given the names of axes of its studies.

    A level of an axis per stage has the name `params_AXIS@stage2`.
    """
    names = {*TASK_COLUMNS, *RECIPE_COLUMNS, *(f"{PARAMS_PREFIX}{axis}" for axis in axes)}
    return [key for key in map(str, frame.columns) if key.partition("@")[0] in names]


class _Requests(NamedTuple):
    """The proposals of a study, and which one requested each trial.

    Attributes:
        places: position of the proposal of each trial.
        arms: name of the arm of each proposal, or None for a network of a search.
        digests: digest of the network of each proposal.
        notes: plain data that the proposals were recorded with.
    """

    places: list[int]
    arms: list[str | None]
    digests: list[str]
    notes: list[_Plain]


def _requests(ledger: Ledger, trials: pd.DataFrame) -> _Requests:
    numbers = ledger.trial_columns("proposal")["proposal"]
    columns = ledger.proposal_columns("arm", "digest", "proposal")
    notes = from_json(f"[{','.join(columns['proposal'])}]")
    # trials and proposals are numbered from 1 without gaps
    places = [numbers[trial - 1] - 1 for trial in trials["trial"].tolist()]
    return _Requests(places, columns["arm"], columns["digest"], notes)


def _points(study: RecordedStudy, arms: "pd.Series[str]", requests: _Requests) -> list[_Plain]:
    """Return the point of each trial; a promotion has the point of its network."""
    levels = {arm.name: arm.levels for arm in study.design.arms} if study.design else {}
    points = [*map(_point, requests.notes)]
    first: dict[str, _Plain] = {}
    for digest, point in zip(requests.digests, points, strict=True):
        if point:
            first.setdefault(digest, point)
    points = [
        point or first.get(digest, {})
        for digest, point in zip(requests.digests, points, strict=True)
    ]
    pairs = zip(arms.tolist(), requests.places, strict=True)
    return [levels.get(arm) or points[place] for arm, place in pairs]


def _point(note: _Plain) -> _Plain:
    """Return the point that a sampler recorded with a proposal, or nothing."""
    point = note.get("params") or note.get("point")
    return point if isinstance(point, dict) else {}


def _changes(requests: _Requests) -> tuple[list[int], list[str]]:
    """Return the rung of each trial, and the changes of its arm to the recipe as JSON."""
    pairs = [
        (int(note.get("rung", 1)), "{}") if arm is None else (0, json.dumps(note.get("recipe", {})))
        for arm, note in zip(requests.arms, requests.notes, strict=True)
    ]
    chosen = [pairs[place] for place in requests.places]
    return [rung for rung, _ in chosen], [changes for _, changes in chosen]


def _task_and_recipe(
    study: RecordedStudy, condition: str, stage: str, rung: int, changes: str
) -> tuple[_Plain, _Plain]:
    """Return the plain settings of trials; empty if the ledger does not record them."""
    recipe = study.settings(condition)["recipe"]
    if stage in study.stages:
        recipe = study.stages[stage].recipe
    lower = _rung_settings(study, stage, rung)
    on_rung = {k.removeprefix(_RECIPE): v for k, v in lower.items() if k.startswith(_RECIPE)}
    if recipe:
        defaults = {name: field.default for name, field in Recipe.model_fields.items()}
        recipe = {**defaults, **recipe, **on_rung, **json.loads(changes)}
        shares = {k: float(Fraction(recipe[k])) for k in ("data_share", "width_share")}
        recipe = recipe | shares
    task = study.tasks.get(condition) if "task" in study.meta else None
    side = {"resolution": lower[_RESOLUTION]} if _RESOLUTION in lower else {}
    return {**task.model_dump(), **side} if task else {}, recipe


def _rung_settings(study: RecordedStudy, stage: str, rung: int) -> _Plain:
    """Return the settings of a rung below the last; of the one that a stage of an audit repeats."""
    rungs = (study.frozen.get("search") or {}).get("rungs") or []
    of_stage = {fidelity.stage: fidelity.rung for fidelity in study.fidelities("")} if rungs else {}
    number = of_stage.get(stage, 0) if stage else rung
    settings: _Plain = rungs[number - 1] if 1 <= number <= len(rungs) else {}
    return settings


def _dtype(annotation: Any) -> str:
    """Return the type of the column of a setting."""
    kinds = get_args(annotation) or (annotation,)
    if bool in kinds:
        return "boolean"
    if int in kinds:
        return "Int64"
    return "float64" if {float, Fraction} & {*kinds} else "str"


def typed(values: Sequence[Any], dtype: str | None = None) -> Any:
    """Return plain values, None if missing, as an array of pandas.

    Args:
        values: values.
        dtype: type of the array; by default integers, numbers, truth values or texts, whichever
            represents all values.
    """
    kinds = {*map(type, values)} - {type(None)}
    if dtype is None:
        numbers = {frozenset([bool]): "boolean", frozenset([int]): "Int64"}
        real = "float64" if kinds <= {int, float} else "str"
        dtype = numbers.get(frozenset(kinds), real)
    if dtype == "str" and kinds - {str}:
        values = [value if value is None else str(value) for value in values]
    return pd.Series([*values], dtype=cast(Any, dtype)).array
