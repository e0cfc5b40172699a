"""Provenance stamps: the study and the query that an exported file was made from.

A stamp is one line of JSON: a comment in a text file (the first line, in HTML the second), the
keywords of a PDF, the description of an SVG or a PNG. A figure's stamp carries the numbers that it
shows and a checksum of the file (the key `seal`).
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

STAMP_FORM = 3
"""Form of the stamps that are written. Files of lower forms have other words, but the same numbers.
"""

_MARK = "partialnas "
_COMMENTS = {
    **{".csv": ("# ", ""), ".tex": ("% ", "")},
    **dict.fromkeys((".md", ".html"), ("<!-- ", " -->")),
}
_ESCAPED = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&()"})
_CHECKSUM = re.compile(rb'"seal":"([0-9a-f]{16})"\}')
_NO_CHECKSUM = "0" * 16
_PNG_CRC_BYTES = 4
_MAX_ROWS = 500
_DIGITS = 10


class StudyId(NamedTuple):
    """Name of a study, and digest of the settings that must not change while it runs.

    Attributes:
        name: name of the study.
        digest: digest of the settings.
        sources: digests of the recorded sources of its function, oldest first; empty without one.
    """

    name: str
    digest: str
    sources: str = ""


@dataclass(frozen=True, kw_only=True)
class Query:
    """The verb that makes a file and its arguments as plain data, defaults left out."""

    verb: str
    arguments: Mapping[str, Any]


def drop_none(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not None."""
    return {key: value for key, value in arguments.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """Provenance of a file.

    Attributes:
        studies: studies in the order in which they were given.
        query: query that made the file.
        format: suffix of the file's format.
        shown: numbers that a figure shows, see `table_excerpt`; None for a text file.
        seal: checksum of a figure's file.
        form: form of the stamp; lower than `STAMP_FORM` for files of older versions.
    """

    studies: Sequence[StudyId]
    query: Query
    format: str
    shown: Mapping[str, Any] | None = None
    seal: str = ""
    form: int = STAMP_FORM

    def line(self) -> str:
        """Return the stamp as one line of ASCII without the end of any comment."""
        facts: dict[str, Any] = {
            "partialnas": self.form,
            "studies": [[*filter(None, study)] for study in self.studies],
            "verb": self.query.verb,
            "arguments": dict(sorted(self.query.arguments.items())),
            "format": self.format,
        }
        if self.shown is not None:
            facts |= {"shown": self.shown, "seal": self.seal or _NO_CHECKSUM}
        text = json.dumps(facts, separators=(",", ":"), allow_nan=False)
        return _MARK + text.translate(_ESCAPED).replace("--", "-\\u002d")


def identify_study(study: RecordedStudy, folder: Path) -> StudyId:
    """Return name and digest of a recorded study."""
    name = study.name or folder.name
    frozen = study.meta.get("frozen", "")
    sources = ", ".join(source["digest"] for source in study.trial_sources)
    return StudyId(name, study.identity["digest"] or digest([name, frozen]), sources)


def study_id(folder: Path) -> StudyId:
    """Return the study of a folder.

    Raises:
        UserError: the folder holds no ledger.
        MachineError: the ledger is damaged or cannot be read.
    """
    with Ledger.open(folder) as ledger:
        return identify_study(ledger.study, folder)


def table_excerpt(table: pd.DataFrame) -> dict[str, Any]:
    """Return the first rows of a table as plain data, and a digest of all rows.

    Numbers have ten significant digits; missing values are None.
    """
    values = [_plain_column(table.iloc[:, place]) for place in range(len(table.columns))]
    rows = [[*row] for row in zip(*values, strict=True)]
    columns = [str(name) for name in table.columns]
    excerpt = {"columns": columns, "rows": rows[:_MAX_ROWS], "count": len(rows)}
    return excerpt | {"digest": digest([columns, rows])}


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
    """Return a text with its stamp as a comment: the first line, or the second of HTML."""
    before, after = _COMMENTS[stamp.format]
    line = f"{before}{stamp.line()}{after}\n"
    if stamp.format == ".html":
        head, newline, body = text.partition("\n")
        return head + newline + line + body
    return line + text


def stamp_metadata(stamp: Stamp) -> dict[str, str]:
    """Return the metadata entry of a figure that carries its stamp."""
    return {"Keywords" if stamp.format == ".pdf" else "Description": stamp.line()}


def with_checksum(content: bytes) -> bytes:
    """Return a figure's file with the checksum in its stamp."""
    match = _CHECKSUM.search(content)
    if match is None:
        return content
    start, end = match.span(1)
    sealed = bytearray(content)
    sealed[start:end] = _checksum(content).encode()
    chunk = content.rfind(b"tEXt", 0, start)
    if content.startswith(b"\x89PNG") and chunk >= 0:
        (length,) = struct.unpack(">I", content[chunk - 4 : chunk])
        crc = chunk + 4 + length
        sealed[crc : crc + _PNG_CRC_BYTES] = struct.pack(">I", zlib.crc32(sealed[chunk:crc]))
    return bytes(sealed)


def has_valid_checksum(content: bytes) -> bool:
    """Return whether a figure's file is unchanged since it was written."""
    match = _CHECKSUM.search(content)
    return match is not None and match[1].decode() == _checksum(content)


def _checksum(content: bytes) -> str:
    """Return the digest of a file without its checksum, and without the CRC after it in a PNG."""
    match = _CHECKSUM.search(content)
    if match is None:
        return ""
    rest = content[: match.start(1)] + content[match.end() + _PNG_CRC_BYTES :]
    return hashlib.sha256(rest).hexdigest()[:16]


def read_stamp(path: Path) -> tuple[Stamp, bytes]:
    """Return the stamp and the content of a file.

    Raises:
        UserError: the file does not exist or cannot be read, or it carries no valid stamp.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    text = content.decode("latin-1")
    if content.startswith(b"%PDF"):
        text = re.sub(r"\\([\\()])", r"\1", text)
    start = text.find(f'{_MARK}{{"partialnas":')
    if start < 0:
        raise UserError(
            f"{path}: carries no stamp; only files written by `partialnas table`, `effects`, "
            "`pareto`, `figure`, `ratios` and `audit` can be verified"
        )
    try:
        facts = json.JSONDecoder().raw_decode(text, start + len(_MARK))[0]
        return _stamp(facts), content
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: its stamp is damaged; export the file again") from None


def _stamp(facts: dict[str, Any]) -> Stamp:
    if facts["partialnas"] not in range(1, STAMP_FORM + 1):
        raise ValueError("unknown form")
    return Stamp(
        studies=[StudyId(*map(str, study)) for study in facts["studies"]],
        query=Query(verb=str(facts["verb"]), arguments=dict(facts["arguments"])),
        format=str(facts["format"]),
        shown=cast("dict[str, Any] | None", facts.get("shown")),
        seal=str(facts.get("seal", "")),
        form=int(facts["partialnas"]),
    )
