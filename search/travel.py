"""Code that travels to the workers of a cluster, where nothing of ours needs to be installed."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import partialnas


def modules_beside(folder: Path) -> tuple[Path, ...]:
    """The Python modules and packages in the folder of a study: what its trial function needs."""
    found = (entry for entry in sorted(folder.resolve().iterdir()) if _is_module(entry))
    return tuple(entry for entry in found if entry.stem != partialnas.__name__)


def staged(modules: Iterable[Path], folder: Path) -> list[Path]:
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
