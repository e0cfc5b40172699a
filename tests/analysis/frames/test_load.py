import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from partialnas.analysis import load, load_trials
from partialnas.analysis.frames.load import TRIAL_COLUMNS
from partialnas.analysis.frames.settings import RECIPE_COLUMNS, TASK_COLUMNS
from partialnas.runs.ledger import column_store as volumes
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import UserError

EXAMPLES = Path(__file__).parents[3] / "analysis" / "notebooks" / "ledgers"
Ledgers = Callable[..., Path]
Measure = Callable[..., Any]
GOOD = {"val_accuracy": 95.0, "val_nll": 0.2, "test_accuracy": 94.0, "test_nll": 0.21,
        "train_nll": 0.1}  # fmt: skip
COST = {"params": 3_486_160, "macs": 235_405_552, "macs_core": 230_000_000, "activations": 7}


@pytest.mark.parametrize("name", ["quickstart", "partitions", "static-vs-dynamic"])
def test_archived_rows_give_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    before = load(folder, stage=None)
    monkeypatch.setattr(volumes, "VOLUME_SIZE", 4)
    with Ledger.open(folder, write=True) as ledger:
        ledger.update_meta({"note": "rows are bound when what has been written to is closed"})
    with sqlite3.connect(folder / "ledger.sqlite") as bound:
        assert bound.execute("SELECT count(*) FROM volumes").fetchone()[0] > 100
    after = load(folder, stage=None)
    pd.testing.assert_frame_equal(after, before, check_exact=True)


def test_one_row_per_trial_including_failed_and_unfinished_ones(
    tmp_path: Path, ledgers: Ledgers
) -> None:
    folder = ledgers(
        tmp_path / "study",
        [
            {"state": "done", "metrics": GOOD, "cost": COST, "seconds": 9.5, "device": "cuda:0"},
            {"state": "failed", "reason": "the loss is NaN in epoch 2", "cost": COST},
            {"arm": "fasternet_t0", "seed": 3},
        ],
    )
    frame = load(folder)
    assert tuple(frame.columns) == (*TRIAL_COLUMNS, *TASK_COLUMNS, *RECIPE_COLUMNS)
    assert frame["trial"].tolist() == [1, 2, 3]
    assert frame["state"].tolist() == ["done", "failed", "planned"]
    assert frame["reason"].dropna().to_dict() == {1: "the loss is NaN in epoch 2"}
    assert frame["arm"].tolist() == ["", "", "fasternet_t0"]
    assert frame["baseline"].tolist() == [False, False, True]
    assert frame["params"].tolist()[:2] == [3_486_160] * 2
    assert frame.loc[0, [*GOOD]].to_dict() == GOOD
    assert frame.loc[[1, 2], [*GOOD]].isna().all(axis=None)
    first = frame.iloc[0]
    assert (first["study"], first["folder"]) == ("quickstart", str(folder))
    assert (first["full_fidelity"], first["data"], first["resolution"]) == (4, "mnist5k", 28)
    assert (first["trained_on"], first["seconds"]) == ("cuda:0", 9.5)
    assert load_trials(folder).objectives == {"val_nll": "min", "throughput_img_s": "max"}


def test_types_do_not_depend_on_what_is_missing(
    tmp_path: Path, ledgers: Ledgers, measure: Measure
) -> None:
    full = ledgers(
        tmp_path / "full",
        [{"state": "done", "metrics": GOOD, "cost": COST}],
        [measure("0" * 16, 2.0, 1000.0, peak_memory_bytes=4096)],
    )
    bare = ledgers(tmp_path / "bare", [{}])
    none = ledgers(tmp_path / "none", [])
    numeric = load(full).select_dtypes("number").dtypes
    for folder in (bare, none):
        assert load(folder).dtypes[numeric.index].to_dict() == numeric.to_dict()
    both = load([none, full, bare, full])
    assert both.dtypes[numeric.index].to_dict() == numeric.to_dict()
    assert both["folder"].tolist() == [str(full), str(bare)]
    assert both["baseline"].dtype == both["noisy"].dtype == bool
    assert str(both["params"].dtype) == "Int64"
    assert load(none).empty


