import io
import math
import zipfile
from collections.abc import Callable
from csv import reader
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.analysis import export, load
from partialnas.analysis.formats.data_files import LEADING_COLUMNS, frame_to_csv, frame_to_markdown
from partialnas.runs.system.files import write_file
from partialnas.space.errors import MachineError, UserError

Frames = Callable[..., pd.DataFrame]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "plain"]


def read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_export_round_trips(tmp_path: Path, frames: Frames, suffix: str) -> None:
    frame = frames(6, 2)
    table = read(export(frame, tmp_path / f"trials{suffix}"))
    assert tuple(table.columns[: len(LEADING_COLUMNS)]) == LEADING_COLUMNS
    assert set(table.columns) == set(frame.columns)
    columns = ["trial", "digest", "state", "val_nll", "macs", "reason"]
    both = [t[columns].fillna({"reason": ""}) for t in (table, frame)]
    pd.testing.assert_frame_equal(*both, check_dtype=False)


def test_an_export_leaves_no_temporary_files(tmp_path: Path, frames: Frames) -> None:
    export(frames(2), tmp_path / "new" / "trials.csv")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["trials.csv"]


def test_exports_have_columns_of_measurements_that_were_not_made(
    tmp_path: Path, ledgers: Callable[..., Path]
) -> None:
    frame = load(ledgers(tmp_path / "study", [{}]))
    row = export(frame, tmp_path / "t.csv").read_text().splitlines()[1]
    assert row.startswith("1,0000000000000000,0,planned,,,,,,")


def test_integers_stay_integers(tmp_path: Path, frames: Frames) -> None:
    frame = frames(2, 1, failed=0).astype({"params": "Int64"})
    frame.loc[0, "params"] = pd.NA
    lines = export(frame, tmp_path / "t.csv").read_text().splitlines()
    assert lines[2].split(",")[6] == str(frame["params"][1])


def test_no_text_becomes_a_formula(tmp_path: Path, frames: Frames) -> None:
    frame = frames(6, 1, failed=0).assign(name=FORMULAS, **{"=cmd": 1.0})
    table = pd.read_csv(export(frame, tmp_path / "t.csv"))
    assert table["name"].tolist() == [*(f"'{text}" for text in FORMULAS[:-1]), "plain"]
    assert "'=cmd" in table
    with zipfile.ZipFile(export(frame, tmp_path / "t.xlsx")) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet
    assert "hyperlink" not in sheet


@given(st.lists(st.floats(), max_size=8))
def test_numbers_are_formatted_like_python(values: list[float]) -> None:
    written = frame_to_csv(pd.DataFrame({"x": pd.Series(values, dtype="float64")})).split("\n")[
        1:-1
    ]
    assert written == ["" if math.isnan(value) else repr(value) for value in values]


@given(st.lists(st.none() | st.integers(-9, 9) | st.text('=a,"#\n', max_size=4), max_size=8))
def test_csv_cells_round_trip(cells: list[Any]) -> None:
    column = pd.Series(cells, dtype=object)
    rows = [*reader(io.StringIO(frame_to_csv(pd.DataFrame({"x": column, "y": 1}))))][1:]
    disarmed = [f"'{cell}" if str(cell)[:1] == "=" else cell for cell in cells]
    assert rows == [["" if cell is None else str(cell), "1"] for cell in disarmed]


def test_negative_numbers_are_not_quoted(frames: Frames) -> None:
    assert "-0.5" in frame_to_csv(frames(1, 1, failed=0).assign(val_nll=-0.5)).splitlines()[
        1
    ].split(",")


@pytest.mark.parametrize(("suffix", "package"), [(".xlsx", "xlsxwriter"), (".parquet", "pyarrow")])
def test_a_missing_package_is_named(
    tmp_path: Path, frames: Frames, monkeypatch: pytest.MonkeyPatch, suffix: str, package: str
) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise ImportError(f"Missing optional dependency '{package}'", name=package)

    monkeypatch.setattr(pd, "ExcelWriter", absent)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", absent)
    path = tmp_path / f"t{suffix}"
    with pytest.raises(UserError, match=rf"{package}.*pip install .*\[export\]"):
        export(frames(2), path)
    assert not path.exists()


def test_invalid_exports_are_refused(tmp_path: Path, frames: Frames) -> None:
    with pytest.raises(UserError, match=r"ends in \.csv, \.parquet, \.xlsx"):
        export(frames(2), tmp_path / "t.json")
    with pytest.raises(UserError, match="no trials"):
        export(frames(2).iloc[:0], tmp_path / "t.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"t\.csv: \S+file is a file, not a folder"):
        export(frames(2), tmp_path / "file" / "t.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder\.csv: is a folder; name a file in it"):
        export(frames(2), tmp_path / "folder.csv")


def test_a_failed_write_keeps_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(tmp_path / "t.csv", "old")

    def full(self: Path, _: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match="No space left"):
        write_file(path, "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("t.csv", "old")]


def test_markdown_cells_keep_their_text() -> None:
    text = frame_to_markdown(pd.DataFrame({"a|b": ["x\ny", "z"], "n": [1, 20]}))
    assert text.splitlines() == [
        "| a\\|b | n   |", "| ---- | --- |", "| x y  | 1   |", "| z    | 20  |",
    ]  # fmt: skip
