"""Columns of axis values, tasks and recipes, against the ledger and the keys of its trials."""

import json
import sqlite3
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import partialnas
from partialnas.analysis import front, load, load_trials
from partialnas.analysis.frames.load import TRIAL_COLUMNS, as_trials
from partialnas.analysis.frames.settings import RECIPE_COLUMNS, TASK_COLUMNS
from partialnas.analysis.pareto.figure import pareto_artefact
from partialnas.analysis.report.study_facts import settings_yaml
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.job import trial_key
from partialnas.runs.records.subject import parse_subject

SHIPPED = Path(__file__).parents[3] / "analysis" / "notebooks" / "ledgers"
SMALL: dict[str, Any] = {
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "executor": {"kind": "in-process"},
}
RUNGS = SMALL | {
    "study": "rungs",
    "arms": {"plain": {"ratio": "1/2"}},
    "space": {"axes": {"width": [8, 12, 16], "ratio": {"values": ["1/4", "1/2"], "per": "stage"}}},
    "search": {
        "sampler": "random",
        "promote": "1/2",
        "rungs": [
            {"recipe.epochs": 1, "recipe.data_share": "1/4", "task.resolution": 8},
            {"recipe.epochs": 2, "task.resolution": 8},
        ],
    },
    "task": {"data": "digits", "resolution": 16},
    "recipe": {"epochs": 3},
    "budget": {"trials": 14},
}
CONDITIONS = SMALL | {
    "study": "conditions",
    "ablation": {
        "baseline": {},
        "design": "factorial",
        "factors": {"ratio": ["1/4", "1/2"], "recipe.mixup": [0, 0.2], "recipe.epochs": [1, 2]},
    },
    "conditions": {"plain": {}, "slow": {"recipe.lr": 0.001, "task.resolution": 16}},
    "seeds": 2,
}


def query(folder: Path, text: str) -> list[Any]:
    with sqlite3.connect(f"file:{folder}/ledger.sqlite?mode=ro", uri=True) as connection:
        return connection.execute(text).fetchall()


@pytest.fixture(scope="module")
def dry_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("dry")
    studies: list[dict[str, Any]] = [RUNGS, CONDITIONS]
    return {s["study"]: partialnas.run(s, root / s["study"], rehearse=True) for s in studies}


def rebuilt_keys(folder: Path) -> list[str]:
    """Return the keys of trials from the columns of their settings alone."""
    keys = []
    with Ledger.open(folder) as ledger:
        subjects = {row.number: row.subject for row in ledger.proposals()}
        proposals = {row.number: row.proposal for row in ledger.trials()}
        for row in load(folder, stage=None).to_dict("records"):
            recipe = {n: row[f"recipe_{n}"] for n in Recipe.model_fields}
            for share in ("data_share", "width_share"):
                recipe[share] = Fraction(recipe[share])
            recipe["shift"] = None if pd.isna(recipe["shift"]) else recipe["shift"]
            task = Task(**{n: row[f"task_{n}"] for n in Task.model_fields})
            subject = parse_subject(subjects[proposals[row["trial"]]])
            fidelity = row["recipe_epochs"]
            keys.append(trial_key(subject, task, Recipe(**recipe), fidelity, row["seed"]))
    return keys


@pytest.mark.parametrize("name", ["quickstart", "partitions", "rungs", "conditions"])
def test_the_settings_of_a_trial_make_its_key(dry_runs: dict[str, Path], name: str) -> None:
    folder = dry_runs.get(name, SHIPPED / name)
    frame = load(folder, stage=None)
    assert len(frame) > 5
    assert rebuilt_keys(folder) == frame["key"].tolist()


def test_rungs_and_conditions_differ_in_their_settings(dry_runs: dict[str, Path]) -> None:
    rungs = load(dry_runs["rungs"])
    settings = rungs[["recipe_epochs", "recipe_data_share", "task_resolution"]]
    assert {*settings.itertuples(index=False, name=None)} >= {(1, 0.25, 8), (2, 1.0, 8)}
    full = settings[rungs["arm"].eq("plain")]
    assert {*full.itertuples(index=False, name=None)} == {(3, 1.0, 16)}
    conditions = load(dry_runs["conditions"])
    assert conditions.groupby("condition")["recipe_lr"].unique().map(list).to_dict() == {
        "plain": [0.01],
        "slow": [0.001],
    }
    by_factor = conditions.groupby("params_recipe.mixup")["recipe_mixup"].unique().map(list)
    assert by_factor.to_dict() == {0.0: [0.0], 0.2: [0.2]}


@pytest.mark.parametrize("name", ["quickstart", "quickstart-random"])
def test_axis_values_are_those_that_the_sampler_proposed(name: str) -> None:
    frame = load(SHIPPED / name)
    rows = query(
        SHIPPED / name,
        "SELECT trials.number, proposals.proposal FROM trials JOIN proposals "
        "ON trials.proposal = proposals.number ORDER BY trials.number",
    )
    proposed = {number: json.loads(note).get("params", {}) for number, note in rows}
    axes = {axis for point in proposed.values() for axis in point}
    assert {key for key in frame if key.startswith("params_")} == {f"params_{a}" for a in axes}
    for row in frame.to_dict("records"):
        point = proposed[row["trial"]]
        for axis in axes:
            value = row[f"params_{axis}"]
            assert pd.isna(value) if axis not in point else value == point[axis]
    assert frame["params_width"].dtype == "Int64"
    assert frame["params_pat_sp"].dtype == "boolean"


