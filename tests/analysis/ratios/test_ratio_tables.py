from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from partialnas.analysis.frames.load import load
from partialnas.analysis.ratios.tables import (
    COLUMNS,
    final_ratios,
    freeze_epoch,
    load_distribution,
    load_per_class,
    load_per_kind,
    load_ratios,
    load_warnings,
    overall_ratios,
    ratio_table,
    series_by_seed_count,
    with_series,
)
from partialnas.space.errors import UserError

Ledgers = Callable[..., Path]
Learned = Callable[..., list[dict[str, Any]]]
ARMS = {"search": None, "recipe": {"epochs": 10}}
EPOCH_FACTS = ["used_macs", "budget_macs", "multiplier", "gradient_norm", "ramp"]


def test_ratios_have_a_row_per_trial_epoch_and_boundary(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    records = learned(seeds=2, epochs=10)
    static = {"arm": "static", "state": "done", "fidelity": 10}
    table = load_ratios(ledgers(tmp_path, [static, *records], study=ARMS))
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 2 * 10 * 5
    assert table["trial"].unique().tolist() == [2, 3]
    assert table["arm"].unique().tolist() == table["series"].unique().tolist() == ["dynamic"]
    for trial, record in enumerate(records, start=2):
        for epoch in record["ratios"]:
            rows = table[table["trial"].eq(trial) & table["epoch"].eq(epoch.epoch)]
            assert dict(zip(rows["boundary"], rows["channels"], strict=True)) == epoch.channels
            assert dict(zip(rows["boundary"], rows["ratio"], strict=True)) == epoch.ratios
            assert rows[EPOCH_FACTS].drop_duplicates().to_dict("records") == [
                {key: getattr(epoch, key) for key in EPOCH_FACTS}
            ]


def test_boundaries_are_ordered_from_input_to_output_with_their_start(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    ratio = {"learned": {"budget": "static", "grain": 3, "start": "1/5"}}
    records = learned(seeds=1, width=18, ratio=ratio)
    rows = load_ratios(ledgers(tmp_path, records, study=ARMS)).query("epoch == 1")
    places = rows[["stage", "block", "part"]].to_numpy().tolist()
    assert places == [[1, 1, 1], [2, 1, 1], [3, 1, 1], [3, 2, 1], [4, 1, 1]]
    assert rows["boundary"].iloc[3] == "stage 3, block 2"
    assert rows["grain"].unique().tolist() == [3]
    assert rows["per"].unique().tolist() == ["layer"]
    assert rows["static"].unique().tolist() == [1 / 5]


def test_a_part_that_is_not_the_first_is_named(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    both = [{"learned": {"budget": "static", "start": start}} for start in ("1/4", "1/8")]
    settings = {"parts": 3, "operations": ["conv", "pool", "identity"], "ratio": both}
    rows = load_ratios(ledgers(tmp_path, learned(seeds=1, **settings), study=ARMS))
    first = rows[rows["epoch"].eq(1) & rows["stage"].eq(1)]
    assert first["part"].tolist() == [1, 2]
    assert first["boundary"].tolist() == ["stage 1, block 1", "stage 1, block 1, part 2"]
    assert first["static"].tolist() == [1 / 4, 1 / 8]


def test_column_types_do_not_depend_on_the_data(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    none = ledgers(tmp_path / "none", [{"arm": "static", "state": "done"}])
    some = ledgers(tmp_path / "some", learned(), study=ARMS)
    for read in (load_ratios, load_per_class, load_per_kind, load_distribution, load_warnings):
        assert read(none).empty
        assert read(none).dtypes.to_dict() == read(some).dtypes.to_dict()
    assert ratio_table(none).empty
    assert ratio_table(none).columns.tolist() == ratio_table(some).columns.tolist()


def test_only_selected_trials_are_read(tmp_path: Path, ledgers: Ledgers, learned: Learned) -> None:
    folder = ledgers(tmp_path, learned(seeds=3), study=ARMS)
    assert load_ratios(folder, [2])["trial"].unique().tolist() == [2]
    assert load_ratios(folder, [])["trial"].tolist() == []
    with pytest.raises(UserError, match=r"has no trial 9 \(it has 3 trials\)"):
        load_ratios(folder, [9])


def test_ratios_by_image_are_read_by_class_kind_and_number_of_channels(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    (record,) = learned(seeds=1, epochs=3, per="input", classes=4)
    shares = {"stage 1, block 1": {"4": 0.25, "8": 0.75}}
    epochs = record["ratios"]
    epochs[1] = epochs[1].model_copy(update={"distribution": shares})
    folder = ledgers(tmp_path, [record], study={**ARMS, "recipe": {"epochs": 3}})

    by_class = load_per_class(folder)
    assert len(by_class) == 3 * 5 * 4
    for row in by_class.to_dict("records"):
        assert (
            row["ratio"] == epochs[row["epoch"] - 1].per_class[row["boundary"]][str(row["class"])]
        )
    last = load_per_class(folder, last=True)
    assert last.equals(by_class[by_class["epoch"].eq(3)].reset_index(drop=True))

    by_kind = load_per_kind(folder)
    assert by_kind["epoch"].unique().tolist() == [3]
    assert by_kind["kind"].tolist() == 5 * ["clean", "blurred", "noisy", "low-resolution"]
    assert by_kind["ratio"].tolist() == [
        ratio for kinds in epochs[2].per_kind.values() for ratio in kinds.values()
    ]
    spread = load_distribution(folder)[["epoch", "boundary", "channels", "share"]]
    assert spread.to_numpy().tolist() == [
        [2, "stage 1, block 1", 4, 0.25],
        [2, "stage 1, block 1", 8, 0.75],
    ]


def test_the_table_has_all_images_then_classes_and_kinds(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    records = [*learned("a", 2), *learned("b", 2, per="input", classes=3)]
    folder = ledgers(tmp_path, records, study=ARMS)
    table = ratio_table(folder)
    columns = [*COLUMNS[2:]]  # without study and folder: the table is that of one study
    everything = overall_ratios(table)[columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(everything, load_ratios(folder)[columns], check_dtype=False)
    assert table["class"].notna().sum() == 2 * 5 * 3
    assert table["kind"].ne("").sum() == 2 * 5 * 4
    assert table.loc[table["class"].notna() | table["kind"].ne(""), "epoch"].unique() == [10]


def test_only_trials_that_are_done_at_full_fidelity_count(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    whole, cut, short = learned(seeds=3)
    cut = {**cut, "state": "timeout", "reason": "time limit", "ratios": cut["ratios"][:4]}
    short = {**short, "fidelity": 5, "ratios": short["ratios"][:5]}
    table = load_ratios(ledgers(tmp_path, [cut, short, whole], study=ARMS))
    assert table.groupby("trial")["counts"].agg(set).to_dict() == {
        1: {False},
        2: {False},
        3: {True},
    }
    final = final_ratios(table)
    assert final["trial"].unique().tolist() == [3]
    assert final["epoch"].unique().tolist() == [10]
    assert final["ratio"].tolist() == [*whole["ratios"][-1].ratios.values()]


def test_seeds_of_an_arm_in_one_condition_are_a_series() -> None:
    frame = pd.DataFrame(
        {
            "trial": range(1, 8),
            "digest": ["a", "a", "b", "c", "b", "c", "a"],
            "arm": ["x", "x", "", "", "", "", "x"],
            "condition": ["", "", "", "", "", "", "far"],
        }
    )
    assert with_series(frame)["series"].tolist() == ["x", "x", "#3", "#4", "#3", "#4", "far: x"]
    one = with_series(frame[frame["condition"].eq("far")])
    assert one["series"].tolist() == ["x"]
    bare = with_series(frame.drop(columns="condition"))
    assert bare["series"].tolist() == ["x", "x", "#3", "#4", "#3", "#4", "x"]
    assert bare["condition"].unique().tolist() == [""]


def test_series_with_most_seeds_come_first(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    records = [*learned("z", 1), *learned("m", 2, mlp_ratio=1), *learned("a", 2, mlp_ratio=3)]
    table = load_ratios(ledgers(tmp_path, records, study=ARMS))
    assert series_by_seed_count(final_ratios(table)) == ["m", "a", "z"]


@pytest.mark.parametrize(
    ("ramps", "expected"),
    [([9, 3, 0, 0], 3), ([9, 3, 1, 0], 4), ([9, 3, 1], None), ([0, 0, 0], None), ([0, 4, 0], 3)],
)
def test_ratios_are_frozen_after_the_last_soft_epoch(
    ramps: list[float], expected: int | None
) -> None:
    history = pd.DataFrame({"epoch": range(1, len(ramps) + 1), "ramp": ramps})
    assert freeze_epoch(history) == expected


def test_warnings_are_listed_by_trial_with_their_epoch(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    messages = [
        "no ratio has moved from where it started",
        "all layers have ended at their smallest",
    ]
    records = [*learned("a", 1), *learned("b", 2, warnings=messages, mlp_ratio=1)]
    folder = ledgers(tmp_path, records, study=ARMS)
    warned = load_warnings(folder)
    columns = ["trial", "arm", "seed", "epoch", "warning"]
    assert warned[columns].to_numpy().tolist() == [
        [trial, "b", seed, 10, text] for trial, seed in ((2, 0), (3, 1)) for text in messages
    ]
    assert load(folder)["warnings"].tolist() == [0, 2, 2]
    assert load_ratios(folder)["warnings"].unique().tolist() == ["", "; ".join(messages)]
