"""Code that travels to the workers of a cluster, where nothing of ours needs to be installed."""

import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

import partialnas
from partialnas.runs.system.files import blocking_file
from partialnas.space.errors import MachineError, UserError


def user_modules(folder: Path) -> tuple[Path, ...]:
    """The Python modules and packages in the folder of a study: what its trial function needs."""
    found = (entry for entry in sorted(folder.resolve().iterdir()) if _is_module(entry))
    return tuple(entry for entry in found if entry.stem != partialnas.__name__)


def copy_modules(modules: Iterable[Path], folder: Path) -> list[Path]:
    """Copies of this package and of further modules, as Ray takes them: no links, nothing else."""
    (package,) = partialnas.__path__
    return [_copied(Path(package), folder), *(_copied(module, folder) for module in modules)]


def _is_module(entry: Path) -> bool:
    return entry.suffix == ".py" or (entry / "__init__.py").is_file()


def _copied(module: Path, folder: Path) -> Path:
    place = folder / module.name
    if module.is_file():
        return Path(shutil.copy(module, place))
    return shutil.copytree(module, place, ignore=shutil.ignore_patterns("__pycache__", ".*"))


_SHARED = ("checkpoints", "weights")
_LOG = "workers.log"


def shared_folder(folder: Path, shared: str | None) -> Path:
    """Where workers write checkpoints, weights and their log; links in `folder` lead there.

    Args:
        folder: of the study.
        shared: a folder that all machines mount, in which the study gets one of its own; without
            it workers write into `folder`.

    Raises:
        UserError: the study has begun without `shared`.
        MachineError: the folder cannot be made.
    """
    if shared is None:
        return folder.resolve()
    first = folder / _SHARED[0]
    if first.is_symlink():
        return first.resolve().parent
    place = Path(shared).expanduser().resolve() / f"{folder.name}-{uuid.uuid4().hex[:8]}"
    if own := [name for name in (*_SHARED, _LOG) if (folder / name).exists()]:
        raise UserError(
            f"executor.shared: {folder / own[0]} is there already: the study has begun without a "
            "shared folder; leave executor.shared out, or use another --out"
        )
    if blocking := blocking_file(place):
        raise UserError(f"executor.shared: {blocking} is a file, not a folder")
    try:
        for name in _SHARED:
            (place / name).mkdir(parents=True)
            (folder / name).symlink_to(place / name)
        (folder / _LOG).symlink_to(place / _LOG)
    except OSError as error:
        raise MachineError(f"executor.shared: {place}: {error.strerror}") from error
    return place
