"""Data sets: an open table of their facts and readers.

The table takes neither torch nor the readers; a reader is imported when it is first used.
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

from partialnas.space.errors import UserError
from partialnas.space.validation import join_words, nearest_choices


class DataSetFacts(NamedTuple):
    """Properties of a data set that are known without loading it.

    Attributes:
        resolution: side of the square images in pixels, or None if the images differ in size.
        channels: 1 (gray) or 3 (RGB).
        classes: number of classes.
        content: digest of the content, for data sets that differ from user to user.
        notes: what else `partialnas check` shows, one line each.
        reader_changes: why an earlier version of the reader returned other images of the same
            files, one phrase each; part of error messages only.
        images: number of images of all splits, or None if it is unknown before they are loaded;
            the memory that they need is checked with it.
        class_names: names of the classes in the order of their labels; empty if they are numbers.
    """

    resolution: int | None
    channels: int
    classes: int
    content: str = ""
    notes: tuple[str, ...] = ()
    reader_changes: tuple[str, ...] = ()
    images: int | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """A data set that a task can name.

    Attributes:
        facts: facts of the data set, a function that returns them for its path, or the import path
            `package.module:function` of that function. It must not import torch.
        load: function of a `Task` that returns `LabeledImages` for `train`, `val` and `test`, or
            its import path.
        on_disk: whether the user states where it is on disk: `NAME:PATH`.
        list_images: import path of a function that returns the `ListedImages` at a path, if
            `partialnas data` can describe them without decoding any; else they are loaded.
    """

    facts: DataSetFacts | Callable[[Path], DataSetFacts] | str
    load: Callable[..., Any] | str
    on_disk: bool = False
    list_images: str = ""

    def find_facts(self, path: Path) -> DataSetFacts:
        """Return the facts of the data set at a path."""
        facts = resolve_name(self.facts) if isinstance(self.facts, str) else self.facts
        result: DataSetFacts = facts(path) if callable(facts) else facts
        return result

    @property
    def loader(self) -> Callable[..., Any]:
        """The function that loads the data set."""
        return resolve_name(self.load) if isinstance(self.load, str) else self.load


_HERE = "partialnas.runs.datasets"

DATA_SETS: dict[str, DataSet] = {
    "mnist5k": DataSet(DataSetFacts(28, 1, 10, images=5000), f"{_HERE}.bundled:load_mnist5k"),
    "digits": DataSet(DataSetFacts(8, 1, 10, images=1797), f"{_HERE}.bundled:load_digits"),
    "cifar10": DataSet(f"{_HERE}.cifar:cifar10_facts", f"{_HERE}.cifar:load_cifar", on_disk=True),
    "cifar100": DataSet(f"{_HERE}.cifar:cifar100_facts", f"{_HERE}.cifar:load_cifar", on_disk=True),
    "folder": DataSet(
        f"{_HERE}.image_folder:folder_facts",
        f"{_HERE}.image_folder:load_folder",
        on_disk=True,
        list_images=f"{_HERE}.image_folder:list_images",
    ),
}
"""Data sets by name, with those added by `register_dataset`."""


def register_dataset(
    name: str,
    *,
    facts: DataSetFacts | Callable[[Path], DataSetFacts] | str,
    load: Callable[..., Any] | str,
    on_disk: bool = False,
) -> None:
    """Add a data set to the table; see `DataSet` for the arguments.

    Every process that reads its tasks must register it first.

    Raises:
        UserError: The name is taken or not a lowercase identifier.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise UserError(f"data set {name!r}: expected a lowercase name such as 'svhn'")
    if name in DATA_SETS:
        raise UserError(f"data set {name!r} already exists: choose another name")
    DATA_SETS[name] = DataSet(facts, load, on_disk)


def find_dataset(data: str) -> DataSet:
    """Return the data set that `NAME` or `NAME:PATH` names.

    Raises:
        UserError: There is no such data set, a path is missing, or a path is given for a data set
            without one.
    """
    name, colon, path = data.partition(":")
    dataset = DATA_SETS.get(name)
    forms = {key: f"{key}:PATH" if d.on_disk else key for key, d in DATA_SETS.items()}
    if dataset is None:
        raise UserError(f"task.data: {_explain_unknown(data, forms)}")
    if not bool(colon) == bool(path) == dataset.on_disk:
        raise UserError(f"task.data: expected {forms[name]}, got {data!r}")
    return dataset


_MOST_NEIGHBORS = 1000


def similar_folders(path: Path) -> list[Path]:
    """Return the folders beside a path whose names resemble its own, the nearest first."""
    names: list[str] = []
    with suppress(OSError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in islice(entries, _MOST_NEIGHBORS) if entry.is_dir()]
    return [path.parent / name for name in nearest_choices(path.name, names)]


def _explain_unknown(data: str, forms: Mapping[str, str]) -> str:
    """Return that a text is no data set, and no folder, with names and folders that resemble it.

    A text with a slash is a path.
    """
    path = Path(data).expanduser()
    is_path = os.sep in data
    if data and path.is_dir():
        return f"there is no data set {data!r}; for the images of that folder, write folder:{data}"
    near = [] if is_path else [forms[key] for key in nearest_choices(data.split(":")[0], forms)]
    near += [f"folder:{folder}" for folder in similar_folders(path)]
    missing = "neither a data set nor a folder"
    if is_path or ":" in data or not data:
        missing = "no folder" if is_path else "no data set"
    if near:
        return f"there is {missing} {data!r}; did you mean {join_words(near, 'or')}?"
    existing = "name an existing folder, or " * is_path
    return f"there is {missing} {data!r}; {existing}choose {join_words([*forms.values()], 'or')}"
