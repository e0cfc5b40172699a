"""Studies of user functions that report epochs, continue after interruptions, or are timed."""

import importlib.util
import io
import re
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import run_verb
from rich.console import Console

from partialnas.analysis import load, study_figure
from partialnas.analysis.report.report import report_artefact
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import parse_subject
from partialnas.runs.system.seeding import torch_threads
from partialnas.search.session.run_study import rehearse_study, run_study
from partialnas.search.study.study import Study

ROOT = Path(__file__).parents[3]
STUDIES = ROOT / "search" / "studies"

FUNCTION = """
import os
import signal
from pathlib import Path

DEATHS = {8: 0, 12: 0}


def evaluate(network, seed, epochs, report, checkpoint_dir):
    width, state = network.widths[0], checkpoint_dir / "state.txt"
    start = int(state.read_text()) if state.exists() else 0
    for epoch in range(start + 1, epochs + 1):
        state.write_text(str(epoch))
        report(epoch, {"val_nll": width / epoch, "own": width + epoch, "start": start})
        died = Path(__file__).with_name(f"died-{width}")
        deaths = len(died.read_text()) if died.exists() else 0
        if epoch == deaths + 1 and deaths < DEATHS.get(width, 0):
            died.write_text("x" * (deaths + 1))
            os.kill(os.getpid(), signal.SIGKILL)
    return {"val_nll": width / epochs, "own": width + epochs}
"""
PLAIN: dict[str, Any] = {
    "study": "curves",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "arms": {"a": {"width": 8}, "b": {"width": 12}},
    "objectives": {"val_nll": "min", "macs": "min"},
    "recipe": {"epochs": 4},
    "executor": {"kind": "in-process", "pilot": 0},
}


def write_study(folder: Path, deaths: str = "{}", **changes: Any) -> Study:
    """Write a study and its function, in a module named after the folder."""
    name = "f_" + re.sub(r"\W", "_", folder.name)
    (folder / f"{name}.py").write_text(FUNCTION.replace("{8: 0, 12: 0}", deaths))
    plain = {**PLAIN, "trial": f"{name}:evaluate", **changes}
    (folder / "study.yaml").write_text(yaml.safe_dump(plain))
    return Study.model_validate(plain)


def run(study: Study, folder: Path) -> Path:
    out = folder / "out"
    run_study(study, out, base_dir=folder, console=Console(file=io.StringIO()))
    return out


Rows = list[tuple[float, float, float]]


def curves(out: Path) -> dict[tuple[int, int], Rows]:
    """Return the curve of each trial, without times, by width and `epochs`."""
    with Ledger.open(out) as ledger:
        widths = {
            row.digest: parse_subject(ledger.subject(row.number)) for row in ledger.proposals()
        }
        return {
            (widths[row.digest].widths[0], row.fidelity): [  # type: ignore[union-attr]
                (point["epoch"], point["val_nll"], point["start"])
                for point in ledger.curve(row.key)
            ]
            for row in ledger.trials()
        }


def curve(width: int, epochs: int, *starts: int) -> Rows:
    """Return the rows of a trial whose processes began after these epochs."""
    started = [max(start for start in starts if start < epoch) for epoch in range(1, epochs + 1)]
    return [(epoch, width / epoch, start) for epoch, start in enumerate(started, start=1)]


def test_figures_and_reports_show_reported_epochs(tmp_path: Path) -> None:
    out = run(write_study(tmp_path), tmp_path)
    assert curves(out) == {(8, 4): curve(8, 4, 0), (12, 4): curve(12, 4, 0)}
    assert [*(out / "checkpoints").iterdir()] == []
    for metric, first in ((None, 8.0), ("own:min", 9.0)):
        table = study_figure("curves", out, tmp_path / "curves.pdf", metric=metric).table
        rows = table[table["label"].astype(str).str.startswith("a")]
        assert rows["epoch"].tolist() == [1, 2, 3, 4]
        assert rows["value"].iloc[0] == first
    assert '"curves"' in report_artefact(out).content(".html").decode()


def test_promoted_networks_continue_from_the_rung_below(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "arms": {}, "space": {"axes": {"width": [8, 12], "mlp_ratio": [1, 2]}},
        "search": {"sampler": "random", "rungs": [{"recipe.epochs": 1}], "promote": "1/2"},
        "budget": {"trials": 4}, "recipe": {"epochs": 3},
    }  # fmt: skip
    out = run(write_study(tmp_path, **changes), tmp_path)
    frame = load(out)
    assert sorted(frame["state"]) == ["done", "early", "early", "early"]
    by_trial = curves(out)
    assert {epochs for _, epochs in by_trial} == {1, 3}
    for (width, epochs), rows in by_trial.items():
        assert rows == (curve(width, 1, 0) if epochs == 1 else curve(width, 3, 0, 1))


