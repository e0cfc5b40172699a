"""The verb `ratios`, and warnings in `status`."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from command_line import run_cli

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.records.subject import subject_data
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan

LEARNED = {"ratio": {"learned": {"budget": "1/4"}}}
STUDY: dict[str, Any] = {
    "study": "tiny",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "arms": {"static": {}, "dynamic": LEARNED},
    "recipe": {"use": "short", "epochs": 2},
    "seeds": 2,
    "measure": {"batch_size": 4, "max_seconds": 0.2},
    "executor": {"kind": "in-process"},
}


def architecture(**settings: Any) -> Architecture:
    plan = {"width": 8, "depths": (1, 1, 1, 1), "head_width": 16, "stem_stride": 1}
    return Plan.model_validate({**plan, **settings}).architecture()


def ratios_of(subject: Architecture, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a finished trial with 4 channels in every layer."""
    widths = {b.name: subject.widths[b.stage] for b in subject.boundaries}
    epoch = RatioEpoch(
        epoch=1,
        channels=dict.fromkeys(widths, 4.0),
        ratios={name: 4.0 / width for name, width in widths.items()},
        used_macs=1,
        budget_macs=2,
        warnings=warnings,
    )
    return {"state": "done", "ratios": (epoch,)}


Arms = dict[str, tuple[Architecture, list[dict[str, Any] | None]]]
"""Network and records of each arm, one record per seed; None for a planned trial."""


