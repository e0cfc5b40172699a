"""The verb `remeasure` on real networks with simulated trainings."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run_cli
from scipy.stats import kendalltau

from partialnas.analysis import load
from partialnas.analysis.audit.remeasured import remeasurement_table
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.measure import remeasure as remeasuring
from partialnas.runs.measure.board_bundle import bundled_network, example_images
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.runs.records.subject import subject_data
from partialnas.search.study.study import Study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan

TASK = Task(data="digits", resolution=8, channels=1, classes=10)
CHIP = {"processor": "Chip 9"}


def network(width: int) -> Architecture:
    return Plan(width=width, depths=(1, 1, 1, 1), stem_stride=1, head_width=16).architecture()


NETWORKS = {width: network(width) for width in (4, 8, 16)}
REFERENCE = network(12)
SPEEDS = {4: 3.0, 8: 2.0, 16: 1.0}


def measurement(width: int, relative: float, **changes: Any) -> Measurement:
    facts: dict[str, Any] = {
        "digest": NETWORKS[width].digest, "name": "", "device": "cpu", "device_kind": "cpu",
        "threads": 1, "batch_size": 4, "resolution": 8, "in_chans": 1, "precision": "float32",
        "form": "deploy", "throughput_img_s": 100 * relative, "latency_ms": 40 / relative,
        "relative_throughput": relative, "relative_low": 0.99 * relative,
        "relative_high": 1.01 * relative, "reference_digest": REFERENCE.digest,
        "reference_name": "r", "reference_form": "deploy", "reference_throughput_img_s": 100.0,
        "rounds": 30, "wall_cpu_gap": 0.0, "noisy": False, "load": 0.0, "environment": CHIP,
        "taken": "2030-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Measurement(**facts | changes)


def make_study(folder: Path, **changes: Any) -> Path:
    """Wider networks are better and slower: all are on the front."""
    plain = {
        "study": "made",
        "task": {"data": "digits"},
        "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
        "space": {"axes": {"width": [*NETWORKS]}},
        "search": {"sampler": "random"},
        "budget": {"trials": 3},
        "measure": {"batch_size": 4, "max_seconds": 0.2},
    }
    study = Study.model_validate(plain | changes)
    meta = {
        "study": "made",
        "study_digest": study.digest,
        "frozen": json.dumps(study.frozen()),
        "task": TASK.model_dump_json(),
        "reference": json.dumps(subject_data(REFERENCE)),
    }
    with Ledger.create(folder, meta) as ledger:
        for width, subject in NETWORKS.items():
            digest = subject.digest
            number = ledger.add_proposal(None, digest, subject_data(subject), {})
            facts = {"digest": digest, "name": "", "fidelity": study.recipe.epochs}
            ledger.plan(number, **facts, keys={0: f"{width:016x}"})
            ledger.start(f"{width:016x}")
            metrics = {"val_nll": 1 / width, "val_accuracy": 50.0 + width}
            done = Record(key=f"{width:016x}", seed=0, state="done", metrics=metrics, **facts)
            ledger.finish(done)
            ledger.add_measurement(measurement(width, SPEEDS[width]))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_study(tmp_path / "study")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Protocol]]:
    """Replace measuring by fixed speeds and record the calls; the narrowest network is now slow."""
    taken: list[tuple[str, Protocol]] = []
    relative = {NETWORKS[4].digest: 0.5, NETWORKS[8].digest: 2.04, NETWORKS[16].digest: 1.0}

    def fake(subject: Architecture, _task: Task, protocol: Protocol, *_: object) -> Measurement:
        taken.append((subject.digest, protocol))
        width = subject.widths[0]
        settings = {key: getattr(protocol, key) for key in ("batch_size", "precision", "form")}
        return measurement(width, relative[subject.digest], **settings, threads=protocol.threads)

    monkeypatch.setattr(remeasuring, "measure", fake)
    monkeypatch.setattr(remeasuring, "this_machine", lambda _: ("cpu", "Chip 9"))
    return taken


def measurements(folder: Path) -> list[Measurement]:
    with Ledger.open(folder) as ledger:
        return ledger.measurements()


Clock = list[tuple[str, Protocol]]


def test_the_front_is_measured_with_the_given_protocol_and_the_study_unchanged(
    folder: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load(folder)
    options = ("--batch-size", 1, "--precision", "bfloat16", "--form", "training", "--threads", 2)
    assert run_cli("remeasure", folder, *options) == 0
    output = capsys.readouterr().out
    assert [protocol.batch_size for _, protocol in clock] == [1, 1, 1]
    assert load(folder).equals(before)
    other = load(folder, timing="batch_size=1,precision=bfloat16,form=training,threads=2")
    assert other["relative_throughput"].tolist() == [0.5, 2.04, 1.0]
    tau = kendalltau([*SPEEDS.values()], [0.5, 2.04, 1.0]).statistic
    assert f"Kendall's tau {tau:.3f} over 3 networks" in output
    assert "within 5% of before: 2 of 3; largest change -83.3% (#1)" in output
    assert "with the new values: 1 leave (#1)" in output


def test_measured_networks_are_not_measured_again_by_default(
    folder: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("remeasure", folder) == 0
    assert not clock
    assert "use --again to measure them again" in capsys.readouterr().err
    assert run_cli("remeasure", folder, "--batch-size", 2, "--top", 1) == 0
    assert run_cli("remeasure", folder, "--batch-size", 2) == 0
    assert len(clock) == 3
    assert run_cli("remeasure", folder, "--again") == 0
    assert len(clock) == 6
    assert len(measurements(folder)) == 9


def test_json_output_agrees(folder: Path, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("remeasure", folder, "--batch-size", 2, "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert {row["label"]: row["on_front"] for row in output["networks"]} == {
        "#1": False, "#2": True, "#3": True,
    }  # fmt: skip
    assert all(row["was_on_front"] for row in output["networks"])
    assert len(clock) == 3


def test_a_second_driver_is_rejected(
    folder: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger.open(folder, write=True):
        assert run_cli("remeasure", folder, "--batch-size", 2) == 2
    assert not clock
    assert "another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--precision", "int8"], 2, "precision"),
        (["--runtime", "cuda_graph"], 2, "runtime"),
        (["--device", "cuda:93"], 1, "no cuda:93"),
        (["--condition", "warm"], 2, "--condition"),
        (["--bundle", "x.zip", "--precision", "float16"], 2, "float32"),
        (["--import", "nowhere.json"], 2, "nowhere.json"),
    ],
)
def test_invalid_settings_are_rejected(
    folder: Path, options: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("remeasure", folder, *options) == code
    assert message in capsys.readouterr().err
    assert len(measurements(folder)) == 3


def test_limits_hold_for_the_studys_own_protocol_alone(folder: Path, tmp_path: Path) -> None:
    limited = make_study(tmp_path / "limited", limits={"latency_ms": {"max": 30.0}})
    networks = {n.digest: (f"w{w}", (f"{w:016x}",)) for w, n in NETWORKS.items()}
    digests = {w: n.digest for w, n in NETWORKS.items()}
    old = {digests[w]: measurement(w, s) for w, s in SPEEDS.items()}
    new = {digests[4]: measurement(4, 3.0), digests[8]: measurement(8, 1.2)}
    kept = remeasurement_table(limited, networks, old, new).table
    assert dict(zip(kept["label"], kept["on_front"], strict=True)) == {"w4": True, "w8": False}
    free = remeasurement_table(limited, networks, old, new, apply_measured_limits=False)
    assert free.table["on_front"].all()
    assert free.tau == 1.0
    assert remeasurement_table(folder, networks, old, new).decides


def test_a_real_measurement_ends_in_the_ledger(folder: Path) -> None:
    assert run_cli("remeasure", folder, "--top", 1, "--batch-size", 2, "--seconds", 0.2) == 0
    taken = measurements(folder)[3:]
    assert {m.digest for m in taken} == {NETWORKS[16].digest}
    assert {(m.batch_size, m.runtime, m.resolution) for m in taken} == {(2, "eager", 8)}


@contextmanager
def bundled(folder: Path, *options: object) -> Iterator[Path]:
    pytest.importorskip("onnxruntime")
    output = folder.parent / "board"
    assert run_cli("remeasure", folder, "--bundle", output, *options) == 0
    yield output


@pytest.mark.slow
def test_a_bundle_goes_to_a_board_and_back(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with bundled(folder) as output:
        script = [sys.executable, "measure.py", "--seconds", "0.3", "--device", "Board 7"]
        subprocess.run(script, cwd=output, check=True)
    result = json.loads((output / "result.json").read_text())
    assert len(result["measurements"]) == 3
    assert all(entry["logit_difference"] < 1e-4 for entry in result["measurements"])
    before = load(folder)
    assert run_cli("remeasure", folder, "--import", output / "result.json") == 0
    assert "3 measurements imported" in capsys.readouterr().err
    assert load(folder).equals(before)
    on_board = load(folder, timing="device=Board 7,runtime=onnxruntime")
    ratios = {entry["digest"]: entry["relative"] for entry in result["measurements"]}
    assert on_board["relative_throughput"].tolist() == [*map(ratios.get, on_board["digest"])]
    assert set(on_board["device"]) == {"Board 7"}
    assert run_cli("remeasure", folder, "--import", output / "result.json") == 0
    assert len(measurements(folder)) == 6
    reject_invalid_results(folder, result, tmp_path / "wrong.json", capsys)


def reject_invalid_results(
    folder: Path, result: dict[str, Any], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check that results of another study or without values are rejected and not stored."""
    one = result["measurements"][0]
    wrong: dict[str, Any] = {
        "cannot be read": None,
        "is not a result of a bundle's measure.py": {"partialnas": 1},
        "or another version of it": {**result, "study": {"name": "other", "digest": ""}},
        "its reference is not that of the study": {
            **result, "reference": {**result["reference"], "digest": "0" * 16},
        },
        "has no network stranger": {
            **result, "measurements": [{**one, "digest": "0" * 16, "name": "stranger"}],
        },
        "relative": {**result, "measurements": [{**one, "relative": float("nan")}]},
        "reference_seconds": {**result, "measurements": [{**one, "reference_seconds": 0.0}]},
        "within its interval": {**result, "measurements": [{**one, "high": one["low"] / 2}]},
        "are wrong on the board": {**result, "measurements": [{**one, "logit_difference": 0.5}]},
        "rounds": {**result, "measurements": [{k: v for k, v in one.items() if k != "rounds"}]},
    }  # fmt: skip
    for message, data in wrong.items():
        path.write_text("{broken" if data is None else json.dumps(data))
        assert run_cli("remeasure", folder, "--import", path) == 2
        assert message in capsys.readouterr().err
    assert len(measurements(folder)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("form", ["deploy", "training"])
def test_bundled_files_compute_what_torch_computes(folder: Path, form: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    with bundled(folder, "--form", form) as output:
        manifest = json.loads((output / "manifest.json").read_text())
    assert {network["digest"] for network in manifest["networks"]} == {
        network.digest for network in NETWORKS.values()
    }
    images = example_images(TASK)
    for subject in (*NETWORKS.values(), REFERENCE):
        module, _ = bundled_network(subject, TASK, form)
        with torch.inference_mode():
            expected = module(images).numpy()
        session = onnxruntime.InferenceSession(output / f"{subject.digest}.onnx")
        (logits,) = session.run(None, {"image": images.numpy()})
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


@pytest.mark.slow
def test_a_bundle_may_be_a_zip_file_and_damage_is_detected(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    output = tmp_path / "board.zip"
    assert run_cli("remeasure", folder, "--bundle", output, "--top", 1) == 0
    zipfile.ZipFile(output).extractall(tmp_path / "there")
    there = tmp_path / "there" / "board"
    first = NETWORKS[16].digest
    assert {path.name for path in there.iterdir()} == {
        "measure.py", "manifest.json", f"{first}.onnx", f"{REFERENCE.digest}.onnx",
    }  # fmt: skip
    (there / f"{first}.onnx").write_bytes(b"")
    run = subprocess.run([sys.executable, "measure.py"], cwd=there, capture_output=True, text=True)
    assert run.returncode == 1
    assert "is damaged: copy the bundle again" in run.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    assert run_cli("remeasure", folder, "--bundle", tmp_path / "full") == 2
