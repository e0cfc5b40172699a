import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from partialnas.analysis import load, load_warnings, ratio_figure, ratio_summary, ratio_table
from partialnas.analysis.ratios.caption import ratio_caption
from partialnas.analysis.ratios.figure import format_final_ratios, ratio_panels
from partialnas.analysis.ratios.tables import overall_ratios, with_series
from partialnas.space.errors import UserError

Ledgers = Callable[..., Path]
Learned = Callable[..., list[dict[str, Any]]]
ARMS = {"search": None, "recipe": {"epochs": 10}}
STATIC = {"arm": "static", "state": "done", "fidelity": 10, "digest": "5" * 16}


def caption(folder: Path, trial: int | None = None) -> str:
    table = ratio_table(folder)
    panels = ratio_panels(table, trial)
    caption = ratio_caption(with_series(load(folder)), table, panels, load_warnings(folder))
    return caption.text()


@pytest.fixture
def mixed(tmp_path: Path, ledgers: Ledgers, learned: Learned) -> Path:
    """Trial 1 is static; 2 and 3 learn per layer; 4, 5 and 6 per image."""
    images = learned("images", 3, per="input", classes=4)
    static = {**STATIC, "subject": learned(ratio="1/4", seeds=1)[0]["subject"]}
    return ledgers(tmp_path / "mixed", [static, *learned("layers", 2), *images], study=ARMS)


def test_the_default_map_is_of_the_arm_with_most_seeds(mixed: Path) -> None:
    panels = ratio_panels(ratio_table(mixed))
    assert panels.history["trial"].unique().tolist() == [4]
    assert panels.history["epoch"].nunique() == 10
    assert panels.final["series"].unique().tolist() == ["layers", "images"]
    assert panels.final["epoch"].unique().tolist() == [10]
    assert panels.classes["trial"].unique().tolist() == [4]
    assert panels.kinds["trial"].unique().tolist() == [4, 5, 6]
    assert panels.letters == {"history": "a", "final": "b", "classes": "c", "kinds": "d"}


def test_a_selected_trial_has_its_own_map_and_classes(mixed: Path) -> None:
    table = ratio_table(mixed)
    images = ratio_panels(table, 6)
    assert images.history["trial"].unique().tolist() == [6]
    assert images.classes["trial"].unique().tolist() == [6]
    assert images.kinds["trial"].unique().tolist() == [4, 5, 6]
    layers = ratio_panels(table, 3)
    assert layers.history["trial"].unique().tolist() == [3]
    assert layers.letters == {"history": "a", "final": "b"}
    assert layers.final.equals(images.final)


