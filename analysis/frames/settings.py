"""Settings of trials as columns: axis values of the network, task and recipe."""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args

import numpy as np
import numpy.typing as npt
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

_FUNCTION_SETTINGS = ("epochs", "threads")
"""Settings of the recipe that reach a user function in place of training."""

_RECIPE, _RESOLUTION = "recipe.", "task.resolution"

_BLOCK = 1000
"""Number of proposals whose notes are parsed at once."""

Integers = npt.NDArray[np.int64]

_Plain = Mapping[str, Any]
T = TypeVar("T")


def load_settings(folder: Path, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the settings of the trials of a study, with the index of their frame.

    The columns are `params_AXIS` for each axis of which a value is recorded (see `axis_points`),
    then `TASK_COLUMNS` and `RECIPE_COLUMNS`, with the changes that condition, stage, arm and rung
    of a trial make. `recipe_epochs` is the length of the trial itself. Columns of settings that a
    user function in place of training does not get are left out.

    Args:
        folder: folder of the study.
        trials: trials of this study, with the columns of `load_trials`.

    Raises:
        UserError: the folder holds no ledger.
        MachineError: the ledger is damaged or cannot be read.
    """
    with Ledger.open(folder) as ledger:
        study, proposals = ledger.study, _read_proposals(ledger)
        places = _request_places(ledger, trials)
        chosen = _with_points(ledger, proposals, places)
    levels = _levels_by_arm(study)
    columns = {
        f"{PARAMS_PREFIX}{axis}": typed(values).take(chosen, allow_fill=True)
        for axis, values in proposals.values.items()
    }
    for factor in dict.fromkeys(chain.from_iterable(levels.values())):
        of_arms = [levels.get(arm, {}).get(factor) for arm in trials["arm"]]
        columns[f"{PARAMS_PREFIX}{factor}"] = typed(_numbers(of_arms))
    stages = (trials["condition"].tolist(), trials["stage"].tolist())
    changes = [proposals.changes[place] for place in places.tolist()]
    contexts, rows = _distinct_rows(*stages, changes)
    settings = [_task_and_recipe(study, *context) for context in contexts]
    fields = Task.model_fields, used_settings(study.frozen, Recipe.model_fields)
    for which, (prefix, of_model) in enumerate(zip(("task_", "recipe_"), fields, strict=True)):
        for name, field in of_model.items():
            plain = [both[which].get(name) for both in settings]
            columns[prefix + name] = typed(plain, _dtype(field.annotation)).take(rows)
    return pd.DataFrame(columns, index=trials.index).assign(recipe_epochs=trials["fidelity"])


def axis_points(ledger: Ledger, trials: pd.DataFrame) -> list[_Plain]:
    """Return what was chosen on each axis for the network of each trial.

    In a search it is what the sampler proposed, in an ablation the levels of the arm's factors. An
    axis is missing where it is inactive; named networks without levels have none.

    Args:
        ledger: ledger of the study.
        trials: trials of this study, with `trial` and `arm`.
    """
    proposals, levels = _read_proposals(ledger), _levels_by_arm(ledger.study)
    places = _with_points(ledger, proposals, _request_places(ledger, trials))
    columns = proposals.values.items()
    points = [
        {axis: values[place] for axis, values in columns if values[place] is not None}
        if place >= 0
        else {}
        for place in places.tolist()
    ]
    return [levels.get(arm) or point for arm, point in zip(trials["arm"], points, strict=True)]


def axis_names(study: RecordedStudy) -> set[str]:
    """Return the names of the axes of a study's space and of the factors of its design."""
    space = study.frozen.get("space") or {}
    factors = study.design.factors if study.design else ()
    return {*space.get("axes", ()), *(factor.name for factor in factors)}


def used_settings(frozen: _Plain, recipe: Mapping[str, T]) -> dict[str, T]:
    """Return the settings of a recipe that the trials of a recorded study use."""
    return {
        name: setting
        for name, setting in recipe.items()
        if name in _FUNCTION_SETTINGS or not frozen.get("trial")
    }


def setting_columns(frame: pd.DataFrame, axes: Collection[str]) -> list[str]:
    """Return the columns of a frame that hold settings, given the names of axes of its studies.

    A level of an axis per stage has the name `params_AXIS@stage2`.
    """
    names = {*TASK_COLUMNS, *RECIPE_COLUMNS, *(f"{PARAMS_PREFIX}{axis}" for axis in axes)}
    return [key for key in map(str, frame.columns) if key.partition("@")[0] in names]


class _Proposals(NamedTuple):
    """What proposals were recorded with, by their position.

    Attributes:
        values: value on each axis; None where it is missing.
        has_point: whether a sampler chose the network, so that there are values.
        changes: rung of the network, and changes of an arm to the recipe as JSON.
    """

    values: dict[str, list[Any]]
    has_point: list[bool]
    changes: list[tuple[int, str]]


def _read_proposals(ledger: Ledger) -> _Proposals:
    columns = ledger.proposal_columns("arm", "proposal")
    arms, texts = columns["arm"], columns["proposal"]
    proposals = _Proposals({}, [], [])
    for start in range(0, len(texts), _BLOCK):  # notes of few proposals fit into the cache
        notes = from_json(f"[{','.join(texts[start : start + _BLOCK])}]")
        points = [note.get("params") or note.get("point") or {} for note in notes]
        proposals.has_point.extend(map(bool, points))
        for axis, values in _values_by_axis(points).items():
            proposals.values.setdefault(axis, [None] * start).extend(values)
        for values in proposals.values.values():
            values.extend([None] * (start + len(notes) - len(values)))
        of_arms = zip(arms[start : start + _BLOCK], notes, strict=True)
        proposals.changes.extend(
            (note.get("rung", 1), "{}") if arm is None else (0, json.dumps(note.get("recipe", {})))
            for arm, note in of_arms
        )
    return proposals


def _values_by_axis(points: list[_Plain]) -> dict[str, Sequence[Any]]:
    """Return the values of points on each axis, None where it is missing."""
    axes = [*dict.fromkeys(chain.from_iterable(points))]
    if len(axes) > 1 and sum(map(len, points)) == len(axes) * len(points):
        # all points have all axes, as in most long searches: three times as fast
        return dict(zip(axes, zip(*map(itemgetter(*axes), points), strict=True), strict=True))
    return {axis: [point.get(axis) for point in points] for axis in axes}


def _request_places(ledger: Ledger, trials: pd.DataFrame) -> Integers:
    """Return the position of the proposal that requested each trial."""
    numbers = np.array(ledger.trial_columns("proposal")["proposal"], dtype=np.int64)
    places: Integers = numbers[trials["trial"].to_numpy() - 1] - 1  # numbered without gaps
    return places


def _with_points(ledger: Ledger, proposals: _Proposals, places: Integers) -> Integers:
    """Return the position of a proposal with the point of each network, or -1 without any.

    A promotion has the point of the first proposal of its network.
    """
    if all(proposals.has_point):
        return places
    digests = ledger.proposal_columns("digest")["digest"]
    rows = [*zip(digests, proposals.has_point, range(len(digests)), strict=True)]
    first = {digest: place for digest, has_point, place in reversed(rows) if has_point}
    sources = [place if has_point else first.get(digest, -1) for digest, has_point, place in rows]
    return np.array(sources, dtype=np.int64)[places]


def _levels_by_arm(study: RecordedStudy) -> dict[str, dict[str, str]]:
    return {arm.name: arm.levels for arm in study.design.arms} if study.design else {}


def _numbers(levels: Sequence[str | None]) -> Sequence[Any]:
    """Return the levels of a factor as numbers if all are numbers, as axis values of a search."""
    for number in (int, float):
        with suppress(ValueError):
            return [None if level is None else number(level) for level in levels]
    return levels


def _distinct_rows(*columns: Sequence[Any]) -> tuple[list[Any], Any]:
    """Return the distinct rows of columns, and the position of each row among them."""
    if all(len({*column}) == 1 for column in columns):  # much faster than the general case
        return [next(zip(*columns, strict=True))], np.zeros(len(columns[0]), dtype=np.int64)
    rows = [*zip(*columns, strict=True)]
    codes = {row: code for code, row in enumerate(dict.fromkeys(rows))}
    return [*codes], np.array([codes[row] for row in rows], dtype=np.int64)


def _task_and_recipe(
    study: RecordedStudy, condition: str, stage: str, change: tuple[int, str]
) -> tuple[_Plain, _Plain]:
    """Return the plain settings of trials; empty if the ledger does not record them."""
    rung, changes = change
    recipe = study.settings(condition)["recipe"]
    if stage in study.stages:
        recipe = study.stages[stage].recipe
    lower = study.rung_settings(stage, rung)
    on_rung = {k.removeprefix(_RECIPE): v for k, v in lower.items() if k.startswith(_RECIPE)}
    if recipe:
        defaults = {name: field.default for name, field in Recipe.model_fields.items()}
        recipe = {**defaults, **recipe, **on_rung, **json.loads(changes)}
        shares = {k: float(Fraction(recipe[k])) for k in ("data_share", "width_share")}
        recipe = recipe | shares
    task = study.tasks.get(condition) if "task" in study.meta else None
    side = {"resolution": lower[_RESOLUTION]} if _RESOLUTION in lower else {}
    return {**task.model_dump(), **side} if task else {}, recipe


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