def test_promoted_networks_have_the_axis_values_of_their_first_proposal(
    dry_runs: dict[str, Path],
) -> None:
    frame = load(dry_runs["rungs"])
    searched = frame[frame["arm"].eq("")]
    assert searched["params_ratio@stage2"].notna().all()
    assert searched.groupby("digest")["params_width"].nunique().max() == 1
    assert searched.groupby("digest")["recipe_epochs"].nunique().max() > 1
    assert frame.loc[frame["arm"].eq("plain"), "params_width"].isna().all()


def test_the_levels_of_an_ablation_are_columns() -> None:
    folder = SHIPPED / "partitions"
    design = json.loads(query(folder, "SELECT value FROM meta WHERE key = 'design'")[0][0])
    levels = {arm["name"]: arm["levels"] for arm in design["arms"]}
    frame = load(folder)
    for row in frame.to_dict("records"):
        assert {f: str(row[f"params_{f}"]) for f in levels[row["arm"]]} == levels[row["arm"]]


def test_levels_that_are_numbers_are_numbers_as_in_a_search() -> None:
    frame = load(SHIPPED / "partitions")
    assert frame["params_parts"].dtype == "Int64"
    assert {*frame.loc[frame["params_parts"] > 2, "params_parts"]} == {3, 4}
    assert {*frame["params_size"]} == {"small"}


def test_several_studies_share_columns_and_types() -> None:
    frame = load([SHIPPED / "partitions", SHIPPED / "quickstart"])
    params = [key for key in frame if key.startswith("params_")]
    assert frame.columns.tolist() == [*TRIAL_COLUMNS, *params, *TASK_COLUMNS, *RECIPE_COLUMNS]
    assert frame["params_width"].dtype == "Int64"
    assert frame.groupby("study")["params_width"].count()["partitions"] == 0
    assert frame.groupby("study")["recipe_epochs"].first().to_dict() == {
        "partitions": 2,
        "quickstart": 3,
    }


def test_settings_are_no_quantities_and_change_no_file() -> None:
    folder = SHIPPED / "quickstart"
    plain, frame = load_trials(folder), load(folder)
    assert as_trials(frame).frame.columns.tolist() == plain.frame.columns.tolist()
    *_, of_frame = pareto_artefact(as_trials(frame))
    *_, of_trials = pareto_artefact(plain)
    assert of_frame.texts == of_trials.texts


def test_the_front_keeps_the_settings_of_a_frame() -> None:
    frame = load(SHIPPED / "quickstart")
    networks = front(frame)
    first = frame.set_index("trial")
    for row in networks.to_dict("records"):
        assert row["params_ratio"] is first.at[row["trial"], "params_ratio"] or (
            row["params_ratio"] == first.at[row["trial"], "params_ratio"]
            or (pd.isna(row["params_ratio"]) and row["baseline"])
        )
    expected = front(load_trials(SHIPPED / "quickstart"))
    pd.testing.assert_frame_equal(networks[expected.columns], expected)


def test_a_metric_with_the_name_of_a_setting_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "stand_in.py").write_text(
        "def train(architecture, seed, epochs):\n"
        "    return {'val_nll': 1.0, 'recipe_lr': 7.0, 'task_loss': 3.0}\n"
    )
    study = SMALL | {"study": "own", "arms": {"a": {}}, "trial": "stand_in:train"}
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps(study | {"objectives": {"val_nll": "min"}}))
    frame = load(partialnas.run(path, tmp_path / "out"))
    assert frame[["recipe_lr", "task_loss"]].to_numpy().tolist() == [[7.0, 3.0]]
    assert frame.columns.is_unique


def test_settings_of_training_that_a_function_does_not_get_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "short_one.py").write_text(
        "def score(architecture, seed, epochs):\n    return {'val_nll': 1.0}\n"
    )
    study = SMALL | {"study": "own", "arms": {"a": {}}, "trial": "short_one:score"}
    study |= {"objectives": {"val_nll": "min"}, "recipe": {"epochs": 3, "threads": 2}}
    path = tmp_path / "own.yaml"
    path.write_text(json.dumps(study))
    folder = partialnas.run(path, tmp_path / "out")
    frame = load(folder)
    recipe = [name for name in frame if name.startswith("recipe_")]
    assert recipe == ["recipe_epochs", "recipe_threads"]
    assert frame[recipe].to_numpy().tolist() == [[3, 2]]
    both = load([SHIPPED / "quickstart", folder])
    assert both["recipe_lr"].isna().tolist() == both["function"].ne("").tolist()
    with Ledger.open(folder) as ledger:
        text = settings_yaml(ledger.study.frozen)
    assert yaml.safe_load(text)["recipe"] == {"epochs": 3, "threads": 2}
    with Ledger.open(SHIPPED / "quickstart") as ledger:
        assert "optimizer" in settings_yaml(ledger.study.frozen)
