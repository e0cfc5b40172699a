"""The command line: verbs, JSON output, exit codes and error messages."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from command_line import run_cli

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import PRESETS, preset
from partialnas.space.cost.cost import compute_cost

SEARCH = Path(__file__).parents[1] / "search"

STUDY: dict[str, Any] = {
    "study": "tiny",
    "question": "Does it work?",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16], "mlp_ratio": [1, 2]}},
    "recipe": {"use": "short", "epochs": 1},
    "search": {"sampler": "random"},
    "measure": {"batch_size": 4, "max_seconds": 0.2},
    "budget": {"trials": 3},
    "executor": {"kind": "in-process"},
    "quick": {"budget.trials": 2},
}

# Parameters and MACs at 224 pixels: model table of the paper's family, timm's FasterNet.
PARAMS = {
    "partialnet_t0": 3_558_240,
    "partialnet_t1": 6_144_552,
    "partialnet_t2": 12_269_816,
    "partialnet_s": 28_013_304,
    "partialnet_m": 59_179_000,
    "partialnet_l": 100_641_336,
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run for real, by the command line."""
    folder = tmp_path_factory.mktemp("run")
    assert run_cli("run", written(folder), "--out", folder / "out") == 0
    return folder / "out"


def test_a_study_goes_from_file_to_figure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("status", folder) == 0
    assert "tiny: 3 done" in capsys.readouterr().out
    figure = folder / "front.svg"
    assert run_cli("pareto", folder, "-o", figure) == 0
    assert figure.exists()
    assert str(figure.with_suffix(".csv")) in capsys.readouterr().out.replace("\n", "")
    assert run_cli("export", folder, "-o", folder / "trials.csv") == 0
    table = pd.read_csv(folder / "trials.csv")
    assert len(table) == 3
    columns = "trial digest seed state val_accuracy test_accuracy params macs throughput_img_s"
    assert table[columns.split()].notna().all(axis=None)


def test_learned_ratios_are_described_with_the_uniform_ratio_of_their_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ratio = {"learned": {"budget": "static", "start": "1/2"}}
    plan = Plan.model_validate({"width": 16, "depths": [1, 1, 1, 1], "ratio": ratio})
    (tmp_path / "learned.json").write_text(plan.architecture().to_json())
    assert run_cli("describe", tmp_path / "learned.json", "--resolution", 32) == 0
    output = capsys.readouterr().out
    assert "conv ~8 + " in output
    assert "~ learned ratio: shown with the uniform ratio" in output
    static = plan.model_copy(update={"ratio": (Fraction(1, 2),)}).architecture()
    assert f"{compute_cost(static, InputSpec.square(32)).macs:,}" in output


def test_running_again_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "ledger.sqlite").read_bytes()
    assert run_cli("run", written(folder.parent), "--out", folder) == 0
    assert "resuming: 3 trials done" in capsys.readouterr().err
    assert run_cli("export", folder, "-o", folder / "again.csv") == 0
    assert len(pd.read_csv(folder / "again.csv")) == 3
    assert len(before) == len((folder / "ledger.sqlite").read_bytes())


