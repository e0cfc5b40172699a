"""Objectives and limits that favor worse networks are refused; ledgers that have them are read."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import run_cli

from partialnas.analysis import front, load
from partialnas.runs.config.quantities import QUANTITIES, direction_error
from partialnas.search.resolve import resolve
from partialnas.search.session.run_study import rehearse_study
from partialnas.search.study.directions import check_directions
from partialnas.search.study.study import Study
from partialnas.search.study.study_fields import OBJECTIVES
from partialnas.space.errors import UserError

LARGER_IS_BETTER = {
    *("val_accuracy", "test_accuracy", "throughput_img_s", "throughput_raw_img_s"),
    "relative_throughput",
}
PLAIN: dict[str, Any] = {
    "study": "plain",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "arms": {"a": {}, "b": {"mlp_ratio": 1}},
    "measure": {"device": "cuda"},
    "executor": {"kind": "in-process"},
}
WRONG: dict[str, Any] = PLAIN | {
    "objectives": {"val_accuracy": "min", "params": "max"},
    "measure": {"device": "cpu"},
}
RIGHT: dict[str, Any] = WRONG | {"objectives": {"val_accuracy": "max", "params": "min"}}


def check(**settings: Any) -> None:
    check_directions(Study.model_validate(PLAIN | settings))


@pytest.mark.parametrize("key", QUANTITIES)
def test_each_quantity_has_one_right_direction(key: str) -> None:
    right, wrong = ("max", "min") if key in LARGER_IS_BETTER else ("min", "max")
    assert not direction_error(key, right)
    assert direction_error(key, wrong).startswith(f"expected {right}, got {wrong}")


@pytest.mark.parametrize("key", OBJECTIVES)
def test_an_objective_of_the_wrong_direction_is_refused(key: str) -> None:
    right, wrong = ("max", "min") if key in LARGER_IS_BETTER else ("min", "max")
    check(objectives={key: right})
    with pytest.raises(UserError, match=rf"^objectives\.{key}: expected {right}, got {wrong}"):
        check(objectives={key: wrong})
    with pytest.raises(UserError, match=rf"objectives\.{key}"):  # a user function changes nothing
        check(objectives={key: wrong}, trial="module:function")


def test_the_metric_of_a_user_function_has_any_direction() -> None:
    for direction in ("min", "max"):
        check(objectives={"score": direction}, trial="module:function")
        check(limits={"score": {direction: 1.0}}, trial="module:function")


@pytest.mark.parametrize(
    "key", ["val_accuracy", "val_nll", "latency_ms", "throughput_img_s", "peak_memory_bytes"]
)
def test_a_limit_must_not_exclude_only_better_networks(key: str) -> None:
    right, wrong = ("min", "max") if key in LARGER_IS_BETTER else ("max", "min")
    check(limits={key: {right: 1.0}})
    check(limits={key: {"min": 1.0, "max": 2.0}})
    with pytest.raises(UserError, match=rf"^limits\.{key}: .*{wrong} alone would exclude"):
        check(limits={key: {wrong: 1.0}})


def test_check_and_run_refuse_all_wrong_directions_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.yaml"
    for study, settings in ((WRONG, []), (RIGHT, ["--set", "objectives.params=max"])):
        path.write_text(yaml.safe_dump(study))
        for verb in (["check", path], ["run", path, "--rehearse", "--out", tmp_path / "out"]):
            assert run_cli(*verb, *settings) == 2
            message = capsys.readouterr().err
            assert "objectives.params: expected min, got max" in message
            assert ("objectives.val_accuracy: expected max, got min" in message) is (study == WRONG)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def old_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a dry run that was made before directions were checked."""
    folder = tmp_path_factory.mktemp("old") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolve, "check_directions", lambda _: None)
        rehearse_study(Study.model_validate(WRONG), folder)
    return folder


def test_an_old_ledger_of_the_wrong_direction_is_read_and_not_continued(
    old_ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = load(old_ledger)
    assert len(front(trials, {"val_accuracy": "max"})) == 2
    assert run_cli("status", old_ledger) == 0
    assert run_cli("pareto", old_ledger, "-o", tmp_path / "front.pdf") == 0
    copy = shutil.copytree(old_ledger, tmp_path / "copy")
    assert run_cli("merge", old_ledger, copy, "--out", tmp_path / "merged") == 0
    for study, message in (
        (WRONG, r"objectives.val_accuracy: expected max, got min"),
        (RIGHT, r"objectives.val_accuracy: 'min' -> 'max'"),
    ):
        with pytest.raises(UserError, match=message):
            rehearse_study(Study.model_validate(study), old_ledger)
    capsys.readouterr()
    assert run_cli("confirm", old_ledger) == 2
    assert "objectives.params: expected min, got max" in capsys.readouterr().err
