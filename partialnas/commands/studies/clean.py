"""The verb `clean`: remove weights and checkpoints that nothing needs any more.

Kept are the checkpoints of unfinished trials, from which `run` resumes, and the weights of trials
on the front, of arms and of later stages, which `export-model` and `remeasure` read. While a trial
is unfinished, all weights are kept, because the front may change. A file is removed only if its
name is that of a file that a trial of this study writes.
"""

import re
import shutil
from collections.abc import Callable, Container, Iterable, Set
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import front
from partialnas.commands.terminal import make_console, print_lines
from partialnas.runs.datasets.memory import format_bytes
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import FINAL_STATES
from partialnas.runs.system.files import (
    checkpoint_path,
    function_folder,
    temporary_path,
    trunk_path,
    weights_path,
)
from partialnas.runs.system.study_lock import lock_study, unlock_study
from partialnas.space.errors import MachineError, UserError

_KEY = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Unneeded:
    """Files of one kind that nothing needs.

    Attributes:
        label: what they are.
        paths: their paths.
        size: their size in bytes.
    """

    label: str
    paths: tuple[Path, ...]
    size: int


def clean(folder: Path, *, remove: bool) -> None:
    """Print the files that nothing needs, and remove them if `remove`.

    Raises:
        UserError: there is no ledger, or a driver works on the study.
        MachineError: the ledger is damaged, or a file cannot be removed.
    """
    with Ledger.open(folder):  # says what is wrong before the lock file is written
        pass
    lock = lock_study(folder)
    try:
        groups = find_unneeded(folder)
        if remove:
            _remove(path for group in groups for path in group.paths)
    finally:
        unlock_study(lock)
    lines = [f"{g.label}: {len(g.paths)}, {format_bytes(g.size)}" for g in groups if g.paths]
    total = format_bytes(sum(group.size for group in groups))
    if not lines:
        last = f"{folder}: nothing to remove"
    elif remove:
        last = f"{folder}: removed, {total} in total"
    else:
        last = f"{folder}: {total} in total; nothing was removed, --yes removes these files"
    print_lines(make_console(), *lines, last)


def find_unneeded(folder: Path) -> list[Unneeded]:
    """Return the files of a study that nothing needs, by kind."""
    trials = load_trials(folder, stage=None)
    states = dict(zip(trials.frame["key"], trials.frame["state"], strict=True))
    finished = {key for key, state in states.items() if state in FINAL_STATES}
    all_finished = len(finished) == len(states)
    needless = _needless_weights(trials) if all_finished else set()
    trunks = _files(folder, trunk_path)
    groups = {
        "files of interrupted writes": [
            *_files(folder, checkpoint_path, states, drafts=True),
            *_files(folder, weights_path, states, drafts=True),
            *_files(folder, trunk_path, drafts=True),
        ],
        "checkpoints of finished trials": [
            *_files(folder, checkpoint_path, finished),
            *_files(folder, function_folder, finished),
        ],
        "checkpoints for later rungs of a finished search": trunks if all_finished else [],
        "weights of trials that are neither on the front nor of an arm": _files(
            folder, weights_path, needless
        ),
    }
    return [
        Unneeded(label, tuple(paths), sum(map(_size, paths))) for label, paths in groups.items()
    ]


def _files(
    folder: Path,
    place: Callable[[Path, str], Path],
    keys: Container[str] | None = None,
    *,
    drafts: bool = False,
) -> list[Path]:
    """Return the regular files and the folders of user functions that are named as those of trials.

    Args:
        folder: folder of the study.
        place: function that returns the path of a key.
        keys: keys of the files; None for all.
        drafts: whether to return the files of interrupted writes instead.
    """
    files = []
    for path in sorted(place(folder, "any").parent.glob("*")):
        key = path.name.removeprefix(".").partition(".")[0]
        expected = temporary_path(place(folder, key)) if drafts else place(folder, key)
        is_named_so = path == expected and _KEY.fullmatch(key) and (keys is None or key in keys)
        is_folder = path.is_dir() and place in (function_folder, trunk_path)
        if is_named_so and (path.is_file() or is_folder) and not path.is_symlink():
            files.append(path)
    return files


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files)


def _needless_weights(trials: Trials) -> Set[str]:
    """Return the keys of searched trials whose network is known to be off the front."""
    frame = trials.frame
    searched = frame[frame["arm"].eq("") & frame["stage"].eq("")]
    if searched.empty:
        return set()
    try:
        rows = front(trials.where(frame["stage"].eq("")))
    except UserError:  # no trial has all objectives
        return set()
    off_front = rows["rank"].gt(1).fillna(value=False)
    if "feasible" in rows:
        off_front |= ~rows["feasible"].astype(bool)
    keys = ["condition", "digest"]
    with_front = rows.loc[rows["on_front"], "condition"]
    rows = rows[off_front & rows["condition"].isin(with_front)]
    dominated = pd.MultiIndex.from_frame(rows[keys])
    is_dominated = pd.MultiIndex.from_frame(searched[keys]).isin(dominated)
    is_partial = searched["state"].ne("done").to_numpy()
    return {*searched.loc[is_dominated | is_partial, "key"]}


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise MachineError(f"cannot remove {path}: {error.strerror}") from error