def ledger_of(folder: Path, arms: Arms) -> Path:
    meta = {"study": "made-up", "frozen": '{"recipe": {"epochs": 1}}'}
    with Ledger.create(folder, meta) as ledger:
        for arm, (subject, records) in arms.items():
            proposal = ledger.add_proposal(arm, subject.digest, subject_data(subject), {})
            facts: dict[str, Any] = {"digest": subject.digest, "name": arm, "fidelity": 1}
            keys = {seed: f"{subject.digest[:8]}{seed:08x}" for seed in range(len(records))}
            ledger.plan(proposal, keys=keys, **facts)
            for seed, record in enumerate(records):
                if record is not None:
                    ledger.start(keys[seed])
                    ledger.finish(Record(key=keys[seed], seed=seed, **facts, **record))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study whose trial 1 is static, and whose trials 2 and 3 have learned ratios."""
    learning = architecture(**LEARNED)
    dynamic = (learning, [ratios_of(learning)] * 2)
    arms: Arms = {"static": (architecture(), [{"state": "done"}]), "dynamic": dynamic}
    return ledger_of(tmp_path / "study", arms)


@pytest.mark.slow
def test_a_real_study_is_drawn_and_summarized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "study.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(STUDY))
    assert run_cli("run", path, "--out", folder) == 0
    capsys.readouterr()
    assert run_cli("ratios", folder) == 0
    output = capsys.readouterr().out
    for name in ("ratios.pdf", "ratios.csv", "ratios.md"):
        assert f"wrote {folder / name}\n" in output
        assert (folder / name).stat().st_size > 100
    for word in ("dynamic", "budget %", "worst %", "gap", "val_accuracy", "Pearson", "Spearman"):
        assert word in output
    assert "\n static " not in output
    assert "training time" in output
    table = pd.read_csv(folder / "ratios.csv", comment="#")
    assert len(table) == 2 * 2 * 4  # trials, epochs, blocks
    with Ledger.open(folder) as ledger:
        rows = [row for row in ledger.trials() if row.name == "dynamic"]
        epochs = ledger.ratios(rows[0].key)
    assert sorted(table["trial"].unique()) == [row.number for row in rows]
    last = table[table["trial"].eq(rows[0].number) & table["epoch"].eq(2)]
    assert last["channels"].tolist() == [*epochs[-1].channels.values()]
    errors = [100 * row.metrics["budget_error"] for row in rows]
    assert f"{max(errors, key=abs):+.2f}" in output
    _assert_described_as_frozen(f"{folder}:{rows[0].number}", epochs[-1], rows[0].cost, capsys)


def _assert_described_as_frozen(
    name: str, last: RatioEpoch, cost: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ("--resolution", 8, "--in-chans", 1, "--classes", 10)
    assert run_cli("describe", name, *shape, "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert described["digest"] == last.frozen
    assert (described["params"], described["macs"]) == (cost["params"], cost["macs"])
    parts = {row["name"]: row["parts"] for row in described["blocks"]}
    for boundary, channels in last.channels.items():
        assert parts[boundary].startswith(f"conv {channels:.0f} + ")


def test_files_of_a_trial_are_written_to_the_given_paths(folder: Path, tmp_path: Path) -> None:
    figure, table = tmp_path / "r.svg", tmp_path / "rows.csv"
    assert run_cli("ratios", f"{folder}:3", "-o", figure, "--csv", table) == 0
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {"r.svg", "r.md", "rows.csv"}
    assert "of trial #3 (dynamic, seed 1)" in (tmp_path / "r.md").read_text()
    assert run_cli("ratios", f"{folder}:3") == 0
    names = {path.name for path in folder.iterdir() if path.name.startswith("ratios")}
    assert names == {"ratios-3.pdf", "ratios-3.csv", "ratios-3.md"}


def test_user_errors_are_one_message_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([f"{folder}:1"], "static has static ratios, so this trial learned none; "
                                 "trials with ratios: #2, #3"),
        ([f"{folder}:99"], "has no trial 99 (it has 3 trials)"),
        ([folder, "-o", "figure.docx"], "use a name that ends in .pdf, .svg, .png"),
        ([folder, "--csv", "t.xlsx"], "t.xlsx: unknown table format; use a name that ends in .csv"),
        ([f"{folder}:seven"], f"expected a study's folder, or a trial such as {folder}:7"),
        (["nowhere"], "no ledger here"),
        (["nowhere:3"], "no ledger here"),
    ):  # fmt: skip
        assert run_cli("ratios", *arguments) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("error: ") == 1
        assert captured.out == ""


def test_a_study_without_ratios_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learning = architecture(**LEARNED)
    failed = {"state": "failed", "reason": "the loss is NaN in epoch 1"}
    told_by_own = {"state": "done", "metrics": {"score": 1.0}}
    for i, (subject, records, name, message) in enumerate((
        (architecture(), [{"state": "done"}], "", "no network of this study learns its ratios"),
        (architecture(), [{"state": "done"}], "", "`ratio: {learned: {budget: 1/4}}`"),
        (learning, [None, None], "", "that learn: 2 planned (ratios are recorded when"),
        (learning, [None, failed], ":1", "this trial is planned; its ratios are recorded when it"),
        (learning, [failed, failed], "", "2 failed (most often: the loss is NaN in epoch 1)"),
        (learning, [failed, None], ":1", "failed and completed no epoch (the loss is NaN"),
        (learning, [told_by_own], "", "a study's own trial function records no ratios"),
        (learning, [told_by_own], ":1", "own trial function records no ratios; no trial has any"),
    )):  # fmt: skip
        folder = ledger_of(tmp_path / str(i), {"arm": (subject, records)})
        assert run_cli("ratios", f"{folder}{name}") == 2
        assert message in capsys.readouterr().err
        assert [path.name for path in folder.iterdir() if "ratios" in path.name] == []


def test_status_shows_every_warning_the_most_frequent_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = architecture(**LEARNED)
    small, still = "all layers have ended at their smallest ratio", "no ratio has moved"
    told_of = ((), (still,), (small,), (still, small), (small,))
    arms: Arms = {"arm": (subject, [ratios_of(subject, warnings) for warnings in told_of])}
    folder = ledger_of(tmp_path / "warned", arms)
    lines = [f"3 warn: {small} (trials #3, #4, #5)", f"2 warn: {still} (trials #2, #4)"]
    for verb in ("status", "ratios"):
        assert run_cli(verb, folder) == 0
        output = capsys.readouterr().out.splitlines()
        assert [line for line in output if " warn: " in line] == lines
    assert "5 (4 warned)" in "\n".join(output)
