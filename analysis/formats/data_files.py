"""Export of tables to CSV, Parquet, xlsx and Markdown, safe to open in a spreadsheet."""

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
from partialnas.installation import install_command
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.space.errors import UserError

LEADING_COLUMNS = (
    "trial", "digest", "seed", "state", "val_accuracy", "test_accuracy", "params", "macs",
    "throughput_img_s",
)  # fmt: skip
"""The first columns of every export, in this order; empty if unavailable."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SPECIAL = re.compile('[#,"\n\r]')
_MAX_CELL_LENGTH = 32_767
_MAX_XLSX_ROWS = 1_048_575


def export(frame: pd.DataFrame, path: Path | str) -> Path:
    """Write the trials, one row each, as `.csv`, `.parquet` or `.xlsx`, depending on the suffix.

    Args:
        frame: trials, as returned by `load`.
        path: file to write; it is written completely, then renamed.

    Raises:
        UserError: there are no trials, the suffix is unknown, the path is not usable for a file, or
            the package that writes the format is not installed.
        MachineError: the file cannot be written.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        suffixes = ", ".join(_WRITERS)
        raise UserError(f"{path}: unknown export format; use a name that ends in {suffixes}")
    check_output_path(path)
    require_trials(frame)
    rest = [column for column in frame.columns if column not in LEADING_COLUMNS]
    table = frame.reindex(columns=[*LEADING_COLUMNS, *rest])
    try:
        return write_file(path, write(table))
    except ImportError as error:
        raise UserError(
            f"{path}: {error.name or error} is not installed; run {install_command('export')}"
        ) from None


def frame_to_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV; text that a spreadsheet would run as a formula gets a leading quote.

    Text with a `#` is quoted, so that readers may treat `#` as the start of a comment.
    """
    # column by column: `DataFrame.to_csv` takes four times as long for a hundred thousand rows
    columns = [_fields(table.iloc[:, index]) for index in range(len(table.columns))]
    head = ",".join(_field(str(name)) for name in table.columns)
    lines = [head, *map(",".join, zip(*columns, strict=True))]
    return "\n".join(lines) + "\n"


def _fields(column: "pd.Series[Any]") -> list[str]:
    """Return the CSV fields of a column; empty if missing."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        return _numbers(column.tolist())
    if is_integer_dtype(column.dtype):
        integers = column.astype(object).tolist()
        return ["" if value is pd.NA else str(value) for value in integers]
    values = column.astype(object).tolist()
    fields = {value: _field(value) for value in set(values)}
    return [fields[value] for value in values]


def _numbers(values: list[float]) -> list[str]:
    """Return the shortest exact text of each number; empty for NaN."""
    # six times as fast as `repr`, which is only needed for exponents
    texts = to_json(values).decode()[1:-1].split(",")
    return [
        text if 1e-4 <= abs(value) < 1e15 else "" if value != value else repr(value)
        for value, text in zip(values, texts, strict=False)  # one empty text without values
    ]


def _field(value: Any) -> str:
    """Return a CSV field, quoted if necessary; empty if missing."""
    if not isinstance(value, str):
        return "" if pd.isna(value) else str(value)
    text = f"'{value}" if value.startswith(_FORMULA) else value
    if _SPECIAL.search(text) is None:
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def frame_to_markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown with padded cells."""
    rows = [list(table.columns), *table.astype(str).to_numpy().tolist()]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(cells[0]))]
    cells.insert(1, ["-" * width for width in widths])
    lines = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "".join(f"| {line} |\n" for line in lines)


def join_texts(*parts: str) -> str:
    """Return the parts of a Markdown file, except empty ones, with an empty line between them."""
    return "\n".join(f"{part.rstrip()}\n" for part in parts if part)


def _truncate_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with texts cut to the length that a cell of a spreadsheet can hold."""
    columns = [str(name) for name, kind in table.dtypes.items() if not is_numeric_dtype(kind)]
    for column in columns:
        texts = [cell for cell in table[column].unique() if isinstance(cell, str)]
        changed = {t: t[:_MAX_CELL_LENGTH] for t in texts if len(t) > _MAX_CELL_LENGTH}
        if changed:
            table = table.assign(**{column: table[column].replace(changed)})
    return table


def _xlsx(table: pd.DataFrame) -> bytes:
    if len(table) > _MAX_XLSX_ROWS:
        raise UserError(f"{len(table):,} trials do not fit into an xlsx sheet; export to .csv")
    content = io.BytesIO()
    options = {"strings_to_formulas": False, "strings_to_urls": False}
    with pd.ExcelWriter(content, "xlsxwriter", engine_kwargs={"options": options}) as writer:
        table = _truncate_texts(table)
        table.to_excel(writer, sheet_name="trials", index=False, freeze_panes=(1, 1))
    return content.getvalue()


_WRITERS: dict[str, Callable[[pd.DataFrame], bytes | str]] = {
    ".csv": frame_to_csv,
    ".parquet": lambda table: table.to_parquet(index=False),
    ".xlsx": _xlsx,
}
