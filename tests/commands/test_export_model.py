"""`partialnas export-model`, from a study's file to a network that timm loads."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from command_line import run_cli

import partialnas.space.timm  # noqa: F401
from partialnas.commands.results.export import speed_line
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.measurement import Measurement
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.presets import preset

STUDY: dict[str, Any] = {
    "study": "tiny",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "recipe": {"use": "short", "epochs": 1, "keep_weights": "all"},
    "arms": {
        "dpconv": {
            "ratio": {"learned": {"grain": 1, "budget": "1/4"}},
            "attention": {"channel": "stages 1-2", "self": "stage 3"},
        },
    },
    "measure": {"batch_size": 4, "max_seconds": 0.2},
    "executor": {"kind": "in-process", "device": "cpu"},
}


@pytest.mark.parametrize("is_learned", [False, True])
def test_a_speed_is_shown_with_its_marks(is_learned: bool) -> None:
    facts = {
        "digest": "a" * 16, "name": "a", "device": "cpu", "device_kind": "cpu", "threads": 1,
        "batch_size": 32, "resolution": 28, "in_chans": 1, "precision": "float32",
        "form": "deploy", "throughput_img_s": 6639.0, "latency_ms": 4.8,
        "relative_throughput": 1.0, "relative_low": 0.9, "relative_high": 1.1,
        "reference_digest": "b" * 16, "reference_name": "b", "reference_form": "deploy",
        "reference_throughput_img_s": 6639.0, "rounds": 30, "wall_cpu_gap": 0.1, "load": 0.5,
        "environment": {}, "taken": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    marked = Measurement(**facts, noisy=True, tainted=True)
    assert "~6,639 img/s (noisy, tainted) on cpu" in speed_line(marked, is_learned=is_learned)
    calm = Measurement(**facts, noisy=False, tainted=False)
    assert " 6,639 img/s on cpu" in speed_line(calm, is_learned=is_learned)


@pytest.mark.slow
def test_a_trial_becomes_a_timm_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    assert run_cli("run", tmp_path / "study.yaml", "--out", tmp_path / "out") == 0
    capsys.readouterr()
    trial, model = f"{tmp_path / 'out'}:1", tmp_path / "model"
    assert run_cli("export-model", trial, "-o", model, "--seconds", 0.2) == 0
    output = capsys.readouterr().out
    architecture = Architecture.from_file(model / "architecture.json")
    proof = json.loads((model / "proof.json").read_text())
    for part in (
        "its ratios frozen",
        architecture.digest,
        "180 validation images",
        f"{proof['cost']['macs']:,} multiply-accumulates",
        f"{proof['speed']['relative_throughput']:.3f} (",
        f'timm.create_model("local-dir:{model}", pretrained=True)',
        "onnx: logits differ by",
        *(f"wrote {path}" for path in model.iterdir()),
    ):
        assert part in output
    built = timm.create_model(f"local-dir:{model}", pretrained=True).eval()
    assert built.architecture == architecture
    assert built(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "below"
    assert run_cli("export-model", trial, "-o", below, "--seconds", 0.2) == 2
    assert f"{tmp_path / 'file'} is a file" in capsys.readouterr().err
    assert run_cli("export-model", trial, "-o", tmp_path, "--seconds", 0.2) == 2
    assert "is not an earlier export" in capsys.readouterr().err


def test_user_errors_are_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, away = tmp_path / "study", tmp_path / "away"
    subject = preset("partialnet_t0")
    with Ledger.create(folder, {}) as ledger:
        number = ledger.add_proposal(None, subject.digest, subject.model_dump(mode="json"), {})
        ledger.plan(number, digest=subject.digest, name="", fidelity=1, keys={0: "0" * 16})
    for arguments, message in (
        ([folder, "-o", away], "expected a trial as DIR:7"),
        ([f"{folder}:", "-o", away], "expected a trial as DIR:7"),
        ([f"{folder}:9", "-o", away], "has no trial 9 (it has 1 trials)"),
        ([f"{folder}:1", "-o", away], "is planned: it can be exported once it is done"),
        (["nowhere:1", "-o", away], "no ledger here"),
        ([f"{folder}:1"], "Missing option"),
    ):
        assert run_cli("export-model", *arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    assert not away.exists()
