"""`clean`, `restore` and `merge` of copies, from the command line."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import run_cli

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.system.files import checkpoint_path, temporary_path, trunk_path, weights_path

STUDY = """
study: plain
task: {data: digits}
base: {stem_stride: 1, width: 8, depths: [1, 1, 1, 1], head_width: 16}
space: {axes: {width: [8, 12, 16, 20, 24, 28], mlp_ratio: [1, 2, 3]}}
search: {sampler: random}
objectives: {val_nll: min, macs: min}
arms: {wide: {width: 32}}
budget: {trials: 12}
executor: {kind: in-process}
"""


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    (folder / "plain.yaml").write_text(STUDY)
    assert run_cli("run", folder / "plain.yaml", "--rehearse", "--out", folder / "out") == 0
    return folder / "out"


@pytest.fixture
def study(rehearsed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rehearsed, tmp_path / "study"))


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as connection:
        return connection.execute(query).fetchall()


def keys_off_front(folder: Path) -> tuple[set[str], set[str]]:
    """Return the keys of searched trials that another one dominates, and of all other trials."""
    arms = {number for (number,) in rows(folder, "SELECT number FROM proposals WHERE arm NOT NULL")}
    points, keys = {}, set()
    for key, proposal, metrics, cost in rows(
        folder, "SELECT key, proposal, metrics, cost FROM trials"
    ):
        keys.add(key)
        if proposal not in arms:
            points[key] = (json.loads(metrics)["val_nll"], json.loads(cost)["macs"])
    dominated = {
        key
        for key, (nll, macs) in points.items()
        if any(a <= nll and b <= macs and (a, b) != (nll, macs) for a, b in points.values())
    }
    return dominated, keys - dominated


def touch(*paths: Path) -> set[Path]:
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 1000)
    return {*paths}


def remaining(folder: Path) -> set[Path]:
    return {p for name in ("weights", "checkpoints") for p in (folder / name).iterdir()}


def test_clean_removes_what_nothing_needs_and_no_other_file(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dominated, needed = keys_off_front(study)
    assert len(dominated) > 2
    assert len(needed) > 2
    kept = touch(*(weights_path(study, key) for key in needed))
    kept |= touch(
        *(study / "weights" / name for name in ("notes.txt", f"{'a' * 16}.safetensors", "x.part")),
        *(study / "checkpoints" / name for name in (f"{'b' * 16}.pt", "mine.trunk")),
    )
    key = next(iter(dominated))
    removed = touch(
        *(weights_path(study, key) for key in dominated),
        checkpoint_path(study, key),
        temporary_path(checkpoint_path(study, key)),
        trunk_path(study, "c" * 16),
    )
    before = (study / "ledger.sqlite").read_bytes()
    assert run_cli("clean", study) == 0
    output = capsys.readouterr().out
    kibibytes = f"{1000 * len(dominated) / 1024:.1f}"
    assert f"nor of an arm: {len(dominated)}, {kibibytes} KiB" in output
    assert "nothing was removed, --yes removes these files" in output
    assert remaining(study) == kept | removed
    assert run_cli("clean", study, "--yes") == 0
    assert remaining(study) == kept
    assert (study / "ledger.sqlite").read_bytes() == before
    assert run_cli("clean", study) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_clean_keeps_what_an_unfinished_study_needs(study: Path) -> None:
    with Ledger.open(study, write=True) as ledger:
        number = ledger.add_proposal(None, "d", ledger.subject(1), {})
        ledger.plan(number, digest="d", name="n", fidelity=1, keys={0: "0" * 16})
    finished = {key for (key,) in rows(study, "SELECT key FROM trials WHERE state = 'done'")}
    kept = touch(*(weights_path(study, key) for key in finished))
    kept |= touch(checkpoint_path(study, "0" * 16), trunk_path(study, "c" * 16))
    removed = touch(checkpoint_path(study, next(iter(finished))))
    assert run_cli("clean", study, "--yes") == 0
    assert remaining(study) == kept
    assert not removed & remaining(study)


def test_clean_refuses_a_running_study(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger.open(study, write=True):
        assert run_cli("clean", study, "--yes") == 2
    assert "another driver works on this study" in capsys.readouterr().err
    assert run_cli("clean", study / "nowhere") == 2
    assert not (study / "nowhere").exists()


def test_restore_says_what_is_moved_and_lost(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study / "ledger.sqlite"
    shutil.rmtree(study / "backups")
    (study / "backups").mkdir()
    shutil.copy(path, study / "backups" / "ledger-1.sqlite")
    with closing(sqlite3.connect(study / "backups" / "ledger-1.sqlite")) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    path.write_bytes(path.read_bytes()[:-4096])
    assert run_cli("status", study) == 1
    advice = f"`partialnas restore {study}` restores the newest intact copy"
    assert advice in " ".join(capsys.readouterr().err.split())
    assert run_cli("restore", study) == 0
    output = capsys.readouterr().out
    assert "restored from" in output
    count = len(rows(study, "SELECT * FROM trials"))
    assert f"{count} finished trials, the last at 20" in output
    assert f"the previous ledger is in {study / 'damaged-1'}" in output
    assert "lost: " in output
    assert run_cli("status", study) == 0
    assert run_cli("restore", study) == 2
    assert "is intact, so that nothing is restored" in capsys.readouterr().err


def test_two_copies_of_one_study_merge_to_the_same_study(study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(study, tmp_path / "copy")
    assert run_cli("merge", study, copy, "-o", tmp_path / "merged") == 0
    for query in (
        "SELECT * FROM trials ORDER BY number",
        "SELECT * FROM proposals ORDER BY number",
        "SELECT * FROM measurements ORDER BY number",
        "SELECT * FROM curves",
    ):
        assert rows(tmp_path / "merged", query) == rows(study, query)


def test_merge_and_verify_check_ledgers_in_full(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(study, tmp_path / "copy")
    assert run_cli("table", study, "-o", tmp_path / "table.csv") == 0
    assert run_cli("verify", tmp_path / "table.csv", "--against", study) == 0
    path = study / "ledger.sqlite"
    content = path.read_bytes()
    index = content.rindex(b"\x04done")  # in the index of states, which no table reads
    assert rows(study, "SELECT count(*) FROM trials WHERE state = 'done'")
    path.write_bytes(content[: index + 1] + b"dond" + content[index + 5 :])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    for arguments in (
        ("verify", tmp_path / "table.csv", "--against", study),
        ("merge", copy, study, "-o", tmp_path / "merged"),
    ):
        capsys.readouterr()
        assert run_cli(*arguments) == 1
        assert "is damaged" in capsys.readouterr().err
