"""Study files: what is read, what is refused and how it is told, what may grow."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.search.resolve.resources import resolve_resources as placed
from partialnas.search.study.amendments import amendment_meta, differences, find_amendments
from partialnas.search.study.sections import SearchSpec
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


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **changes}))
    return path


def told(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_study(path, overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("quick", [False, True])
def test_shipped_studies_are_valid(path: Path, quick: bool) -> None:
    assert load_study(path, quick=quick).study == path.stem


def test_quick_and_overrides_apply_in_order(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert load_study(path).budget.trials == 4
    assert load_study(path).recipe.epochs == 4
    assert load_study(path, quick=True).recipe.epochs == 1
    study = load_study(path, quick=True, overrides=["budget.trials=9", "recipe.lr=0.5"])
    assert (study.budget.trials, study.recipe.lr, study.recipe.epochs) == (9, 0.5, 1)


def test_a_recipe_is_a_named_one_with_changes(tmp_path: Path) -> None:
    standard = load_study(written(tmp_path, recipe="standard")).recipe
    changed = load_study(written(tmp_path, recipe={"use": "standard", "epochs": 2})).recipe
    assert changed == standard.model_copy(update={"epochs": 2})
    assert (
        load_study(written(tmp_path, recipe="standard"), overrides=["recipe.epochs=2"]).recipe
        == changed
    )


def test_every_mistake_is_told_at_once_with_its_path(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        colour="red",
        seeds=0,
        recipe={"use": "short", "lr": "fast"},
        executor={"workers": -1},
        space={"axes": {"width": []}},
        search={"sampler": "guess"},
    )
    message = told(path)
    for place in ("colour", "seeds", "recipe.lr", "executor.workers", "width", "search.sampler"):
        assert place in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"study": "../escape"}, "study"),
        ({"study": ""}, "study"),
        ({"search": None}, "nothing to do"),
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
def test_what_cannot_run_is_refused(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert expected in told(written(tmp_path, **changes))


@pytest.mark.parametrize("override", ["seeds", "=3", "seeds=[", "study.name=3", "nothing.like=1"])
def test_overrides_that_do_not_fit_are_refused(tmp_path: Path, override: str) -> None:
    assert override.split("=")[0].split(".")[0] in told(written(tmp_path), override)


@pytest.mark.parametrize("content", ["{", "- 1", "", "\0"])
def test_files_that_are_no_studies_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(content)
    assert "study.yaml" in told(path)
    assert "cannot read" in told(tmp_path / "absent.yaml")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: a\nseeds: 2\nseeds: 3\n")
    assert "'seeds' stands twice" in told(path)


def test_yaml_cannot_construct_objects(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("study: !!python/object/apply:os.getcwd []")
    assert "not YAML" in told(path)


def frozen(**changes: Any) -> dict[str, Any]:
    return Study.model_validate({**PLAIN, **changes}).frozen()


def test_budget_seeds_executor_and_arms_may_grow() -> None:
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
    ("before", "after", "shrunk"),
    [
        ({"trials": 4}, {"trials": 5}, False),
        ({"trials": 5}, {"trials": 4}, True),
        ({"trials": 4}, {"trials": 4, "hours": 1.0}, True),
        ({"trials": 4, "hours": 1.0}, {"trials": 4, "hours": 0.5}, True),
        ({"trials": 4, "hours": 1.0}, {"trials": 4}, False),
    ],
)
def test_a_budget_that_shrinks_is_told_as_such(
    before: dict[str, Any], after: dict[str, Any], shrunk: bool
) -> None:
    (line,) = find_amendments(frozen(budget=before), frozen(budget=after))
    assert line.startswith("budget.")
    assert line.endswith("(shrunk)") == shrunk


def test_growth_is_noted_beside_what_was_noted_before() -> None:
    meta = {"study": "plain"}
    assert amendment_meta(RecordedStudy(meta), []) == {}
    for lines in (["seeds: 1 -> 2"], ["arms.b: None -> {}", "seeds: 2 -> 3"]):
        meta |= amendment_meta(RecordedStudy(meta), lines)
    told = json.loads(meta["growth"])
    assert [each["lines"] for each in told] == [
        ["seeds: 1 -> 2"],
        ["arms.b: None -> {}", "seeds: 2 -> 3"],
    ]
    first, second = (datetime.fromisoformat(each["when"]) for each in told)
    assert first <= second


@pytest.mark.parametrize("workers", ["auto", 3])
def test_a_study_in_this_process_runs_one_trial_at_a_time(workers: Any) -> None:
    executor = {"kind": "in-process", "workers": workers, "device": "cpu"}
    inside = Study.model_validate({**PLAIN, "executor": executor})
    assert placed(inside).workers == 1
    with pytest.raises(UserError, match="--address joins a Ray cluster"):
        placed(inside, "ray://head:10001")
    if workers != "auto":
        spread = Study.model_validate({**PLAIN, "executor": {**executor, "kind": "ray"}})
        assert placed(spread, "ray://head:10001").workers == workers


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
def test_any_other_change_is_refused_with_the_difference(
    changes: dict[str, Any], place: str
) -> None:
    old = frozen(arms={"a": {"width": 12}}, seeds=2)
    with pytest.raises(UserError, match="changed since it was begun") as caught:
        find_amendments(old, frozen(**{"arms": {"a": {"width": 12}}, "seeds": 2, **changes}))
    assert place in str(caught.value)


def test_digest_is_blind_to_what_may_grow() -> None:
    study = Study.model_validate(PLAIN)
    grown = Study.model_validate({**PLAIN, "budget": {"trials": 9}, "seeds": 2})
    other = Study.model_validate({**PLAIN, "task": {"data": "mnist5k"}})
    assert study.digest == grown.digest != other.digest


ARMS: dict[str, Any] = {"arms": {"a": {}}, "search": None}


def test_a_condition_is_the_study_with_its_settings() -> None:
    conditions = {"small": {"task.resolution": 4, "recipe.batch_size": 8, "measure.batch_size": 2}}
    study = Study.model_validate({**PLAIN, **ARMS, "conditions": conditions})
    under = study.under("small")
    assert (under.task.resolution, under.recipe.batch_size, under.measure.batch_size) == (4, 8, 2)
    assert (under.task.data, under.arms, under.conditions) == ("digits", study.arms, {})
    assert study.digest != Study.model_validate({**PLAIN, **ARMS}).digest


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"conditions": {"a": {"recipe.batch_size": 8}}}, "conditions: for arms only"),
        ({**ARMS, "conditions": {"a": {"seeds": 8}}}, "a: seeds: expected keys such as"),
        ({**ARMS, "conditions": {"a": {"task": "digits"}}}, "a: task: expected keys such as"),
        ({**ARMS, "conditions": {" ": {}}}, "expected a name"),
        ({**ARMS, "conditions": {"a": {"recipe.lr": "fast"}}}, "conditions.a.recipe.lr"),
        ({**ARMS, "conditions": {"a": {"recipe.threads": 2}}}, "the same for the whole study"),
        (
            {**ARMS, "conditions": {"a": {}, "b": {"measure.batch_size": 4}}},
            "conditions.b: its task and recipe are those of a",
        ),
    ],
)
def test_conditions_that_make_no_sense_are_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert expected in told(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"margin": {"val_nl": 1}}, "ablation.margin: 'val_nl' is not trained; there are"),
        ({"deviation": {"macs": 1}}, "ablation.deviation: 'macs' is not trained"),
        (
            {"factors": {"long": {"no": {}, "yes": {"recipe.epochs": 8}}}},
            "conditions.a: recipe.epochs is what factor long varies",
        ),
    ],
)
def test_ablations_that_do_not_fit_their_study_are_refused(
    changes: dict[str, Any], expected: str
) -> None:
    ablation = {"design": "one-factor", "factors": {"parts": [2, 3]}, **changes}
    plain = {"study": "s", "ablation": ablation, "conditions": {"a": {"recipe.epochs": 2}}}
    with pytest.raises(ValidationError, match=re.escape(expected)):
        Study.model_validate(plain)


def test_differences_name_every_place() -> None:
    old, new = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 2, "c": [1]}, "e": 3}
    assert differences(old, new) == ["a.b: 1 -> 2", "d: 2 -> None", "e: None -> 3"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"limits": {"params": {"max": 1e6}}}, "space.constraints"),
        ({"limits": {"test_accuracy": {"min": 90}}}, "never used to choose"),
        ({"limits": {"speed": {"min": 90}}}, "latency_ms"),
        ({"limits": {"latency_ms": {}}}, "expected min, max or both"),
        ({"limits": {"peak_memory_bytes": {"max": 1}}}, "on a GPU only"),
        ({"search": {"sampler": "evolution", "population": 4, "tournament": 5}}, "at most the pop"),
    ],
)
def test_limits_and_tournaments_without_meaning_are_refused(
    changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        Study.model_validate({**PLAIN, **changes})


def test_a_limit_on_a_speed_has_networks_timed_before_the_sampler_is_told() -> None:
    plain = {**PLAIN, "objectives": {"val_nll": "min", "params": "min"}}
    assert not Study.model_validate(plain).needs_measurement
    assert Study.model_validate({**plain, "limits": {"latency_ms": {"max": 5}}}).needs_measurement


@pytest.mark.parametrize(("population", "entrants"), [(2, 2), (8, 2), (16, 4), (64, 16)])
def test_a_quarter_of_the_population_meets_in_a_tournament(population: int, entrants: int) -> None:
    assert SearchSpec(population=population).tournament_size == entrants
    assert SearchSpec(population=population, tournament=2).tournament_size == 2
