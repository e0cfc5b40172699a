"""Files of a user function's trial: the epochs that it has reported, and its own checkpoints.

They are in one folder per trial. A trial on a lower rung leaves its folder to the next rung, in the
place of a trunk.
"""

import json
import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from partialnas.runs.records.job import Job
from partialnas.runs.records.record import CurveRow
from partialnas.runs.system.files import function_folder, trunk_path, write_file
from partialnas.space.errors import MachineError

_LOG = logging.getLogger(__name__)
_CURVE = "curve.json"
_CHECKPOINTS = "checkpoints"


class ReportedCurve(NamedTuple):
    """Epochs that a trial has reported.

    Attributes:
        rows: one row per epoch.
        num_inherited: number of first rows that shorter trials of lower rungs have reported.
    """

    rows: list[CurveRow]
    num_inherited: int = 0


def open_folder(folder: Path, job: Job, seed: int) -> Path:
    """Return the folder of a trial that starts, with what was left there or on the rung below.

    Args:
        folder: the study's folder.
        job: job of the trial.
        seed: seed of the trial.

    Raises:
        MachineError: The folder cannot be created.
    """
    path = function_folder(folder, job.trial_keys[seed])
    trunk = trunk_path(folder, job.trunk_key(seed))
    try:
        if not path.exists() and trunk.is_dir():
            trunk.rename(path)
        (path / _CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{path}: cannot be created ({error.strerror})") from error
    return path


def checkpoint_folder(path: Path) -> Path:
    """Return the folder for a function's own files in the folder of a trial."""
    return path / _CHECKPOINTS


def close_folder(folder: Path, job: Job, seed: int, *, failed: bool, keep: bool) -> None:
    """Leave the folder of a trial that has ended to the next rung, or remove it.

    Args:
        folder: the study's folder.
        job: job of the trial.
        seed: seed of the trial.
        failed: whether the trial failed, so that it is not promoted.
        keep: whether to keep the folder of a trial that has not failed.
    """
    path = function_folder(folder, job.trial_keys[seed])
    trunk = trunk_path(folder, job.trunk_key(seed))
    if job.rung and not failed:
        shutil.rmtree(trunk, ignore_errors=True)
        with suppress(OSError):  # the next rung then starts anew
            path.rename(trunk)
    elif failed or not keep:
        shutil.rmtree(path, ignore_errors=True)


def save_curve(path: Path, key: str, curve: ReportedCurve) -> None:
    """Write the epochs that a trial has reported to its folder.

    Raises:
        MachineError: The file cannot be written.
    """
    content = {"trial": key, "num_inherited": curve.num_inherited, "rows": curve.rows}
    write_file(path / _CURVE, json.dumps(content), is_resumable=True)


def load_curve(path: Path, key: str) -> ReportedCurve:
    """Return the epochs that a trial has reported; none without a file, or if it is damaged.

    Args:
        path: folder of the trial.
        key: key of the trial; all epochs that another trial has reported are inherited.
    """
    file = path / _CURVE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        rows = [{str(k): float(v) for k, v in row.items()} for row in content["rows"]]
        if not all({"epoch", "seconds"} <= row.keys() for row in rows):
            raise ValueError("a row has no epoch or no duration")
        is_same_trial = content["trial"] == key
        return ReportedCurve(rows, int(content["num_inherited"]) if is_same_trial else len(rows))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        _LOG.warning("%s: the file is damaged and is ignored", file)
    return ReportedCurve([])
