"""Reference families: published networks, and timm's own results of a device, as trials' rows."""

import csv
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.frames.load import TRIAL_COLUMNS, cast_columns
from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError

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
"""Columns of timm's results files: what they are here, and their factor."""

_TIMED = ("throughput_img_s", "latency_ms", "batch_size", "device")


def load_reference_families(
    families: Sequence[str], timm_results: Sequence[Path | str] = ()
) -> pd.DataFrame:
    """Networks of families with their published figures, a row each, with the columns of `load`.

    Accuracies are published top-1 on ImageNet-1K's 50,000 validation images, which nobody chose
    networks on here: they stand as `val_accuracy` and as `test_accuracy`. Params and macs are those
    of `published.csv` (see its column `source`), for 224 pixels and 1000 classes. Where files of
    timm are given, speeds are those that they tell and no published ones.

    Args:
        families: `partialnet`, `fasternet`, or the beginning of names in the files of timm.
        timm_results: files that timm's `benchmark.py` or `validate.py` wrote (results-*.csv); what
            several tell of a model is put together.

    Raises:
        UserError: nothing of such a name, or a file that is none of timm's.
    """
    told = _timm(timm_results)
    rows = [row for family in dict.fromkeys(families) for row in _family(family, told)]
    if not families and told:
        names = sorted({re.split(r"[_\d.]", name)[0] for name in told})
        few = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        raise UserError(f"--timm-results: name the families to show with --family; there are {few}")
    table = pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, "family", "source"])
    return cast_columns(table)


def require_same_task(
    frame: pd.DataFrame, references: pd.DataFrame, quantities: Sequence[Quantity]
) -> None:
    """Refuses reference families beside studies whose task is another one.

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
    theirs = " at ".join(filter(None, [", ".join(sorted(kinds)), pixels]))
    raise UserError(
        f"the families' {keys} are for {_DATA} at 224 px, the study's for {theirs}: no axis can "
        "compare them. Draw the families alone (name no study), or train them in the study as arms"
    )


def _family(family: str, told: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    published = {row["name"]: row for row in _published() if row["family"] == family.lower()}
    named = {name: row for name, row in told.items() if name.startswith(family)}
    if not published and not named:
        known = ", ".join(dict.fromkeys(row["family"] for row in _published()))
        more = "; none in the files of timm begins so" if told else ""
        raise UserError(f"--family {family}: not published here, there are {known}{more}")
    measured = any("throughput_img_s" in row for row in told.values())
    rows = []
    for name in dict.fromkeys([*published, *named]):
        own = published.get(name, {})
        if measured:
            own = {key: value for key, value in own.items() if key not in _TIMED}
        # what is counted here stands, timm counts with other tools
        rows.append({**_common(name, family), **named.get(name, {}), **own})
    return rows


def _common(name: str, family: str) -> dict[str, Any]:
    return {
        "study": "reference families", "folder": "", "trial": 0, "name": name, "arm": name,
        "condition": "", "stage": "", "baseline": True, "digest": name, "key": name, "seed": 0,
        "fidelity": 0, "full_fidelity": 0, "state": "done", "warnings": 0, "data": _DATA,
        "resolution": 224, "form": "training", "noisy": False, "seconds": float("nan"),
        "family": family, "source": "",
    }  # fmt: skip


@cache
def _published() -> tuple[dict[str, Any], ...]:
    """The rows of `published.csv`, in the words of `load`."""
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


def _timm(paths: Sequence[Path | str]) -> dict[str, dict[str, Any]]:
    """By model (without the tag of its weights) what files of timm tell, the first first."""
    told: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        for name, row in _timm_rows(path):
            told[name] = {**row, **told.get(name, {})}
    return told


def _timm_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        rows = [*csv.DictReader(path.read_text("utf-8-sig").splitlines())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a results file of timm ({error})") from None
    heads = {*rows[0]} if rows else set()
    if "model" not in heads or not heads & ({*_TIMM} | {"samples_per_sec"}):
        raise UserError(
            f"{path}: is no results file of timm: it needs a column model and one of "
            f"{', '.join(_TIMM)}"
        )
    return [(row["model"].split(".")[0], _timm_row(row, path)) for row in rows]


def _timm_row(row: Mapping[str, str], path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"source": path.name}
    for column, (key, factor) in _TIMM.items():
        text = row.get(column) or row.get(column.removeprefix("infer_")) or ""
        try:
            facts.setdefault(key, float(text) * factor)
        except ValueError:
            continue  # timm leaves a cell empty where a model failed
    for key in ("params", "macs", "batch_size", "resolution"):
        if key in facts:
            facts[key] = round(facts[key])
    if "test_accuracy" in facts:
        facts["val_accuracy"] = facts["test_accuracy"]
    if "throughput_img_s" in facts:
        facts["device"] = f"timm's benchmark ({path.name})"
    return facts
