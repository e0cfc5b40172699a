"""Stamps: what an exported file tells of the study and the query that it was made with.

A stamp is one line of JSON: a comment in a text (the first line, in HTML the second), the keywords
of a PDF, the description of an SVG or a PNG. A figure's stamp carries the numbers that it shows and
a seal, the digest of the file without the seal.
"""

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.space.errors import UserError
from partialnas.space.values import digest

_FORM = 1
_MARK = "partialnas "
_COMMENTS = {
    ".csv": ("# ", ""),
    ".md": ("<!-- ", " -->"),
    ".html": ("<!-- ", " -->"),
    ".tex": ("% ", ""),
}
_ESCAPED = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&()"})
_SEAL = re.compile(rb'"seal":"([0-9a-f]{16})"\}')
_UNSEALED = "0" * 16
_CHECKSUM = 4  # bytes that follow a text in a PNG
_MOST_ROWS = 500
_DIGITS = 10


class StudyId(NamedTuple):
    """A study by its name, and the digest of what must not change while it goes on."""

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Query:
    """How a file was asked for: a verb and its arguments, plain data, those not given left out."""

    verb: str
    arguments: Mapping[str, Any]


def drop_none(**arguments: Any) -> dict[str, Any]:
    """The arguments of a query without those that were not given."""
    return {key: value for key, value in arguments.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What a file was made of.

    Attributes:
        studies: in the order in which they were named.
        query: what was asked of them.
        format: the suffix of the format that the file has.
        shown: of a figure the numbers that it shows, as `table_excerpt` gives them.
        seal: of a figure the digest of its file.
    """

    studies: Sequence[StudyId]
    query: Query
    format: str
    shown: Mapping[str, Any] | None = None
    seal: str = ""

    def line(self) -> str:
        """The stamp as one line of ASCII that no comment is ended by."""
        facts: dict[str, Any] = {
            "partialnas": _FORM,
            "studies": [list(study) for study in self.studies],
            "verb": self.query.verb,
            "arguments": dict(sorted(self.query.arguments.items())),
            "format": self.format,
        }
        if self.shown is not None:
            facts |= {"shown": self.shown, "seal": self.seal or _UNSEALED}
        text = json.dumps(facts, separators=(",", ":"), allow_nan=False)
        return _MARK + text.translate(_ESCAPED).replace("--", "-\\u002d")


def identify_study(study: RecordedStudy, folder: Path) -> StudyId:
    """Return name and digest of a recorded study."""
    name = study.name or folder.name
    frozen = study.meta.get("frozen", "")
    return StudyId(name, study.identity["digest"] or digest([name, frozen]))


def study_id(folder: Path) -> StudyId:
    """Return the study of a folder.

    Raises:
        UserError: there is no ledger in the folder.
        MachineError: it is damaged or cannot be read.
    """
    with Ledger.open(folder) as ledger:
        return identify_study(ledger.study, folder)


def table_excerpt(table: pd.DataFrame) -> dict[str, Any]:
    """What a figure's stamp carries of its table: the first rows, and the digest of all.

    Numbers have ten significant digits; what is missing is null.
    """
    values = [_plain_column(table.iloc[:, place]) for place in range(len(table.columns))]
    rows = [[*row] for row in zip(*values, strict=True)]
    columns = [str(name) for name in table.columns]
    shown = {"columns": columns, "rows": rows[:_MOST_ROWS], "count": len(rows)}
    return shown | {"digest": digest([columns, rows])}


def _plain_column(column: "pd.Series[Any]") -> list[Any]:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        texts = map(f"%.{_DIGITS}g".__mod__, column.tolist())
        return [value if isfinite(value) else None for value in map(float, texts)]
    values = column.astype(object).tolist()
    return [value if type(value) in (str, bool, int) else _plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
    return None if value is None or value is pd.NA else str(value)


def add_stamp(text: str, stamp: Stamp) -> str:
    """A text with its stamp as a comment: before it, in HTML after the line that says it is."""
    before, after = _COMMENTS[stamp.format]
    line = f"{before}{stamp.line()}{after}\n"
    if stamp.format == ".html":
        head, newline, body = text.partition("\n")
        return head + newline + line + body
    return line + text


def stamp_metadata(stamp: Stamp) -> dict[str, str]:
    """The entry of a figure's metadata that carries its stamp."""
    return {"Keywords" if stamp.format == ".pdf" else "Description": stamp.line()}


def with_checksum(content: bytes) -> bytes:
    """A figure's file with its seal in place."""
    found = _SEAL.search(content)
    if found is None:
        return content
    start, end = found.span(1)
    whole = bytearray(content)
    whole[start:end] = _seal(content).encode()
    chunk = content.rfind(b"tEXt", 0, start)
    if content.startswith(b"\x89PNG") and chunk >= 0:
        (length,) = struct.unpack(">I", content[chunk - 4 : chunk])
        last = chunk + 4 + length
        whole[last : last + _CHECKSUM] = struct.pack(">I", zlib.crc32(whole[chunk:last]))
    return bytes(whole)


def has_valid_checksum(content: bytes) -> bool:
    """Whether a figure's file is as it was written: its seal fits it."""
    found = _SEAL.search(content)
    return found is not None and found[1].decode() == _seal(content)


def _seal(content: bytes) -> str:
    """The digest of a file without its seal, and without the checksum that follows in a PNG."""
    found = _SEAL.search(content)
    if found is None:
        return ""
    rest = content[: found.start(1)] + content[found.end() + _CHECKSUM :]
    return hashlib.sha256(rest).hexdigest()[:16]


def read_stamp(path: Path) -> tuple[Stamp, bytes]:
    """The stamp of a file, and the file's content.

    Raises:
        UserError: there is no such file, it cannot be read, or it carries no stamp of ours.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    text = content.decode("latin-1")
    if content.startswith(b"%PDF"):
        text = re.sub(r"\\([\\()])", r"\1", text)
    at = text.find(f'{_MARK}{{"partialnas":')
    if at < 0:
        raise UserError(
            f"{path}: carries no stamp; only files that `partialnas table`, `effects`, `pareto`, "
            "`figure`, `ratios` and `audit` have written can be verified"
        )
    try:
        return _stamp(json.JSONDecoder().raw_decode(text, at + len(_MARK))[0]), content
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: its stamp is damaged; export it again") from None


def _stamp(facts: dict[str, Any]) -> Stamp:
    if facts["partialnas"] != _FORM:
        raise ValueError("another form")
    return Stamp(
        studies=[StudyId(*map(str, study)) for study in facts["studies"]],
        query=Query(verb=str(facts["verb"]), arguments=dict(facts["arguments"])),
        format=str(facts["format"]),
        shown=cast("dict[str, Any] | None", facts.get("shown")),
        seal=str(facts.get("seal", "")),
    )
