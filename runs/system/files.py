"""Files, written whole: under a temporary name, then renamed. Takes no torch."""

from contextlib import suppress
from pathlib import Path

from partialnas.space.errors import MachineError, UserError


def write_file(path: Path, content: bytes | str) -> Path:
    """Puts `content` into `path`; a file that was there stays whole until the new one is.

    Raises:
        MachineError: the folder cannot be made or written, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    draft = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        return draft.replace(path)
    except OSError as error:
        with suppress(OSError):  # a place that takes no file may not give one back either
            draft.unlink(missing_ok=True)
        raise MachineError(
            f"{path}: cannot be written ({error.strerror}); make room there, mend the folder, or "
            "choose another place. What was finished is kept"
        ) from error


def check_output_path(path: Path) -> None:
    """Refuses a place for a file that could never take one, before anything is made for it.

    Raises:
        UserError: it lies below another file, or is a folder.
    """
    if blocking := blocking_file(path):
        raise UserError(f"{path}: {blocking} is a file, not a folder; choose another place")
    with suppress(OSError):
        if path.is_dir():
            raise UserError(f"{path}: a folder; name a file in it")


def blocking_file(path: Path) -> Path | None:
    """The file among the folders that lead to a place; None where there is none."""
    with suppress(OSError):  # what cannot be looked at is told when it is written
        return next((above for above in path.parents if above.is_file()), None)
    return None


def temporary_path(path: Path) -> Path:
    """The temporary name of a file that is being written."""
    return path.with_name(f".{path.name}.part")


def checkpoint_path(folder: Path, key: str) -> Path:
    """The checkpoint of the trial `key` of a study in `folder`."""
    return folder / "checkpoints" / f"{key}.pt"


def trunk_path(folder: Path, key: str) -> Path:
    """Where trainings that differ in their lengths alone part, of a study in `folder`."""
    return folder / "checkpoints" / f"{key}.trunk"


def weights_path(folder: Path, key: str) -> Path:
    """The final weights of the trial `key` of a study in `folder`."""
    return folder / "weights" / f"{key}.safetensors"
