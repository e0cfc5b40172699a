"""Tables out: CSV, Parquet, xlsx and Markdown, safe to open in a spreadsheet."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype
from pydantic_core import to_json

from partialnas.analysis.frames.seed_means import require_trials
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.space.errors import UserError

LEADING_COLUMNS = (
    "trial", "digest", "seed", "state", "val_accuracy", "test_accuracy", "params", "macs",
    "throughput_img_s",
)  # fmt: skip
"""Columns that every export has, in this order before all others, empty where nothing is known."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SPECIAL = re.compile('[#,"\n\r]')
_LONGEST_CELL = 32_767
_MOST_ROWS = 1_048_575


def export(frame: pd.DataFrame, path: Path | str) -> Path:
    """Writes the trials, one row each, as `.csv`, `.parquet` or `.xlsx` by suffix.

    Args:
        frame: the trials, as `load` gives them.
        path: the file; written whole, then renamed.

    Raises:
        UserError: no trials, an unknown suffix, a file or folder in the way, or a suffix whose
            package is not installed.
        MachineError: the place cannot be written.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise UserError(f"{path}: an export ends in {', '.join(_WRITERS)}")
    check_output_path(path)
    require_trials(frame)
    rest = [column for column in frame.columns if column not in LEADING_COLUMNS]
    table = frame.reindex(columns=[*LEADING_COLUMNS, *rest])
    try:
        return write_file(path, write(table))
    except ImportError as error:
        raise UserError(
            f"{path}: {error.name or error} is not installed; pip install 'partialnas[export]'"
        ) from None


def frame_to_csv(table: pd.DataFrame) -> str:
    """The table as CSV; text that a spreadsheet would run as a formula gets a quote before it.

    Text with a `#` stands in quotes, so that readers may take `#` for the beginning of a comment.
    """
    # whole columns at once: pandas takes four times as long for a hundred thousand rows
    columns = [_fields(table.iloc[:, place]) for place in range(len(table.columns))]
    head = ",".join(_field(str(name)) for name in table.columns)
    lines = [head, *map(",".join, zip(*columns, strict=True))]
    return "\n".join(lines) + "\n"


def _fields(column: "pd.Series[Any]") -> list[str]:
    """The fields of a CSV's column; empty where nothing is known."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        return _numbers(column.tolist())
    if is_integer_dtype(column.dtype):
        whole = column.astype(object).tolist()
        return ["" if value is pd.NA else str(value) for value in whole]
    values = column.astype(object).tolist()
    known = {value: _field(value) for value in set(values)}
    return [known[value] for value in values]


def _numbers(values: list[float]) -> list[str]:
    """The shortest text that is read as each number; empty for NaN."""
    # a sixth of the time of `repr`, which writes others as a power of ten
    texts = to_json(values).decode()[1:-1].split(",")
    return [
        text if 1e-4 <= abs(value) < 1e15 else "" if value != value else repr(value)
        for value, text in zip(values, texts, strict=False)  # of no value there is a text
    ]


def _field(value: Any) -> str:
    """A field of a CSV, in quotes where it needs them; empty where nothing is known."""
    if not isinstance(value, str):
        return "" if pd.isna(value) else str(value)
    text = _disarm(value)
    if _SPECIAL.search(text) is None:
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def frame_to_markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, cells padded; a column of numbers is a column of their texts."""
    rows = [list(table.columns), *table.astype(str).to_numpy().tolist()]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(cells[0]))]
    cells.insert(1, ["-" * width for width in widths])
    lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "".join(f"| {line} |\n" for line in lines)


def _disarm(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _with_text(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with `change` applied to every text in it."""
    columns = [str(name) for name, kind in table.dtypes.items() if not is_numeric_dtype(kind)]
    for column in columns:
        texts = [cell for cell in table[column].unique() if isinstance(cell, str)]
        changed = {text: new for text in texts if (new := change(text)) != text}
        if changed:
            table = table.assign(**{column: table[column].replace(changed)})
    return table


def _parquet(table: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    return content.getvalue()


def _xlsx(table: pd.DataFrame) -> bytes:
    if len(table) > _MOST_ROWS:
        raise UserError(f"{len(table):,} trials do not fit in an xlsx sheet; export to .csv")
    table = _with_text(table, lambda text: text[:_LONGEST_CELL])
    content = io.BytesIO()
    plain = {"strings_to_formulas": False, "strings_to_urls": False}
    with pd.ExcelWriter(content, "xlsxwriter", engine_kwargs={"options": plain}) as writer:
        table.to_excel(writer, sheet_name="trials", index=False, freeze_panes=(1, 1))
    return content.getvalue()


_WRITERS: dict[str, Callable[[pd.DataFrame], bytes | str]] = {
    ".csv": frame_to_csv,
    ".parquet": _parquet,
    ".xlsx": _xlsx,
}
