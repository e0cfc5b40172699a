"""Verbs about single networks use the task of a trial's study, unless sizes are stated."""

import json
from pathlib import Path

import pytest
import yaml
from command_line import run_cli

from partialnas.analysis import load
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import subject_data
from partialnas.space.arch.presets import preset

STUDY = {
    "study": "sized",
    "task": {"data": "digits"},  # 8 x 8 gray pixels, 10 classes
    "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
    "arms": {"one": {"parts": 1}, "two": {"parts": 2}},
    "conditions": {"small": {"task.resolution": 8}, "large": {"task.resolution": 16}},
    "executor": {"kind": "in-process"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sized")
    (path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    assert run_cli("run", path / "study.yaml", "--rehearse", "--out", path / "out") == 0
    return path / "out"


def test_a_trial_is_described_for_the_task_it_was_trained_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = load(folder)
    assert set(trials["condition"]) == {"small", "large"}
    for row in trials.to_dict("records"):
        name = f"{folder}:{row['trial']}"
        capsys.readouterr()
        assert run_cli("describe", name, "--json") == 0
        output = json.loads(capsys.readouterr().out)
        assert (output["params"], output["macs"]) == (row["params"], row["macs"])
        side = {"small": 8, "large": 16}[row["condition"]]
        assert (output["resolution"], output["channels"], output["classes"]) == (side, 1, 10)
        assert run_cli("describe", name) == 0
        assert f"input: 1 x {side} x {side}, 10 classes" in capsys.readouterr().out
        assert run_cli("flops", name, "--json") == 0
        (output,) = json.loads(capsys.readouterr().out)
        assert output["audits"][0]["formula_macs"] == row["macs"]


def test_stated_sizes_replace_those_of_the_task(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run_cli("describe", f"{folder}:1", "--resolution", 32, "--classes", 7) == 0
    assert "input: 1 x 32 x 32, 7 classes" in capsys.readouterr().out
    assert run_cli("describe", "fasternet_t0") == 0
    assert "input: 3 x 224 x 224, 1000 classes" in capsys.readouterr().out


def test_networks_are_measured_for_the_task_of_the_trials_among_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {row["condition"]: row["trial"] for row in load(folder).to_dict("records")}
    small, large = (f"{folder}:{first[name]}" for name in ("small", "large"))
    quick = ("--batch-size", 2, "--seconds", 0.1, "--json")
    capsys.readouterr()
    assert run_cli("measure", large, *quick) == 0
    assert json.loads(capsys.readouterr().out)[0]["resolution"] == 16
    assert run_cli("measure", small, large, *quick) == 2
    assert "--resolution" in capsys.readouterr().err
    assert run_cli("measure", small, large, "--resolution", 16, *quick) == 0


def test_networks_with_inputs_of_two_sizes_are_counted_at_their_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {row["condition"]: row["trial"] for row in load(folder).to_dict("records")}
    names = [f"{folder}:{first[name]}" for name in ("small", "large")]
    capsys.readouterr()
    assert run_cli("flops", *names) == 0
    output = capsys.readouterr().out
    assert "1 x 8 x 8, 10 classes" in output
    assert "1 x 16 x 16, 10 classes" in output


def test_a_trial_on_a_rung_has_the_resolution_of_the_rung(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rungs = {
        "space": {"axes": {"width": [4, 8, 12, 16]}},
        "search": {"sampler": "random", "rungs": [{"task.resolution": 8}]},
        "budget": {"trials": 8},
    }
    study = {key: value for key, value in STUDY.items() if key != "conditions"} | rungs
    study["task"] = {"data": "digits", "resolution": 16}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    folder = tmp_path / "out"
    assert run_cli("run", tmp_path / "study.yaml", "--rehearse", "--out", folder) == 0
    trials = load(folder)
    assert set(trials["task_resolution"]) == {8, 16}
    for row in trials.to_dict("records"):
        capsys.readouterr()
        assert run_cli("describe", f"{folder}:{row['trial']}", "--json") == 0
        output = json.loads(capsys.readouterr().out)
        assert (output["resolution"], output["channels"]) == (row["task_resolution"], 1)


def test_a_trial_of_a_ledger_without_a_task_has_color_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = preset("fasternet_t0")
    with Ledger.create(tmp_path / "old", {"study": "old", "frozen": "{}"}) as ledger:
        proposal = ledger.add_proposal("one", network.digest, subject_data(network), {})
        ledger.plan(proposal, digest=network.digest, name="one", fidelity=1, keys={0: "0" * 16})
    capsys.readouterr()
    assert run_cli("describe", f"{tmp_path / 'old'}:1") == 0
    assert "input: 3 x 224 x 224, 1000 classes" in capsys.readouterr().out