def test_six_series_are_shown_and_the_others_are_listed(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    seeds = [2, 3, 3, 3, 3, 3, 2, 2]
    records: list[dict[str, Any]] = []
    for i, number in enumerate(seeds):
        records += learned(f"arm {i}", number, 2, mlp_ratio=i + 1)
    folder = ledgers(tmp_path, records, study={**ARMS, "recipe": {"epochs": 2}})
    shown = caption(folder)
    assert "Not shown with the final ratios: 2 of 8 arms (arm 6, arm 7)." in shown
    assert "trial #3 (arm 1, seed 0)" in shown
    named = caption(folder, 21)
    assert "trial #21 (arm 7, seed 1)" in named
    assert "2 of 8 arms (arm 0, arm 6)." in named


def test_the_figure_is_written_with_table_and_caption(mixed: Path) -> None:
    drawn = ratio_figure(mixed, mixed / "ratios.svg")
    assert [path.name for path in drawn.files] == ["ratios.svg", "ratios.csv", "ratios.md"]
    table = pd.read_csv(
        mixed / "ratios.csv", comment="#", keep_default_na=False, na_values={"class": [""]}
    )
    assert len(table) == len(drawn.table) == 5 * (5 * 10 + 3 * (4 + 4))
    assert table["ratio"].tolist() == pytest.approx(drawn.table["ratio"].tolist())
    text = (mixed / "ratios.md").read_text()
    assert text.startswith("<!-- partialnas {")
    assert text.splitlines()[1].startswith("| ")
    assert drawn.caption in text
    for words in (
        "Learned ratios of quickstart, trained on mnist5k for 10 epochs",
        "(a) Ratio of each block after every epoch of trial #4 (images, seed 0).",
        "(b) Final ratios: means over 2 to 3 seeds with one standard deviation (n − 1)",
        "dashed: the static ratio",
        "(c) Mean ratio of the validation images of each class, minus the mean over the classes",
        "(d) Mean ratio of the validation images unchanged, blurred, with noise, and at half the "
        "resolution (images, 3 seeds).",
        "Compute: 5 trials, ",
    ):
        assert words in drawn.caption
    assert caption(mixed) == drawn.caption
    named = caption(mixed, 2)
    assert "trial #2 (layers, seed 0), frozen from epoch 7 on." in named
    assert "(c)" not in named


def test_the_printed_table_has_mean_and_deviation_of_each_boundary(
    mixed: Path, tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    table = ratio_table(mixed)
    shown = format_final_ratios(table)
    assert shown.columns.tolist() == ["", "images (3 seeds)", "layers (2 seeds)", "static"]
    boundary = "stage 3, block 2"
    rows = overall_ratios(table).query("boundary == @boundary and epoch == 10 and arm == 'layers'")
    mean, sd = statistics.mean(rows["ratio"]), statistics.stdev(rows["ratio"])
    assert shown.set_index("").loc[boundary, "layers (2 seeds)"] == f"{mean:.3f} ± {sd:.3f}"
    assert shown["static"].tolist() == ["0.250"] * 5

    deeper = [*learned("a", 1), *learned("b", 1, depths=(1, 1, 1, 2))]
    apart = format_final_ratios(
        ratio_table(ledgers(tmp_path / "deeper", deeper, study=ARMS))
    ).set_index("")
    assert apart.loc["stage 3, block 2", "b (1 seed)"] == ""
    assert apart.loc["stage 4, block 2", "a (1 seed)"] == ""
    assert " ± " not in apart.loc["stage 1, block 1", "a (1 seed)"]


def test_the_caption_has_warnings_and_failures(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    records = learned(seeds=3, warnings=["all layers have ended at their smallest ratio"])
    records[0] |= {"state": "timeout", "reason": "time limit", "ratios": records[0]["ratios"][:4]}
    folder = ledgers(tmp_path, records, study=ARMS)
    text = caption(folder)
    assert "Warnings in 2 of 3 trials, most often “all layers have ended at their sm" in text
    assert "; 1 failed" in text
    cut = caption(folder, 1)
    assert "of trial #1 (dynamic, seed 0); this trial did not complete training." in cut
    one = ledgers(tmp_path / "one", learned(seeds=1), study=ARMS)
    assert "one seed each, so their spread is unknown" in caption(one)


def test_incomplete_trials_are_drawn_as_far_as_they_ran(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    cut = [
        {**record, "state": "timeout", "reason": "time limit", "ratios": record["ratios"][:3]}
        for record in learned(seeds=2)
    ]
    folder = ledgers(tmp_path, cut, study=ARMS)
    text = caption(folder)
    assert format_final_ratios(ratio_table(folder)).empty
    assert "(a) Ratio of each block after every epoch of trial #1" in text
    assert "(b)" not in text


def test_the_same_ledger_gives_the_same_bytes(mixed: Path) -> None:
    first, second = (
        ratio_figure(mixed, mixed / n / "f.svg", trial=3, table=mixed / n / "t.csv").files
        for n in "ab"
    )
    assert [path.name for path in first] == ["f.svg", "t.csv", "f.md"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


SCRIPT = """
import sys
from partialnas.analysis import ratio_figure
ratio_figure(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes_with_fonts_and_no_date(mixed: Path) -> None:
    here = ratio_figure(mixed, mixed / "here.pdf").files
    content = here[0].read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    command = [sys.executable, "-c", SCRIPT, mixed, mixed / "there.pdf"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    for path in here:
        assert path.with_stem("there").read_bytes() == path.read_bytes()


def test_invalid_figures_are_refused_and_write_nothing(mixed: Path) -> None:
    before = {*mixed.iterdir()}
    calls: list[tuple[str, Callable[[], object]]] = [
        (r"ends in \.pdf, \.svg, \.png", lambda: ratio_figure(mixed, mixed / "f.jpg")),
        (r"ends in \.csv", lambda: ratio_figure(mixed, mixed / "f.pdf", table=mixed / "t.xlsx")),
        ("choose cvpr", lambda: ratio_figure(mixed, mixed / "f.pdf", style="x")),  # type: ignore[arg-type]
        ("has no trial 99", lambda: ratio_figure(mixed, mixed / "f.pdf", trial=99)),
        ("static has static ratios", lambda: ratio_figure(mixed, mixed / "f.pdf", trial=1)),
    ]
    for message, call in calls:
        with pytest.raises(UserError, match=message):
            call()
    assert {*mixed.iterdir()} == before
    (mixed / "file").touch()
    with pytest.raises(UserError, match="file is a file, not a folder"):
        ratio_figure(mixed, mixed / "file" / "f.svg", trial=2)


def test_the_summary_has_budget_forms_accuracy_and_warnings_of_each_arm(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    errors, accuracies = [-0.05, 0.01, -0.02], [90.0, 92.0, 97.0]
    good = learned("good", 3)
    for record, error, accuracy in zip(good, errors, accuracies, strict=True):
        record["metrics"] |= {"budget_error": error, "val_accuracy": accuracy}
        record["seconds"] = 3.0 + record["seed"]
    statics = [{**STATIC, "seed": seed, "seconds": 2.0 + seed} for seed in (0, 1)]
    bad = learned("bad", 2, warnings=["no ratio has moved"], mlp_ratio=1)
    bad[1] |= {"state": "failed", "reason": "NaN", "metrics": {}, "ratios": bad[1]["ratios"][:2]}
    del bad[0]["metrics"]["budget_error"]
    folder = ledgers(tmp_path, [*good, *bad, *statics], study=ARMS)
    frame, table = with_series(load(folder)), ratio_table(folder)
    summary = ratio_summary(frame, table, load_warnings(folder)).set_index("arm")
    assert summary.index.tolist() == ["good", "bad"]
    assert summary[["seeds", "failed", "warned"]].to_numpy().tolist() == [[3, 0, 0], [1, 1, 1]]
    row = summary.loc["good"]
    assert row["budget_error_median"] == pytest.approx(-2)
    assert row["budget_error_worst"] == pytest.approx(-5)
    assert row["ratio_gap_worst"] == pytest.approx(3e-7)
    assert row["val_accuracy"] == pytest.approx(statistics.mean(accuracies))
    assert row["val_accuracy_sd"] == pytest.approx(statistics.stdev(accuracies))
    assert row["val_nll"] == pytest.approx(0.29)
    assert row["seconds_ratio"] == pytest.approx((3 / 2 + 4 / 3) / 2)
    assert math.isnan(row["throughput_ratio"])
    unknown = ["budget_error_median", "budget_error_worst", "val_accuracy_sd", "val_nll_sd"]
    assert summary.loc["bad", unknown].isna().all()
