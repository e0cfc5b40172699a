"""Study files by name: those in the current folder first, then those that the package contains."""

from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest

SUFFIX = ".yaml"


class StudySource(NamedTuple):
    """A study file that a name or path stands for.

    Attributes:
        path: the file.
        is_shipped: whether it is one of partialnas. Its relative paths start from the current
            folder, where the user is, except for a function that lies beside it.
        note: which file was taken, if the name alone does not say it; else empty.
    """

    path: Path
    is_shipped: bool
    note: str = ""


def shipped_studies() -> dict[str, Path]:
    """Return the study files of the package by name, in alphabetical order."""
    folder = Path(str(files("partialnas.search"))) / "studies"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_study(name: str | Path) -> StudySource:
    """Return the study file that a path or a name stands for.

    A file of that name in the current folder, with or without `.yaml`, comes before a study of the
    package.

    Raises:
        UserError: There is neither a file nor a study of the package with that name.
    """
    path, shipped = Path(name), shipped_studies()
    beside = path if path.suffix == SUFFIX else Path(f"{path}{SUFFIX}")
    is_shipped = str(name) in shipped
    file = next(filter(_is_there, (path, beside)), None)
    if file is not None:
        other = f"; {path} of partialnas is another study" if is_shipped else ""
        is_clear = file == path and not is_shipped
        return StudySource(file, False, "" if is_clear else f"study: the file {file}{other}")
    if is_shipped:
        note = f"study: {path} of partialnas; `partialnas studies {path} -o {beside}` copies it"
        return StudySource(shipped[str(name)], True, note)
    if path.exists():
        raise UserError(f"{path} is a folder; expected a study file, or the name of a study")
    choices = [*shipped, *(study.stem for study in sorted(beside.parent.glob(f"*{SUFFIX}")))]
    hint = f"{suggest(path.stem, choices)} (`partialnas studies` lists those of partialnas)"
    raise UserError(f"there is no study {path}: no file {beside}, and none of partialnas; {hint}")


def _is_there(path: Path) -> bool:
    """Return whether a path is a file or a pipe; also if it cannot be read, which is said later."""
    try:
        return path.exists() and not path.is_dir()
    except OSError:
        return True


def shipped_study(name: str) -> Path:
    """Return the study file of the package with this name.

    Raises:
        UserError: There is no such study.
    """
    shipped = shipped_studies()
    if name not in shipped:
        raise UserError(f"partialnas has no study {quote(name)}; {suggest(name, shipped)}")
    return shipped[name]
