"""Reference families: published networks and timm's benchmark results, as rows of trials."""

import csv
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.load import TRIAL_COLUMNS, cast_columns
from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest

_DATA = "ImageNet-1K"
_TIMM = {
    "top1": ("test_accuracy", 1.0),
    "param_count": ("params", 1e6),
    "infer_gmacs": ("macs", 1e9),
    "infer_samples_per_sec": ("throughput_img_s", 1.0),
    "infer_step_time": ("latency_ms", 1.0),
    "infer_batch_size": ("batch_size", 1.0),
    "infer_img_size": ("resolution", 1.0),
    "img_size": ("resolution", 1.0),
}
"""Column of a trial and factor, by column of timm's results files."""

_COUNTS = ("params", "macs", "batch_size", "resolution")

_MAX_VALUE = 1e18
"""Largest value that is read as a measurement or a count."""

_TIMED = ("throughput_img_s", "latency_ms", "batch_size", "device")


def load_reference_families(
    families: Sequence[str], timm_results: Sequence[Path | str] = ()
) -> pd.DataFrame:
    """Return one row per network of the families, with published values and the columns of `load`.

    Accuracies are published top-1 accuracies on the 50,000 validation images of ImageNet-1K. No
    network was selected on them here, so they are both `val_accuracy` and `test_accuracy`. Params
    and macs are from `published.csv` (see its column `source`), for 224 pixels and 1000 classes.
    If timm's files contain speeds, these replace published speeds.

    Args:
        families: `partialnet`, `fasternet`, or a prefix of model names in timm's files.
        timm_results: files of timm's `benchmark.py` or `validate.py` (results-*.csv); rows of one
            model in several files are merged.

    Raises:
        UserError: unknown family, or a file that is not a results file of timm.
    """
    timm_rows = _load_timm_rows(timm_results)
    rows = [row for family in dict.fromkeys(families) for row in _family(family, timm_rows)]
    if not families and timm_rows:
        names = sorted({re.split(r"[_\d.]", name)[0] for name in timm_rows})
        few = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        raise UserError(f"results files of timm: choose the families to show, such as {few}")
    table = pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, "family", "source"])
    return cast_columns(table)


def require_same_task(
    frame: pd.DataFrame, references: pd.DataFrame, quantities: Sequence[Quantity]
) -> None:
    """Raise an error if reference families and studies have different tasks.

    Raises:
        UserError: the studies were trained on other images or at another resolution.
    """
    if frame.empty or references.empty:
        return
    kinds = {str(data).partition(":")[0] for data in frame["data"].unique()}
    sizes = {*frame["resolution"].dropna().astype(int)} - {*references["resolution"].dropna()}
    if kinds == {"folder"} and not sizes:
        return
    keys = " and ".join(quantity.key for quantity in quantities)
    pixels = ", ".join(f"{size} px" for size in sorted(sizes))
    task = " at ".join(filter(None, [", ".join(sorted(kinds)), pixels]))
    raise UserError(
        f"{keys} of the reference families are for {_DATA} at 224 px, those of the study for "
        f"{task}: they cannot share an axis. Draw the families alone (give no study), or train "
        "them in the study as arms"
    )


def _family(family: str, timm_rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    published = {row["name"]: row for row in _published() if row["family"] == family.lower()}
    named = {name: row for name, row in timm_rows.items() if name.startswith(family)}
    if not published and not named:
        hint = suggest(family, (row["family"] for row in _published()))
        more = "; or give the prefix of a model in timm's files" if timm_rows else ""
        raise UserError(f"unknown family {quote(family)}; {hint}{more}")
    measured = any("throughput_img_s" in row for row in timm_rows.values())
    rows = []
    for name in dict.fromkeys([*published, *named]):
        values = published.get(name, {})
        if measured:
            values = {key: value for key, value in values.items() if key not in _TIMED}
        # published counts take precedence, because timm counts with other tools
        rows.append({**_family_columns(name, family), **named.get(name, {}), **values})
    return rows


def _family_columns(name: str, family: str) -> dict[str, Any]:
    return {
        "study": "reference families", "folder": "", "trial": 0, "name": name, "arm": name,
        "condition": "", "stage": "", "baseline": True, "digest": name, "key": name, "seed": 0,
        "fidelity": 0, "full_fidelity": 0, "state": "done", "warnings": 0, "data": _DATA,
        "resolution": 224, "form": "training", "noisy": False, "seconds": float("nan"),
        "attempts": 1, "failures": 0, "last_failure": "", "function": "", "function_source": "",
        "family": family, "source": "",
    }  # fmt: skip


@cache
def _published() -> tuple[dict[str, Any], ...]:
    """Return the rows of `published.csv` with the columns of `load`."""
    text = resources.files("partialnas.analysis").joinpath("published.csv").read_text("utf-8")
    return tuple(_as_row(row) for row in csv.DictReader(text.splitlines()))


def _as_row(row: Mapping[str, str]) -> dict[str, Any]:
    top1 = float(row["top1"])
    facts: dict[str, Any] = {
        "family": row["family"], "name": row["name"], "arm": row["name"], "source": row["source"],
        "params": int(row["params"]), "macs": int(row["macs"]), "val_accuracy": top1,
        "test_accuracy": top1, "full_fidelity": int(row["epochs"]), "fidelity": int(row["epochs"]),
        "resolution": int(row["resolution"]),
    }  # fmt: skip
    if row["throughput_img_s"]:
        speed = float(row["throughput_img_s"])
        facts |= {"throughput_img_s": speed, "device": row["device"]}
    return facts


def _load_timm_rows(paths: Sequence[Path | str]) -> dict[str, dict[str, Any]]:
    """Return the rows of timm's files by model name without weight tag; earlier rows win."""
    merged: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        for name, row in _timm_rows(path):
            merged[name] = {**row, **merged.get(name, {})}
    return merged


def _timm_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        rows = [*csv.DictReader(path.read_text("utf-8-sig").splitlines())]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a results file of timm ({error})") from None
    heads = {*rows[0]} if rows else set()
    if "model" not in heads or not heads & ({*_TIMM} | {"samples_per_sec"}):
        raise UserError(
            f"{path}: not a results file of timm: it needs a column model and one of "
            f"{', '.join(_TIMM)}"
        )
    complete = (row for row in rows if row["model"])
    return [(row["model"].split(".")[0], _timm_row(row, path)) for row in complete]


def _timm_row(row: Mapping[str, str], path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"source": path.name}
    for column, (key, factor) in _TIMM.items():
        text = row.get(column) or row.get(column.removeprefix("infer_")) or ""
        with suppress(ValueError):  # timm leaves a cell empty where a model failed
            value = float(text) * factor
            least = 0.5 if key in _COUNTS else 0.0
            if least < value <= _MAX_VALUE:
                facts.setdefault(key, round(value) if key in _COUNTS else value)
    if "test_accuracy" in facts:
        facts["val_accuracy"] = facts["test_accuracy"]
    if "throughput_img_s" in facts:
        facts["device"] = f"timm's benchmark ({path.name})"
    return facts
