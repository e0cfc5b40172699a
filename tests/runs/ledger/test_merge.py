"""Merged ledgers of one study: nothing is lost or duplicated."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.merge import LedgerMerge, write_merged
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.system.files import checkpoint_path, weights_path
from partialnas.space.errors import UserError

META = {"study": "tiny", "frozen": "{}"}


def record(key: str, **facts: Any) -> Record:
    digest, _, seed = key.partition("-")
    usual: dict[str, Any] = {"state": "done", "metrics": {"val_nll": 0.5}, "seconds": 1.5}
    identity = {"key": key, "digest": digest, "name": digest, "seed": int(seed), "fidelity": 2}
    return Record(**{**identity, **usual, **facts})


def measurement(digest: str, device: str = "cpu") -> Measurement:
    conditions = {"device": device, "device_kind": "cpu", "threads": 1, "batch_size": 32}
    size = {"resolution": 28, "in_chans": 1, "precision": "float32", "form": "deploy"}
    results = {"throughput_img_s": 1234.5, "latency_ms": 25.9, "rounds": 9, "wall_cpu_gap": 0.01}
    rest = {"noisy": False, "load": 0.3, "environment": {}, "taken": "2026-01-01T00:00:00+00:00"}
    return Measurement.model_validate(
        {"digest": digest, "name": "n", **conditions, **size, **results, **rest}
    )


def ledger(folder: Path, keys: list[str], arm: str | None = None, **note: Any) -> Ledger:
    """Create a ledger with one proposal and one planned trial for each key."""
    created = Ledger.create(folder, META)
    for number, key in enumerate(keys, start=1):
        digest, _, seed = key.partition("-")
        sampler_note = note or {"asked": number}
        proposal = created.add_proposal(
            arm and f"{arm}-{digest}", digest, {"name": digest}, sampler_note
        )
        created.plan(proposal, digest=digest, name=digest, fidelity=2, keys={int(seed): key})
    return created


def merge_folders(out: Path, *folders: Path) -> tuple[Ledger, LedgerMerge]:
    merge = LedgerMerge()
    for folder in folders:
        merge.add(folder)
    write_merged(merge, META, out)
    return Ledger.open(out), merge


def test_records_curves_ratios_and_measurements_come_along(tmp_path: Path) -> None:
    curve = ({"epoch": 1.0, "val_nll": 0.1 + 0.2}, {"epoch": 2.0, "val_nll": 1 / 3})
    ratio = RatioEpoch(
        epoch=1, channels={"b": 16 / 3}, ratios={"b": 1 / 3}, used_macs=2.0**40, budget_macs=None
    )
    with ledger(tmp_path / "one", ["a-0"]) as one:
        one.finish(record("a-0", curve=curve))
        one.add_measurement(measurement("a"))
    with ledger(tmp_path / "two", ["b-0"]) as two:
        two.finish(record("b-0", ratios=(ratio,), environment={"cores": 2}))
        two.add_measurement(measurement("b"))
        two.add_measurement(measurement("a"))
    with (
        merge_folders(tmp_path / "out", tmp_path / "one", tmp_path / "two")[0] as merged,
        Ledger.open(tmp_path / "one") as one,
        Ledger.open(tmp_path / "two") as two,
    ):
        assert META.items() <= merged.meta.items()
        assert len({ledger.meta["ledger_id"] for ledger in (merged, one, two)}) == 3
        assert merged.trials() == [
            one.trials()[0],
            two.trials()[0]._replace(number=2, proposal=2),
        ]
        assert merged.curve("a-0") == [*curve]
        assert merged.ratios("b-0") == [ratio]
        assert merged.measurements() == [measurement("a"), measurement("b")]
        assert [row.digest for row in merged.proposals()] == ["a", "b"]
        assert [row.created for row in merged.proposals()] == [
            *(row.created for row in one.proposals()),
            *(row.created for row in two.proposals()),
        ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ledger.sqlite"]


def test_a_ledger_merged_with_itself_is_unchanged(tmp_path: Path) -> None:
    with ledger(tmp_path / "one", ["a-0", "b-0", "a-1", "a-1"]) as one:
        one.finish(record("b-0"))
        one.add_proposal(None, "a", {"name": "a"}, {"asked": 9})
        one.add_proposal(None, "a", {"name": "a"}, {"asked": 9})
        one.start("a-0")
    (tmp_path / "copy").symlink_to(tmp_path / "one")
    with (
        merge_folders(tmp_path / "out", tmp_path / "one", tmp_path / "copy")[0] as merged,
        Ledger.open(tmp_path / "one") as one,
    ):
        assert merged.proposals() == one.proposals()
        planned = [
            row._replace(state="planned") if row.state == "running" else row for row in one.trials()
        ]
        assert merged.trials() == planned


def test_the_first_ledger_keeps_its_numbers(tmp_path: Path) -> None:
    ledger(tmp_path / "one", ["a-0", "b-0"]).close()
    ledger(tmp_path / "two", ["c-0", "b-0", "d-0"], parent=1).close()
    merged, _ = merge_folders(tmp_path / "out", tmp_path / "one", tmp_path / "two")
    with merged:
        assert [(row.number, row.key) for row in merged.trials()] == [
            (1, "a-0"),
            (2, "b-0"),
            (3, "c-0"),
            (4, "d-0"),
        ]
        assert [row.proposal.get("parent") for row in merged.proposals()][3:] == [3, 3]


def test_positions_in_a_samplers_sequence_continue(tmp_path: Path) -> None:
    ledger(tmp_path / "one", ["a-0", "b-0"]).close()
    ledger(tmp_path / "two", ["c-0", "d-0", "e-0"]).close()
    ledger(tmp_path / "three", ["f-0"]).close()
    merged, _ = merge_folders(tmp_path / "out", *(tmp_path / n for n in ("one", "two", "three")))
    with merged:
        assert [row.proposal["asked"] for row in merged.proposals()] == [1, 2, 3, 4, 5, 6]


def test_arms_that_several_have_are_proposed_once(tmp_path: Path) -> None:
    ledger(tmp_path / "one", ["a-0", "b-0"], arm="arm", stage="").close()
    ledger(tmp_path / "two", ["b-0", "c-0"], arm="arm", stage="").close()
    merged, _ = merge_folders(tmp_path / "out", tmp_path / "one", tmp_path / "two")
    with merged:
        assert [row.arm for row in merged.proposals()] == ["arm-a", "arm-b", "arm-c"]


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_a_finished_trial_is_preferred(tmp_path: Path, order: tuple[str, str]) -> None:
    ledger(tmp_path / "one", ["a-0"]).close()
    with ledger(tmp_path / "two", ["a-0"]) as two:
        two.finish(record("a-0", curve=({"epoch": 1.0},)))
    merged, merge = merge_folders(tmp_path / "out", *(tmp_path / name for name in order))
    with merged:
        assert [row.state for row in merged.trials()] == ["done"]
        assert merged.curve("a-0") == [{"epoch": 1.0}]
    assert merge.remarks == []


FAILED: dict[str, Any] = {"state": "failed", "reason": "NaN", "metrics": {}}


@pytest.mark.parametrize(
    ("earlier", "later", "kept", "has_remark"),
    [
        ({}, {"seconds": 9.0}, "earlier", False),
        ({}, {"metrics": {"val_nll": 0.6}}, "earlier", True),
        (FAILED, {}, "later", True),
        ({}, FAILED, "earlier", True),
        (FAILED, {**FAILED, "reason": "inf"}, "earlier", False),
    ],
    ids=["same", "other figures", "failed first", "failed later", "both failed"],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_different_results_of_one_trial_leave_one_and_a_remark(
    tmp_path: Path,
    earlier: dict[str, Any],
    later: dict[str, Any],
    kept: str,
    has_remark: bool,
    reverse: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, facts, time in (("earlier", earlier, "T08"), ("later", later, "T09")):
        monkeypatch.setattr(
            "partialnas.runs.ledger.ledger.utc_now", lambda time=time: f"2026-01-01{time}"
        )
        with ledger(tmp_path / name, ["a-0"]) as source_ledger:
            source_ledger.finish(record("a-0", **facts))
        weights = weights_path(tmp_path / name, "a-0")
        weights.parent.mkdir()
        weights.write_text(name)
    order = [tmp_path / "earlier", tmp_path / "later"]
    merged, merge = merge_folders(tmp_path / "out", *(order[::-1] if reverse else order))
    with merged, Ledger.open(tmp_path / kept) as source:
        assert merged.trials() == source.trials()
    assert weights_path(tmp_path / "out", "a-0").read_text() == kept
    assert len(merge.remarks) == has_remark
    assert all(f"the result of {tmp_path / kept} is kept" in remark for remark in merge.remarks)


def test_checkpoints_of_unfinished_trials_come_along(tmp_path: Path) -> None:
    ledger(tmp_path / "one", ["a-0"]).close()
    ledger(tmp_path / "two", ["b-0"]).close()
    checkpoint = checkpoint_path(tmp_path / "two", "b-0")
    checkpoint.parent.mkdir()
    checkpoint.write_text("state")
    merge_folders(tmp_path / "out", tmp_path / "one", tmp_path / "two")[0].close()
    assert checkpoint_path(tmp_path / "out", "b-0").read_text() == "state"


def test_a_folder_with_a_ledger_is_refused(tmp_path: Path) -> None:
    ledger(tmp_path / "one", ["a-0"]).close()
    with pytest.raises(UserError, match="already holds a ledger"):
        merge_folders(tmp_path / "one", tmp_path / "one")


def test_a_merge_that_fails_leaves_no_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger(tmp_path / "one", ["a-0"]) as one:
        one.finish(record("a-0"))
    weights_path(tmp_path / "one", "a-0").parent.mkdir()
    weights_path(tmp_path / "one", "a-0").write_text("weights")

    def full(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(KeyboardInterrupt):
        merge_folders(tmp_path / "out", tmp_path / "one")
    assert [*(tmp_path / "out").glob("*")] == [tmp_path / "out" / "weights"]
    monkeypatch.undo()
    merge_folders(tmp_path / "out", tmp_path / "one")[0].close()


@settings(max_examples=25, deadline=None)
@given(
    ledgers=st.lists(
        st.dictionaries(
            st.sampled_from([f"{d}-{s}" for d in "abc" for s in (0, 1)]), st.booleans(), max_size=6
        ),
        min_size=2,
        max_size=3,
    )
)
def test_every_trial_is_merged_once_and_final_if_any_is(
    tmp_path_factory: pytest.TempPathFactory, ledgers: list[dict[str, bool]]
) -> None:
    root = tmp_path_factory.mktemp("merge")
    folders = [root / str(number) for number in range(len(ledgers))]
    for folder, trials in zip(folders, ledgers, strict=True):
        with ledger(folder, [*trials]) as source_ledger:
            for key, final in trials.items():
                if final:
                    source_ledger.finish(record(key))
    merged, _ = merge_folders(root / "out", *folders)
    with merged:
        rows = merged.trials()
        proposals = {row.number: row.digest for row in merged.proposals()}
    expected: dict[str, bool] = {}
    for trials in ledgers:
        for key, final in trials.items():
            expected[key] = expected.get(key, False) or final
    assert {row.key: row.is_final for row in rows} == expected
    assert len(rows) == len(expected)
    assert [row.number for row in rows] == [*range(1, len(rows) + 1)]
    assert all(proposals[row.proposal] == row.digest for row in rows)
    assert [*proposals] == [*range(1, len(proposals) + 1)]
    assert os.listdir(root / "out") == ["ledger.sqlite"]  # noqa: PTH208
