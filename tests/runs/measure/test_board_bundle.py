"""Files of bundles written by an earlier version: results are imported, manifests are measured."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.measure import board_script
from partialnas.runs.measure.board_bundle import MANIFEST, SCRIPT, BoardResult, read_result

DATA = Path(__file__).parent / "data"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a copy of the study that the bundle was written from."""
    return Path(shutil.copytree(DATA / "learned", tmp_path / "learned"))


def test_a_result_of_an_earlier_version_is_imported(study: Path) -> None:
    result = json.loads((DATA / "result.json").read_text())
    with Ledger.open(study) as ledger:
        measurements = read_result(DATA / "result.json", ledger)
    assert [m.digest for m in measurements] == [m["digest"] for m in result["measurements"]]
    for measurement, entry in zip(measurements, result["measurements"], strict=True):
        assert measurement.relative_throughput == entry["relative"]
        assert measurement.wall_cpu_gap == entry["clock_gap"]
        assert (measurement.device, measurement.runtime) == ("some board", "onnxruntime")
        assert (measurement.noisy, measurement.taken) == (entry["noisy"], entry["taken"])
    reference = measurements[0]  # the arm `static` is the reference
    assert reference.digest == reference.reference_digest
    assert reference.throughput_img_s == reference.reference_throughput_img_s
    seconds = result["measurements"][0]["seconds"]
    assert reference.throughput_img_s == pytest.approx(result["batch_size"] / seconds)


def fake_session(_folder: Path, network: dict[str, Any], _options: Any) -> Any:
    """Return a session that computes the logits of the manifest."""

    def run(_names: None, feed: dict[str, Any]) -> list[Any]:
        return [np.array(network["logits"])] if len(feed["image"]) == 2 else []

    return SimpleNamespace(
        run=run,
        get_inputs=lambda: [SimpleNamespace(shape=["batch", 1, 16, 16])],
        get_providers=lambda: ["CPUExecutionProvider"],
    )


def test_the_script_measures_a_bundle_of_an_earlier_version(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    shutil.copy(DATA / "manifest.json", tmp_path / MANIFEST)
    shutil.copy(str(board_script.__file__), tmp_path / SCRIPT)
    spec = importlib.util.spec_from_file_location("measure_of_bundle", tmp_path / SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "measure_of_bundle", script)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "_session", fake_session)
    output = tmp_path / "result.json"
    script.main(["--out", str(output), "--seconds", "0.05", "--device", "a board"])
    result = BoardResult.model_validate_json(output.read_text())
    assert (result.threads, result.batch_size, result.device) == (1, 32, "a board")
    with Ledger.open(study) as ledger:
        measurements = read_result(output, ledger)
    assert [m.name for m in measurements] == [m.name for m in result.measurements]