@pytest.mark.slow
def test_a_study_whose_process_was_killed_keeps_its_curves(tmp_path: Path) -> None:
    write_study(tmp_path, deaths="{12: 2}")
    codes = [run_verb(["run", "study.yaml", "--out", "out"], tmp_path).returncode for _ in "123"]
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    expected = {(8, 4): curve(8, 4, 0), (12, 4): curve(12, 4, 0, 1, 2)}
    assert curves(tmp_path / "out") == expected


@pytest.mark.slow
def test_workers_that_die_keep_what_they_reported(tmp_path: Path) -> None:
    ray = {"kind": "ray", "workers": 1, "pilot": 0}
    study = write_study(tmp_path, deaths="{8: 3, 12: 1}", executor=ray)
    out = run(study, tmp_path)
    states = load(out).set_index("arm")["state"].to_dict()
    assert states == {"a": "failed", "b": "done"}
    assert curves(out) == {(8, 4): curve(8, 3, 0, 1, 2), (12, 4): curve(12, 4, 0, 1)}
    (kept,) = (out / "checkpoints").iterdir()  # from which --retry-failed continues
    assert (kept / "checkpoints" / "state.txt").read_text() == "3"


def test_the_networks_of_a_function_are_timed_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # device locks of this test only
    objectives = {"val_nll": "min", "throughput_img_s": "max"}
    measure = {"when": "during", "max_seconds": 0.1, "batch_size": 2}
    study = write_study(tmp_path, objectives=objectives, measure=measure)
    out = run(study, tmp_path)
    frame = load(out)
    assert frame["state"].eq("done").all()
    assert frame["throughput_img_s"].gt(0).all()
    with Ledger.open(out) as ledger:
        assert {m.digest for m in ledger.measurements()} >= {*frame["digest"]}
        assert not any("throughput_img_s" in row.metrics for row in ledger.trials())
    rehearse_study(study, tmp_path / "dry", base_dir=tmp_path, console=Console(file=io.StringIO()))
    assert load(tmp_path / "dry")["throughput_img_s"].gt(0).all()


@pytest.mark.parametrize("when", ["auto", "never"])
def test_other_studies_of_functions_time_nothing(tmp_path: Path, when: str) -> None:
    objectives = {"val_nll": "min", "throughput_img_s": "max"}
    out = run(write_study(tmp_path, objectives=objectives, measure={"when": when}), tmp_path)
    frame = load(out)
    reason = "metric throughput_img_s is missing; got val_nll, own; return it, or set measure.when"
    assert frame["reason"].str.startswith(reason).all()
    with Ledger.open(out) as ledger:
        assert ledger.measurements() == []


def test_the_page_shows_the_shipped_function() -> None:
    page = (ROOT / "docs" / "functions.md").read_text(encoding="utf-8")
    text = (STUDIES / "own_function.py").read_text(encoding="utf-8")
    assert f"```python\n{text}```" in page
    lines = [*re.findall(r"^    +\S.*$", text.partition('"""Train')[2], re.MULTILINE)]
    assert 15 <= len(lines) <= 25


def test_the_shipped_function_trains() -> None:
    spec = importlib.util.spec_from_file_location("own_function", STUDIES / "own_function.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plain = yaml.safe_load((STUDIES / "own-function.yaml").read_text(encoding="utf-8"))
    architecture = Study.model_validate(plain).base.architecture()
    rows: list[tuple[int, float]] = []
    report = lambda epoch, metrics: rows.append((epoch, metrics["val_accuracy"]))  # noqa: E731
    with torch_threads(1):
        metrics = module.train(architecture, 0, 2, report)
    assert metrics["val_accuracy"] > 30  # of 10 classes
    assert rows[-1] == (2, metrics["val_accuracy"])


@pytest.mark.slow
def test_the_shipped_study_runs_from_any_folder(tmp_path: Path) -> None:
    run_quick = ["run", str(STUDIES / "own-function.yaml"), "--quick", "--out", "out"]
    settings = ["--set", "executor.kind=in-process", "--set", "measure.max_seconds=0.2"]
    done = run_verb([*run_quick, *settings], tmp_path)
    assert done.returncode == 0, done.stderr
    frame = load(tmp_path / "out")
    assert frame["state"].eq("done").all()
    assert frame["throughput_img_s"].gt(0).all()
    assert run_verb(["figure", "curves", "out", "-o", "curves.pdf"], tmp_path).returncode == 0
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_the_traceback_of_a_function_is_in_the_log(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    path = next(tmp_path.glob("f_*.py"))
    path.write_text(
        path.read_text().replace('"val_nll": width / epochs', '"val_nll": 1 / (width - 8)')
    )
    out = run(study, tmp_path)
    assert load(out)["reason"].tolist().count("ZeroDivisionError: division by zero") == 1
    log = (out / "workers.log").read_text()
    assert log.count("Traceback") == 1
    assert f'{path.name}", line' in log
