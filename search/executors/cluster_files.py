"""Files that cluster nodes share: code sent to the workers, and the shared results folder."""

import shutil
import uuid
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import partialnas
from partialnas.runs.system.files import blocking_file
from partialnas.space.errors import MachineError, UserError

CODE = "code"
"""Folder for this package, in the folder of a run."""

_STUDY_MODULES = "partialnas_study_modules"
"""Folder on a cluster's nodes with the modules of a study; it is not on the module path itself."""


def user_modules(folder: Path) -> tuple[Path, ...]:
    """Return the Python modules and packages in a study's folder, for function and plug-ins."""
    entries = sorted(folder.resolve().iterdir())
    return tuple(e for e in entries if _is_module(e) and e.stem != partialnas.__name__)


def copy_modules(modules: Iterable[Path], folder: Path) -> list[Path]:
    """Copy this package and a study's modules, without links, as Ray needs them.

    Returns:
        What Ray puts first on the module path of workers: this package, and a folder with the
        modules, which therefore cannot stand in for installed ones (see `study_modules`).
    """
    (package,) = partialnas.__path__
    copies = [_copy(Path(package), folder)]
    study = folder / _STUDY_MODULES
    for module in modules:
        study.mkdir(exist_ok=True)
        _copy(module, study)
    return [*copies, study] if study.is_dir() else copies


def study_modules() -> list[str]:
    """Return the folders of modules that `copy_modules` has sent to this worker."""
    spec = find_spec(_STUDY_MODULES)
    return list(spec.submodule_search_locations or ()) if spec else []


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
