"""Speeds of networks that cannot be captured as CUDA graphs are marked beside captured ones."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from partialnas.analysis.ablation.table import table_artefact
from partialnas.analysis.frames.load import load, load_trials
from partialnas.analysis.pareto.figure import pareto_figure
from partialnas.analysis.pareto.front_table import front_table
from partialnas.analysis.pareto.table import format_pareto_table, make_pareto_table
from partialnas.analysis.report.report import write_report
from partialnas.commands.studies import status
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.measurement import Measurement

Measure = Callable[..., Measurement]
GPU = {"device": "NVIDIA H200", "device_kind": "cuda", "environment": {"processor": "Xeon"}}
GPU_STUDY = {"measure": {"device": "cuda"}}
RECORDS = [
    {"state": "done", "metrics": {"val_accuracy": accuracy, "val_nll": 1 / accuracy}}
    for accuracy in (90.0, 80.0, 70.0)
]


@pytest.fixture
def folder(tmp_path: Path, ledgers: Callable[..., Path], measure: Measure) -> Path:
    """Return a study with two captured networks and one that runs eagerly, in the middle."""
    runtimes = ("cuda_graph", "eager", "cuda_graph")
    timings = [
        measure(
            f"{i:016x}", 1.0 + i, 1000.0, **GPU, runtime=runtime, reference_runtime="cuda_graph"
        )
        for i, runtime in enumerate(runtimes)
    ]
    return ledgers(tmp_path / "study", RECORDS, timings, study=GPU_STUDY)


def test_all_share_the_scale_of_the_captured_reference(folder: Path) -> None:
    frame = load(folder)
    assert frame["throughput_img_s"].tolist() == [1000, 2000, 3000]
    assert frame["runtime"].tolist() == ["cuda_graph", "eager", "cuda_graph"]


def test_tables_mark_eager_speeds(folder: Path) -> None:
    table, _ = front_table(load_trials(folder), [], None)
    speeds = next(column for column in table.columns if column.header == "images/s")
    assert sorted(cell.text for cell in speeds.cells) == ["1,000", "2,000§", "3,000"]
    assert "§: run eagerly" in table.caption
    shown = format_pareto_table(make_pareto_table(load_trials(folder)))
    assert sorted(shown["Throughput (images/s)"]) == ["1,000", "2,000§", "3,000"]


def test_status_explains_the_mark_where_no_captured_network_is_shown(
    tmp_path: Path, ledgers: Callable[..., Path], measure: Measure
) -> None:
    timings = [
        measure(f"{i:016x}", 3.0 - i, 1000.0, **GPU, runtime=runtime)
        for i, runtime in enumerate(("eager", "cuda_graph", "cuda_graph"))
    ]
    study = ledgers(tmp_path / "study", RECORDS, timings, study=GPU_STUDY)
    table = status.front_table(load_trials(study))
    cells = [str(cell) for column in table.columns for cell in column.cells]
    assert table.row_count == 1
    assert "3,000§" in cells
    assert "§: run eagerly" in str(table.caption)


def test_figures_mark_eager_speeds_and_name_the_runtimes(folder: Path) -> None:
    figure = pareto_figure(folder)
    assert "CUDA graphs (#2: eager)" in figure.caption
    assert "Hollow markers: eager (1)." in figure.caption
    assert "§: run eagerly" in figure.artefact.texts[".md"]


def test_tables_of_ablations_mark_eager_arms(
    tmp_path: Path, ablations: Callable[..., Path], measure: Measure
) -> None:
    values = {arm: {0: 80.0, 1: 81.0} for arm in ("static", "by input")}
    study = ablations(tmp_path / "study", values, study=GPU_STUDY)
    with Ledger.open(study, write=True) as ledger:
        for i, runtime in enumerate(("cuda_graph", "eager")):
            timing = measure(f"{i:016x}", 1.0 + i, 1000.0, **GPU, runtime=runtime)
            ledger.add_measurement(timing)
    rows = table_artefact(study).texts[".md"]
    (eager,) = (row for row in rows.splitlines() if "§" in row and "|" in row)
    assert "by input" in eager
    assert "CUDA graphs (by input: eager)" in rows
    assert "§: eager" in rows


def test_reports_draw_eager_speeds_hollow(folder: Path, tmp_path: Path) -> None:
    page = write_report(folder, tmp_path / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r'hollow" data-id.*?<title>(#\d)', page)) == {"#2"}


def test_on_one_runtime_nothing_is_marked(
    tmp_path: Path, ledgers: Callable[..., Path], measure: Measure
) -> None:
    timings = [measure(f"{i:016x}", 1.0 + i, 1000.0) for i in range(3)]
    figure = pareto_figure(ledgers(tmp_path / "cpu", RECORDS, timings))
    assert "eager" not in figure.caption
    assert "§" not in figure.artefact.texts[".md"]


def test_throttled_timings_are_noisy_except_under_a_power_cap(
    tmp_path: Path, ledgers: Callable[..., Path], measure: Measure
) -> None:
    states = [
        {"throttle_reasons": "power cap"},
        {"throttle_reasons": "thermal slowdown"},
        {"tainted": None},
    ]
    timings = [measure(f"{i:016x}", 1.0, 1000.0, **marks) for i, marks in enumerate(states)]
    frame = load(ledgers(tmp_path / "cpu", RECORDS, timings))
    assert frame["noisy"].tolist() == [False, True, False]
    assert frame["tainted"].tolist() == [False, False, False]