def test_arms_of_a_study_without_a_search_are_not_baselines(
    tmp_path: Path, ledgers: Ledgers
) -> None:
    folder = ledgers(tmp_path, [{"arm": "parts=3"}], study={"search": None})
    assert load(folder)[["arm", "baseline"]].to_numpy().tolist() == [["parts=3", False]]


def test_user_metrics_do_not_replace_other_columns(tmp_path: Path, ledgers: Ledgers) -> None:
    metrics = {"score": 3.5, "seed": 99.0}
    frame = load(ledgers(tmp_path, [{"state": "done", "metrics": metrics, "seed": 5}]))
    assert frame.loc[0, ["score", "metric_seed", "seed"]].tolist() == [3.5, 99.0, 5]
    assert pd.isna(frame.loc[0, "val_nll"])


def test_drift_of_the_machine_between_measurements_cancels(
    tmp_path: Path, ledgers: Ledgers, measure: Measure
) -> None:
    digests = ["a" * 16, "b" * 16, "c" * 16]
    speeds = [1000.0, 500.0, 900.0]
    taken = [measure(d, 2.0, speed) for d, speed in zip(digests, speeds, strict=True)]
    frame = load(ledgers(tmp_path, [{"digest": d} for d in digests], taken))
    assert frame["throughput_raw_img_s"].tolist() == [2000.0, 1000.0, 1800.0]
    assert frame["throughput_img_s"].tolist() == [1800.0] * 3
    assert frame["latency_ms"].tolist() == pytest.approx([32_000 / 1800] * 3)
    assert frame["processor"].unique().tolist() == ["AMD EPYC 9B14"]


def test_latest_quiet_measurement_by_the_study_protocol_is_joined(
    tmp_path: Path, ledgers: Ledgers, measure: Measure
) -> None:
    net, busy, timm, other = (c * 16 for c in "abcd")
    taken = [
        measure(net, 1.0, 1000.0),
        measure(net, 2.0, 1000.0),
        measure(net, 3.0, 1000.0, noisy=True),
        measure(net, 4.0, 1000.0, threads=2),
        measure(net, 5.0, 1000.0, form="training"),
        measure(net, 6.0, 1000.0, device="NVIDIA H200", device_kind="cuda"),
        measure(busy, 7.0, 1000.0, noisy=True),
        measure(timm, 8.0, 1000.0, form="training"),
        measure(other, 9.0, 1000.0, batch_size=1),
    ]
    records = [{"digest": d} for d in (net, busy, timm, other)]
    frame = load(ledgers(tmp_path, records, taken))
    assert frame["relative_throughput"].tolist()[:3] == [2.0, 7.0, 8.0]
    assert frame["noisy"].tolist() == [False, True, False, False]
    assert frame["form"].tolist()[:3] == ["deploy", "deploy", "training"]
    assert pd.isna(frame.loc[3, "throughput_img_s"])


def test_every_seed_of_a_network_has_its_measurement(
    tmp_path: Path, ledgers: Ledgers, measure: Measure
) -> None:
    records = [{"digest": "a" * 16, "seed": seed} for seed in range(3)]
    frame = load(ledgers(tmp_path, records, [measure("a" * 16, 1.5, 1000.0)]))
    assert frame["throughput_img_s"].tolist() == [1500.0] * 3


def test_unstated_resolution_is_that_of_the_measurement(
    tmp_path: Path, ledgers: Ledgers, measure: Measure
) -> None:
    open_study = {"task": {"data": "mnist5k", "resolution": None}}
    taken = [measure("0" * 16, 1.0, 1000.0, resolution=14)]
    frame = load(ledgers(tmp_path / "timed", [{}, {}], taken, open_study))
    assert frame["resolution"].isna().tolist() == [False, True]
    assert frame["resolution"][0] == 14
    assert load(ledgers(tmp_path / "bare", [{}], [], open_study))["resolution"].isna().all()


def test_folder_without_a_ledger_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no ledger here"):
        load(tmp_path)
    with pytest.raises(UserError, match="no study named"):
        load([])
