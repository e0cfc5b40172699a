"""Study files: reading, validation messages and amendments."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.search.resolve.resources import Hardware, resolve_resources
from partialnas.search.study.amendments import amendment_meta, differences, find_amendments
from partialnas.search.study.sections import ExecutorSpec, SearchSpec
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import load_study
from partialnas.space.errors import UserError

STUDIES = Path(__file__).parents[3] / "search" / "studies"

PLAIN: dict[str, Any] = {
    "schema": 1,
    "study": "plain",
    "task": {"data": "digits"},
    "space": {"axes": {"width": [8, 16]}},
    "search": {"sampler": "random"},
    "budget": {"trials": 4},
    "quick": {"recipe.epochs": 1, "budget.trials": 2},
}


def write_study(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **changes}))
    return path


def load_error(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_study(path, overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("quick", [False, True])
def test_shipped_studies_are_valid(path: Path, quick: bool) -> None:
    assert load_study(path, quick=quick).study == path.stem


def test_quick_settings_and_overrides_are_applied_in_order(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    assert load_study(path).budget.trials == 4
    assert load_study(path).recipe.epochs == 4
    assert load_study(path, quick=True).recipe.epochs == 1
    study = load_study(path, quick=True, overrides=["budget.trials=9", "recipe.lr=0.5"])
    assert (study.budget.trials, study.recipe.lr, study.recipe.epochs) == (9, 0.5, 1)


def test_a_named_recipe_can_be_changed(tmp_path: Path) -> None:
    standard = load_study(write_study(tmp_path, recipe="standard")).recipe
    changed = load_study(write_study(tmp_path, recipe={"use": "standard", "epochs": 2})).recipe
    assert changed == standard.model_copy(update={"epochs": 2})
    assert (
        load_study(write_study(tmp_path, recipe="standard"), overrides=["recipe.epochs=2"]).recipe
        == changed
    )


def test_all_errors_are_reported_with_their_paths(tmp_path: Path) -> None:
    path = write_study(
        tmp_path,
        color="red",
        seeds=0,
        recipe={"use": "short", "lr": "fast"},
        executor={"workers": -1},
        space={"axes": {"width": []}},
        search={"sampler": "guess"},
    )
    message = load_error(path)
    for place in ("color", "seeds", "recipe.lr", "executor.workers", "width", "search.sampler"):
        assert place in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"study": "../escape"}, "study"),
        ({"study": ""}, "study"),
        ({"search": None}, "nothing to run: add `search: {}`"),
        ({"base": {"depths": [1, 2]}}, "base.depths: expected 4 values, got [1, 2]"),
        ({"budget": {}}, "budget"),
        ({"objectives": {}}, "objectives"),
        ({"objectives": {"test_accuracy": "max"}}, "never used to choose"),
        ({"objectives": {"val_acuracy": "max"}}, "val_accuracy"),
        ({"recipe": "fast"}, "short"),
        ({"recipe": {"use": ["short"]}}, "short"),
        ({"quick": {"recipe.epoch": 1}}, "quick settings"),
        ({"objectives": {"peak_memory_bytes": "min"}}, "GPU"),
        ({"budget": {"hours": float("inf")}}, "budget.hours"),
        ({"arms": {"x": 5}}, "arms: x: expected a preset"),
        ({"schema": 2}, "schema"),
        ({"trial": "not a function"}, "module:function"),
        ({"space": {"axes": {}}}, "axis"),
        ({"measure": {"batch_size": 0}}, "measure.batch_size"),
        ({"task": {"data": "digits", "resolution": 0}}, "task.resolution"),
    ],
)
def test_invalid_studies_are_rejected(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert expected in load_error(write_study(tmp_path, **changes))


@pytest.mark.parametrize("override", ["seeds", "=3", "seeds=[", "study.name=3", "nothing.like=1"])
def test_invalid_overrides_are_rejected(tmp_path: Path, override: str) -> None:
    assert override.split("=")[0].split(".")[0] in load_error(write_study(tmp_path), override)


@pytest.mark.parametrize("content", ["{", "- 1", "", "\0"])
def test_files_without_a_study_are_rejected(tmp_path: Path, content: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(content)
    assert "study.yaml" in load_error(path)
    assert "cannot read" in load_error(tmp_path / "absent.yaml")


def test_duplicate_keys_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: a\nseeds: 2\nseeds: 3\n")
    assert "line 3: duplicate key 'seeds'" in load_error(path)


def test_yaml_cannot_construct_objects(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: !!python/object/apply:os.getcwd []")
    assert "not valid YAML" in load_error(path)


def frozen(**changes: Any) -> dict[str, Any]:
    return Study.model_validate({**PLAIN, **changes}).frozen()


def test_new_settings_are_recorded_only_if_they_are_stated() -> None:
    assert "lanes" not in frozen()["executor"]
    assert frozen(executor={"lanes": 3})["executor"]["lanes"] == 3
    (line,) = find_amendments(frozen(), frozen(executor={"lanes": 3}))
    assert line.startswith("executor.lanes: ")


@pytest.mark.parametrize(("lanes", "cpu", "gpu"), [("auto", 1, 8), (1, 1, 1), (3, 3, 3)])
def test_seeds_run_side_by_side_on_gpus(lanes: int | str, cpu: int, gpu: int) -> None:
    spec = ExecutorSpec.model_validate({"lanes": lanes})
    assert (spec.lanes_on("cpu"), spec.lanes_on("cuda"), spec.lanes_on("cuda:1")) == (cpu, gpu, gpu)


def test_budget_seeds_executor_and_arms_may_be_amended() -> None:
    arms = {"a": {"width": 8}}
    old = frozen(arms=arms)
    new = frozen(
        arms={**arms, "b": {"width": 16}},
        seeds=3,
        budget={"trials": 50},
        executor={"workers": 2},
    )
    assert {line.split(":")[0] for line in find_amendments(old, new)} == {
        "arms.b",
        "seeds",
        "budget.trials",
        "executor.workers",
    }
    assert find_amendments(old, old) == []


@pytest.mark.parametrize(
    ("before", "after", "reduced"),
    [
        ({"trials": 4}, {"trials": 5}, False),
        ({"trials": 5}, {"trials": 4}, True),
        ({"trials": 4}, {"trials": 4, "hours": 1.0}, True),
        ({"trials": 4, "hours": 1.0}, {"trials": 4, "hours": 0.5}, True),
        ({"trials": 4, "hours": 1.0}, {"trials": 4}, False),
    ],
)
def test_a_smaller_budget_is_marked(
    before: dict[str, Any], after: dict[str, Any], reduced: bool
) -> None:
    (line,) = find_amendments(frozen(budget=before), frozen(budget=after))
    assert line.startswith("budget.")
    assert line.endswith("(reduced)") == reduced


def test_amendments_are_appended_to_earlier_ones() -> None:
    meta = {"study": "plain"}
    assert amendment_meta(RecordedStudy(meta), []) == {}
    for lines in (["seeds: 1 -> 2"], ["arms.b: None -> {}", "seeds: 2 -> 3"]):
        meta |= amendment_meta(RecordedStudy(meta), lines)
    amendments = json.loads(meta["growth"])
    assert [entry["lines"] for entry in amendments] == [
        ["seeds: 1 -> 2"],
        ["arms.b: None -> {}", "seeds: 2 -> 3"],
    ]
    first, second = (datetime.fromisoformat(entry["when"]) for entry in amendments)
    assert first <= second


@pytest.mark.parametrize("workers", ["auto", 3])
def test_a_study_in_this_process_runs_one_trial_at_a_time(workers: Any) -> None:
    executor = {"kind": "in-process", "workers": workers, "device": "cpu"}
    inside = Study.model_validate({**PLAIN, "executor": executor})
    assert resolve_resources(inside).workers == 1
    with pytest.raises(UserError, match="--address joins a Ray cluster"):
        resolve_resources(inside, "ray://head:10001")
    if workers != "auto":
        spread = Study.model_validate({**PLAIN, "executor": {**executor, "kind": "ray"}})
        cluster = resolve_resources(spread, "head:6379", lambda _: Hardware(cpus=1, gpus=0))
        assert cluster.workers == workers


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"task": {"data": "mnist5k"}}, "task.data: 'digits' -> 'mnist5k'"),
        ({"recipe": {"use": "short", "lr": 0.5}}, "recipe.lr"),
        ({"space": {"axes": {"width": [8, 24]}}}, "space"),
        ({"arms": {"a": {"width": 8}}}, "arms.a"),
        ({"seeds": 1}, "seeds"),
    ],
)
def test_other_changes_are_rejected_with_their_differences(
    changes: dict[str, Any], place: str
) -> None:
    old = frozen(arms={"a": {"width": 12}}, seeds=2)
    with pytest.raises(UserError, match="changed since its ledger was created") as caught:
        find_amendments(old, frozen(**{"arms": {"a": {"width": 12}}, "seeds": 2, **changes}))
    assert place in str(caught.value)


def test_digest_ignores_settings_that_may_be_amended() -> None:
    study = Study.model_validate(PLAIN)
    grown = Study.model_validate({**PLAIN, "budget": {"trials": 9}, "seeds": 2})
    other = Study.model_validate({**PLAIN, "task": {"data": "mnist5k"}})
    assert study.digest == grown.digest != other.digest


ARMS: dict[str, Any] = {"arms": {"a": {}}, "search": None}


def test_a_condition_overrides_settings_of_the_study() -> None:
    conditions = {"small": {"task.resolution": 4, "recipe.batch_size": 8, "measure.batch_size": 2}}
    study = Study.model_validate({**PLAIN, **ARMS, "conditions": conditions})
    under = study.under("small")
    assert (under.task.resolution, under.recipe.batch_size, under.measure.batch_size) == (4, 8, 2)
    assert (under.task.data, under.arms, under.conditions) == ("digits", study.arms, {})
    assert study.digest != Study.model_validate({**PLAIN, **ARMS}).digest


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"conditions": {"a": {"recipe.batch_size": 8}}},
            "conditions: cannot be combined with `search`",
        ),
        ({**ARMS, "conditions": {"a": {"seeds": 8}}}, "a: invalid key 'seeds'"),
        ({**ARMS, "conditions": {"a": {"task": "digits"}}}, "a: invalid key 'task'"),
        ({**ARMS, "conditions": {" ": {}}}, "conditions: a name must not be empty"),
        ({**ARMS, "conditions": {"a": {"recipe.lr": "fast"}}}, "conditions.a.recipe.lr"),
        (
            {**ARMS, "conditions": {"a": {"recipe.threads": 2}}},
            "must be the same for the whole study",
        ),
        (
            {**ARMS, "conditions": {"a": {}, "b": {"measure.batch_size": 4}}},
            "conditions.b: has the same task and recipe as a",
        ),
    ],
)
def test_invalid_conditions_are_rejected(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert expected in load_error(write_study(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"margin": {"val_nl": 1}}, "ablation.margin: 'val_nl' is not a trained quantity"),
        ({"deviation": {"macs": 1}}, "ablation.deviation: 'macs' is not a trained quantity"),
        (
            {"factors": {"long": {"no": {}, "yes": {"recipe.epochs": 8}}}},
            "conditions.a: factor long already varies recipe.epochs",
        ),
    ],
)
def test_ablations_in_conflict_with_their_study_are_rejected(
    changes: dict[str, Any], expected: str
) -> None:
    ablation = {"design": "one-factor", "factors": {"parts": [2, 3]}, **changes}
    plain = {"study": "s", "ablation": ablation, "conditions": {"a": {"recipe.epochs": 2}}}
    with pytest.raises(ValidationError, match=re.escape(expected)):
        Study.model_validate(plain)


def test_differences_list_every_path() -> None:
    old, new = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 2, "c": [1]}, "e": 3}
    assert differences(old, new) == ["a.b: 1 -> 2", "d: 2 -> None", "e: None -> 3"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limits": {"params": {"max": 1e6}}}, "space.constraints"),
        ({"limits": {"test_accuracy": {"min": 90}}}, "never used to choose"),
        ({"limits": {"speed": {"min": 90}}}, "latency_ms"),
        ({"objectives": {"relative_throughput": "max"}}, "unknown quantity 'relative_throughput'"),
        ({"limits": {"latency_ms": {}}}, "expected min, max or both"),
        ({"limits": {"peak_memory_bytes": {"max": 1}}}, "peak_memory_bytes needs a GPU"),
        ({"search": {"sampler": "evolution", "population": 4, "tournament": 5}}, "at most the pop"),
    ],
)
def test_invalid_limits_and_tournaments_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        Study.model_validate({**PLAIN, **changes})


@pytest.mark.parametrize(
    "limits", [{"latency_ms": {"max": 5}}, {"relative_throughput": {"min": 1}}]
)
def test_a_limit_on_speed_needs_measurement(limits: dict[str, Any]) -> None:
    plain = {**PLAIN, "objectives": {"val_nll": "min", "params": "min"}}
    assert not Study.model_validate(plain).needs_measurement
    limited = Study.model_validate({**plain, "limits": limits})
    assert limited.needs_measurement
    assert limited.measures_before_tell
    searched = {"search": {"sampler": "evolution"}, "budget": {"trials": 2}}
    after = {**plain, **searched, "limits": limits, "measure": {"when": "after"}}
    with pytest.raises(ValidationError, match=f"the search uses {next(iter(limits))}"):
        Study.model_validate(after)


@pytest.mark.parametrize(("population", "size"), [(2, 2), (8, 2), (16, 4), (64, 16)])
def test_a_tournament_is_a_quarter_of_the_population_by_default(population: int, size: int) -> None:
    assert SearchSpec(population=population).tournament_size == size
    assert SearchSpec(population=population, tournament=2).tournament_size == 2
