"""Files of bundles written by an earlier version: results are imported, manifests are measured."""

import copy
import importlib.util
import json
import math
import operator
import shutil
import sys
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.measure import board_script
from partialnas.runs.measure.board_bundle import MANIFEST, SCRIPT, BoardResult, read_result
from partialnas.space.errors import UserError

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


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "CUDAExecutionProvider"])
def test_the_script_measures_a_bundle_of_an_earlier_version(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str
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
    settings = ["--seconds", "0.05", "--device", "a board", "--provider", provider]
    script.main(["--out", str(output), *settings])
    result = BoardResult.model_validate_json(output.read_text())
    assert (result.threads, result.batch_size, result.device) == (1, 32, "a board")
    with Ledger.open(study) as ledger:
        measurements = read_result(output, ledger)
    assert [m.name for m in measurements] == [m.name for m in result.measurements]
    is_unknown = {m.tainted is None for m in measurements}
    assert is_unknown == {provider != "CPUExecutionProvider"}


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.integers(),
    st.sampled_from([10**400, 2**63, 2**31 - 1, 1e308, 1e-320, 1e15, 1e-15, -1.0]),
    st.floats(),
    st.text(),
    st.sampled_from(["\ud800", "\x00", "x" * 10000]),
    st.just([]),
    st.just({}),
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in plain data."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    paths = []
    for key, value in items:
        paths.append((*path, key))
        if isinstance(value, dict | list):
            paths += places(value, (*path, key))
    return paths


RESULT = json.loads((DATA / "result.json").read_text())


@settings(max_examples=80, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(places(RESULT)), VALUES, min_size=1, max_size=2))
def test_a_changed_result_is_refused_or_recorded(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[tuple[Any, ...], Any]
) -> None:
    result = copy.deepcopy(RESULT)
    for (*parents, last), value in sorted(changes.items(), key=lambda pair: -len(pair[0])):
        reduce(operator.getitem, parents, result)[last] = value
    folder = tmp_path_factory.mktemp("changed")
    study = Path(shutil.copytree(DATA / "learned", folder / "learned"))
    path = folder / "result.json"
    path.write_text(json.dumps(result))
    with Ledger.open(study, write=True) as ledger:
        before = ledger.measurements()
        try:
            measurements = read_result(path, ledger)
        except UserError:
            return
        for measurement in measurements:
            ledger.add_measurement(measurement)
    with Ledger.open(study) as ledger:
        assert ledger.measurements() == [*before, *measurements]
    for measurement in measurements:
        assert 0 < measurement.throughput_img_s < math.inf
        assert 0 < measurement.latency_ms < math.inf


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"partialnas_result":' * 100_000,
        b'{"partialnas_result":1,"study":' + b'{"a":' * 150 + b"1" + b"}" * 151,
        b'{"partialnas_result":' + b"1" * 5000 + b"}",
    ],
    ids=["empty", "binary", "mark", "lists", "mappings", "deep study", "digits"],
)
def test_a_file_that_is_no_result_is_refused(study: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with Ledger.open(study) as ledger, pytest.raises(UserError, match=r"result\.json: "):
        read_result(path, ledger)