def test_a_trial_is_described_and_measured_by_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("export", folder, "-o", folder / "named.csv") == 0
    table = pd.read_csv(folder / "named.csv").set_index("trial").loc[2]
    capsys.readouterr()
    arguments = ("--resolution", 8, "--in-chans", 1, "--classes", 10, "--json")
    assert run_cli("describe", f"{folder}:2", *arguments) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["digest"], output["params"], output["macs"]) == (
        table["digest"],
        table["params"],
        table["macs"],
    )
    assert (
        run_cli(
            "measure", f"{folder}:2", f"{folder}:1", "--resolution", 8, "--json", "--seconds", 1
        )
        == 0
    )
    measured = json.loads(capsys.readouterr().out)
    keys = "name throughput_img_s latency_ms relative_throughput device threads batch_size"
    assert all(set(keys.split()) | {"resolution", "form"} <= m.keys() for m in measured)
    assert measured[0]["relative_throughput"] == 1


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_described_as_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("describe", name, "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["name"], output["digest"]) == (name, preset(name).digest)
    assert output["resolution"] == 224
    assert sum(block["params"] for block in output["blocks"]) == output["params"]
    assert sum(block["macs"] for block in output["blocks"]) == output["macs"]
    assert output["params"] == PARAMS.get(name, output["params"])


def test_an_architecture_is_read_from_its_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.json"
    path.write_text(preset("partialnet_t1").to_json())
    assert run_cli("describe", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["params"] == PARAMS["partialnet_t1"]


def test_check_counts_and_estimates_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("check", written(tmp_path), "--quick") == 0
    output = capsys.readouterr().out
    for part in ("Does it work?", "trials: 2", "6 distinct networks", "time: about"):
        assert part in output
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_quick_is_noted_if_it_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for settings, is_noted in (({"quick": {}}, True), ({}, False)):
        study, out = written(tmp_path, **settings), tmp_path / f"out-{is_noted}"
        options = ["--quick", "--rehearse", "--set", "budget.trials=1", "--out", out]
        assert run_cli("run", study, *options) == 0
        assert ("note: --quick changes nothing" in capsys.readouterr().err) == is_noted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "partialnet_x"], "did you mean"),
        (["describe", "absent.json"], "cannot read absent.json"),
        (["describe", "timm:resnet18"], "expected an architecture of partialnas"),
        (["describe", "nowhere:3"], "no ledger here"),
        (["describe", "partialnet_t0", "--resolution", "16"], "32x32"),
        (["measure", "timm:resnet8"], "resnet18"),
        (["measure", "partialnet_t0", "--device", "tpu"], "device"),
        (["measure", "partialnet_t0", "--precision", "int3"], "precision"),
        (["status", "nowhere"], "no ledger here"),
        (["pareto", "nowhere"], "no ledger here"),
        (["export", "nowhere"], "no ledger here"),
        (["run", "nowhere.yaml"], "there is no study nowhere.yaml"),
        (["check", "quikstart"], "did you mean quickstart"),
        (["run"], "Missing argument"),
        (["fly"], "No such command"),
    ],
)
def test_a_user_error_is_one_message_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_user_errors_in_a_finished_study_are_messages(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (["pareto", folder, "-y", "val_acuracy"], "val_accuracy"),
        (["pareto", folder, "-o", "front.docx"], "front.docx"),
        (["pareto", folder, "-x", "macs", "-y", "macs"], "both axes"),
        (["export", folder, "-o", "trials.doc"], ".csv"),
        (["describe", f"{folder}:99"], "99"),
        (
            ["run", written(folder.parent, seeds=2, task={"data": "mnist5k"}), "--out", folder],
            "task",
        ),
    ):
        assert run_cli(*arguments) == 2
        assert message in capsys.readouterr().err


