"""Files that cluster nodes share: code sent to the workers, and the shared results folder."""

import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

import partialnas
from partialnas.runs.system.files import blocking_file
from partialnas.space.errors import MachineError, UserError


def user_modules(folder: Path) -> tuple[Path, ...]:
    """Return the Python modules and packages in a study's folder, for its trial function."""
    entries = sorted(folder.resolve().iterdir())
    return tuple(e for e in entries if _is_module(e) and e.stem != partialnas.__name__)


def copy_modules(modules: Iterable[Path], folder: Path) -> list[Path]:
    """Copy this package and further modules into a folder, without links, as Ray needs them."""
    (package,) = partialnas.__path__
    return [_copy(Path(package), folder), *(_copy(module, folder) for module in modules)]


def _is_module(entry: Path) -> bool:
    return entry.suffix == ".py" or (entry / "__init__.py").is_file()


def _copy(module: Path, folder: Path) -> Path:
    target = folder / module.name
    if module.is_file():
        return Path(shutil.copy(module, target))
    return shutil.copytree(module, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))


_SHARED_FOLDERS = ("checkpoints", "weights")
_LOG = "workers.log"


def shared_folder(folder: Path, shared: str | None) -> Path:
    """Return the folder where workers write checkpoints, weights and their log.

    Args:
        folder: the study's folder; with `shared` it gets links to the shared files.
        shared: a folder that all machines mount, in which a new folder is created for the study;
            None lets workers write into `folder`.

    Raises:
        UserError: the study was started without `shared`.
        MachineError: the folder cannot be created.
    """
    if shared is None:
        return folder.resolve()
    first = folder / _SHARED_FOLDERS[0]
    if first.is_symlink():
        return first.resolve().parent
    place = Path(shared).expanduser().resolve() / f"{folder.name}-{uuid.uuid4().hex[:8]}"
    if existing := [name for name in (*_SHARED_FOLDERS, _LOG) if (folder / name).exists()]:
        raise UserError(
            f"executor.shared: {folder / existing[0]} exists already, because the study was "
            "started without a shared folder; remove executor.shared, or use another --out"
        )
    if blocking := blocking_file(place):
        raise UserError(f"executor.shared: {blocking} is a file, not a folder")
    try:
        for name in _SHARED_FOLDERS:
            (place / name).mkdir(parents=True)
            (folder / name).symlink_to(place / name)
        (folder / _LOG).symlink_to(place / _LOG)
    except OSError as error:
        raise MachineError(f"executor.shared: {place}: {error.strerror}") from error
    return place
