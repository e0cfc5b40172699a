"""Folders of studies, in every form in which functions of the analysis accept them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.space.errors import UserError

Paths = str | Path | Iterable[str | Path]
"""Folder of a study, or folders of several."""

_MAX_NAMED = 3


def study_folders(paths: Paths) -> list[Path]:
    """Return the folders of studies, each once.

    Raises:
        UserError: no folder given, or something that is no folder, such as a frame of trials.
    """
    if isinstance(paths, str | os.PathLike):
        return [Path(paths)]
    frame = getattr(paths, "frame", paths)
    if isinstance(frame, pd.DataFrame):
        raise UserError(f"expected a folder, got a {type(paths).__name__}; {_hint(frame)}")
    if not isinstance(paths, Iterable):
        raise UserError(f"expected a folder, got {paths!r:.100}; {_hint()}")
    named = [*paths]
    if not named:
        raise UserError("no study named: give at least one folder that `partialnas run` wrote")
    return [*dict.fromkeys(map(_folder, named))]


def study_folder(path: str | Path) -> Path:
    """Return the folder of one study.

    Raises:
        UserError: several folders given, or something that is no folder.
    """
    folders = study_folders(path)
    if len(folders) > 1:
        raise UserError(f"expected the folder of one study, got {len(folders)} folders")
    return folders[0]


def _folder(path: Any) -> Path:
    if isinstance(path, str | os.PathLike):
        return Path(path)
    if isinstance(path, pd.DataFrame):
        return study_folder(path)  # type: ignore[arg-type]  # raises the error of frames
    raise UserError(f"expected a folder, got {path!r:.100}; {_hint()}")


def _hint(frame: pd.DataFrame | None = None) -> str:
    """Return what to pass instead, with the folders that a frame was loaded from."""
    named = [] if frame is None or "folder" not in frame else [*frame["folder"].unique()]
    if not named:
        return "pass a folder that `partialnas run` wrote, such as 'results/quickstart'"
    listed = ", ".join(map(repr, named[:_MAX_NAMED])) + ", ..." * (len(named) > _MAX_NAMED)
    return f"pass what it was loaded from: {listed if len(named) == 1 else f'[{listed}]'}"
