"""Atomic writing of files, checks of output paths, and paths inside a study's folder."""

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from partialnas.space.errors import MachineError, UserError, is_too_long

_REMEDIES = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space, or raise the quota",
    errno.EACCES: "make the folder writable, or choose another path",
    errno.EPERM: "make the folder writable, or choose another path",
    errno.EROFS: "the file system is read-only; choose another path",
}
"""What to do if a file cannot be written, by the number of the error."""


def write_file(path: Path, content: bytes | str, *, is_resumable: bool = False) -> Path:
    """Write a file atomically: under a temporary name, then renamed.

    Args:
        path: path of the file.
        content: its content; text is written in UTF-8.
        is_resumable: whether a running study writes the file; the error then adds that finished
            trials are kept and how to continue.

    Raises:
        MachineError: the folder cannot be created or written, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    draft = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        return draft.replace(path)
    except OSError as error:
        with suppress(OSError):  # the folder may not be accessible at all
            draft.unlink(missing_ok=True)
        remedy = _REMEDIES.get(error.errno or 0, "repair the folder, or choose another path")
        kept = ". Finished trials are kept; run the study again to continue" * is_resumable
        raise MachineError(
            f"{path}: cannot be written ({error.strerror}); {remedy}{kept}"
        ) from error


def write_new_files(texts: Mapping[Path, str]) -> None:
    """Write new files; write none of them if one exists already.

    Raises:
        UserError: a path exists, or is not usable for a file (see `check_output_path`).
        MachineError: a file cannot be written (see `write_file`).
    """
    for path in texts:
        check_new_path(path)
    for path, text in texts.items():
        write_file(path, text)


def check_new_path(path: Path) -> None:
    """Check that a new file can be written to a path.

    Raises:
        UserError: the path exists, or is not usable for a file (see `check_output_path`).
        MachineError: its folder is not writable.
    """
    check_output_path(path)
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already; choose another name, or remove it")


def check_output_path(path: Path) -> None:
    """Check that a file can be written to a path, before its content is computed.

    Raises:
        UserError: the path lies below another file, is a folder, or is too long.
        MachineError: the folder that it would be written into is not writable.
    """
    try:
        temporary_path(path).lstat()
    except OSError as error:  # others are reported when the file is written
        if is_too_long(error):
            raise UserError(f"{path}: {error.strerror}; choose a shorter name") from None
    if blocking := blocking_file(path):
        raise UserError(f"{path}: {blocking} is a file, not a folder; choose another path")
    with suppress(OSError):
        if path.is_dir():
            raise UserError(f"{path}: is a folder; name a file in it")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not os.access(folder, os.W_OK | os.X_OK):
            raise MachineError(
                f"{path}: cannot be written, because {folder} is not writable; choose another path"
            )


def blocking_file(path: Path) -> Path | None:
    """Return the nearest parent of a path that is a file instead of a folder, or None."""
    with suppress(OSError):  # inaccessible paths are reported when the file is written
        return next((parent for parent in path.parents if parent.is_file()), None)
    return None


class TrialWeights(NamedTuple):
    """A file with the final weights of a trial, and the values that identify the trial.

    Attributes:
        path: path of the file.
        key: key of the trial.
        val_nll: recorded negative log-likelihood on the validation split in nats, or None.
        device: device that the trial ran on.
    """

    path: Path
    key: str
    val_nll: float | None
    device: str


def temporary_path(path: Path) -> Path:
    """Return the path under which a file is written before it is renamed."""
    return path.with_name(f".{path.name}.part")


def checkpoint_path(folder: Path, key: str) -> Path:
    """Return the path of the checkpoint of a trial of the study in `folder`."""
    return folder / "checkpoints" / f"{key}.pt"


def trunk_path(folder: Path, key: str) -> Path:
    """Return the path of the checkpoint from which longer trainings of a network continue.

    For a user function it is a folder.
    """
    return folder / "checkpoints" / f"{key}.trunk"


def function_folder(folder: Path, key: str) -> Path:
    """Return the checkpoint folder of an unfinished trial of a user function."""
    return folder / "checkpoints" / f"{key}.function"


def weights_path(folder: Path, key: str) -> Path:
    """Return the path of the final weights of a trial of the study in `folder`."""
    return folder / "weights" / f"{key}.safetensors"