def test_a_machine_error_is_exit_code_1(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir(mode=0o500)
    if not os.access(tmp_path / "full", os.W_OK):  # root may write anywhere, so nothing fails
        assert run_cli("export", folder, "-o", tmp_path / "full" / "trials.csv") == 1
        assert "cannot be written" in capsys.readouterr().err
    changes = {"executor": {"kind": "in-process", "device": "cuda"}}
    assert run_cli("run", written(tmp_path, **changes), "--out", tmp_path / "out") == 1
    assert "no GPU" in capsys.readouterr().err


def test_a_file_in_place_of_a_folder_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocking = tmp_path / "file"
    blocking.write_text("")
    for arguments in (
        ["export", folder, "-o", blocking / "trials.csv"],
        ["export", folder, "-o", blocking / "deeper" / "trials.csv"],
        ["pareto", folder, "-o", blocking / "deeper" / "front.pdf"],
        ["run", written(tmp_path), "--out", blocking],
        ["run", written(tmp_path), "--out", blocking / "deeper" / "still"],
    ):
        assert run_cli(*arguments) == 2
        assert f"{blocking}" in capsys.readouterr().err.replace(f"{blocking}/", "")


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("--debug", "describe", "partialnet_x") == 2
    assert "Traceback" in capsys.readouterr().err


def test_help_of_every_verb_is_a_page_and_takes_no_torch() -> None:
    for verb in ("run", "check", "status", "describe", "measure", "pareto", "ratios", "export"):
        code = (
            "import sys\nfrom partialnas.cli import main\n"
            f"try: main(['{verb}', '--help'])\n"
            "finally: print(*({'torch', 'ray', 'pandas', 'matplotlib'} & sys.modules.keys()), "
            "file=sys.stderr)"
        )
        environment = os.environ | {"COLUMNS": "100"}
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0
        assert ended.stderr.strip() == ""
        assert len(ended.stdout.splitlines()) > 12


def test_a_trial_function_is_found_next_to_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "def told(a, seed, epochs):\n    return {'score': a.widths[0]}"
    )
    path = written(tmp_path, trial="mine:told", objectives={"score": "max", "params": "min"})
    assert run_cli("run", path, "--out", tmp_path / "out") == 0
    assert "score" in capsys.readouterr().out


def test_a_truncated_file_is_not_reported_as_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ending(*_: object) -> None:
        raise EOFError("compressed file ended")

    monkeypatch.setattr("partialnas.commands.networks.names.find_architecture", ending)
    assert run_cli("describe", "partialnet_t0") == 1
    assert "EOFError: compressed file ended\nThis may be a bug" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["n" * 300, "/".join(["d" * 200] * 25)], ids=["name", "path"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "LONG"),
        ("run", "LONG.yaml"),
        ("run", "STUDY", "--rehearse", "--out", "LONG"),
        ("run", "STUDY", "--plugin", "LONG"),
        ("clean", "LONG"),
        ("restore", "LONG"),
        ("describe", "LONG"),
        ("describe", "LONG.json"),
        ("describe", "LONG:1"),
        ("merge", "LONG", "DIR", "-o", "other"),
        ("pareto", "DIR", "-o", "LONG.pdf"),
        ("pareto", "DIR", "--timm-results", "LONG"),
        ("report", "DIR", "-o", "LONG.html"),
        ("export", "DIR", "-o", "LONG.csv"),
        ("dashboard", "DIR", "--export-only", "LONG"),
        ("remeasure", "DIR", "--import", "LONG"),
        ("verify", "LONG.csv", "--against", "DIR"),
    ],
    ids=" ".join,
)
def test_a_name_that_is_too_long_is_a_mistake_of_the_user(
    name: str,
    arguments: tuple[str, ...],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = {"DIR": str(folder), "STUDY": str(written(tmp_path))}
    assert run_cli(*(words.get(a, a.replace("LONG", name)) for a in arguments)) == 2
    message = capsys.readouterr().err
    assert "may be a bug" not in message


@pytest.mark.parametrize("number", ["", "-1", "0", "9" * 30, "1.5", "1:1", "\u0663", "a", " 1"])
def test_a_trial_that_does_not_exist_is_a_mistake_of_the_user(
    number: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["describe"], ["ratios"], ["flops"], ["export-model", "-o", "unused"]):
        assert run_cli(*verb, f"{folder}:{number}") == 2
        assert "may be a bug" not in capsys.readouterr().err


@pytest.mark.parametrize("folders", [["DIR"], ["DIR", "DIR"], ["DIR", "FILE"], ["DIR", "EMPTY"]])
def test_folders_that_cannot_be_merged_are_a_mistake_of_the_user(
    folders: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"DIR": folder, "FILE": written(tmp_path), "EMPTY": tmp_path}
    assert run_cli("merge", *map(words.__getitem__, folders), "-o", tmp_path / "merged") == 2
    assert "may be a bug" not in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_a_removed_current_folder_is_named_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    assert run_cli("measure", "partialnet_t0") == 2
    assert "the current folder was removed" in capsys.readouterr().err
