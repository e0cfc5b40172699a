"""The image files of a folder by split and class, and what is left out of them."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from partialnas.runs.datasets.image_files import EARLIER_SUFFIXES, SUFFIXES
from partialnas.runs.datasets.registry import similar_folders
from partialnas.space.errors import UserError, printable
from partialnas.space.validation import join_words

_SPLIT_OF = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Split by the name of its folder, in any letter case."""

_SYSTEM_NAMES = frozenset(
    ("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found")
)
_OUTSIDE = "files outside of the class folders"
_LITTER = "hidden, system and backup files and folders"


class Listing(NamedTuple):
    """The images of one split in the order of their names, with the positions of their classes."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class FolderListing:
    """The images of a folder.

    Attributes:
        splits: images by split: `train`, and those of `val` and `test` that the folder has.
        left_out: files and folders that are not read, by reason, relative to the folder.
        reader_changes: why the first version of the reader took other files; empty if it took the
            same.
    """

    splits: dict[str, Listing]
    left_out: dict[str, list[str]]
    reader_changes: set[str]


def scan_folder(path: Path) -> FolderListing:
    """Return the images under `path`; without `train/`, all of them are `train`.

    Links to folders are followed.

    Raises:
        UserError: The folder is missing, has fewer than two classes or a class without images, the
            classes of its splits differ, its splits are ambiguous or lack `train/`, or a link
            leads nowhere.
    """
    if not path.is_dir():
        near = [printable(folder) for folder in similar_folders(path)]
        hint = f"did you mean {join_words(near, 'or')}? E" if near else "e"
        raise UserError(
            f"task.data: there is no folder {printable(path)}; {hint}xpected one folder per class, "
            "or train/ (and val/, test/) with one folder per class in each"
        )
    walk = _Walk(path)
    folders = _split_folders(walk)
    listings = {name: walk.listing(folder) for name, folder in folders.items()}
    for name, listing in listings.items():
        if different := set(listing.classes) ^ set(listings["train"].classes):
            raise UserError(
                f"task.data: {printable(folders[name])} and {printable(folders['train'])} differ "
                f"in their classes ({', '.join(map(printable, sorted(different)))}): each split "
                "needs a folder for every class"
            )
    return FolderListing(listings, dict(walk.left_out), walk.reader_changes)


def _split_folders(walk: "_Walk") -> dict[str, Path]:
    """Return the folder of each split; the whole folder is `train` if it holds classes.

    Only a folder with class folders is the training split: `train` with images is a class, of
    vehicles for example. So is `Train` beside other classes, unless another split has its classes.
    """
    named: defaultdict[str, list[Path]] = defaultdict(list)
    others: list[Path] = []
    for folder in walk.folders(walk.root):
        split = _SPLIT_OF.get(folder.name.casefold())
        (named[split] if split else others).append(folder)
    inside = {f: _folder_names(f) for folders in named.values() for f in folders}
    held_out = {name for folder in (*named["val"], *named["test"]) for name in inside[folder]}
    trains = [folder for folder in named["train"] if inside[folder]]
    if any(f.name == "train" or not others or inside[f] & held_out for f in trains):
        return _chosen_splits(named, others, walk)
    if inside and not others:
        names = " and ".join(printable(folder.name) for folder in sorted(inside))
        raise UserError(
            f"task.data: {printable(walk.root)} holds only {names}, which are names of splits; "
            "expected train/ (and val/, test/) with one folder per class in each, or one folder "
            "per class"
        )
    if held_out & {folder.name for folder in others}:
        raise UserError(
            f"task.data: {printable(walk.root)} holds class folders beside a split with the same "
            "classes; move the class folders into train/"
        )
    return {"train": walk.root}


def _chosen_splits(
    named: dict[str, list[Path]], others: list[Path], walk: "_Walk"
) -> dict[str, Path]:
    for split, folders in named.items():
        if len(folders) > 1:
            names = " and ".join(printable(folder.name) for folder in sorted(folders))
            raise UserError(
                f"task.data: {printable(walk.root)} holds {names}, which could all be the split "
                f"{split!r}; keep one of them"
            )
    chosen = {split: named[split][0] for split in ("train", "val", "test") if named[split]}
    for split, folder in chosen.items():
        if folder.name != split:
            walk.reader_changes.add(f"{printable(folder.name)}/ is the split {split!r}")
    for folder in others:
        walk.leave_out("folders beside the splits", folder)
    return chosen


@dataclass
class _Walk:
    """A walk through a folder that notes what it leaves out."""

    root: Path
    left_out: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    reader_changes: set[str] = field(default_factory=set)
    _folders: dict[Path, list[Path]] = field(default_factory=dict)

    def leave_out(self, reason: str, path: Path) -> None:
        """Note that a file or folder is not read."""
        self.left_out[reason].append(printable(path.relative_to(self.root)))

    def folders(self, path: Path) -> list[Path]:
        """Return the folders in the root or a split by name; files are left out.

        Raises:
            UserError: A link leads nowhere: it may have been a class.
        """
        if path in self._folders:
            return self._folders[path]
        result = self._folders[path] = []
        for entry in self._entries(path):
            if entry.is_dir():
                result.append(Path(entry.path))
            elif _is_dangling(entry):
                raise _dangling(entry)
            else:
                self.leave_out(_OUTSIDE, Path(entry.path))
        result.sort()
        return result

    def listing(self, path: Path) -> Listing:
        """Return the images of a split.

        Raises:
            UserError: It has fewer than two classes or a class without images, or a link leads
                nowhere.
        """
        folders = self.folders(path)
        if len(folders) < 2:
            raise UserError(
                f"task.data: {printable(path)} holds {len(folders)} class folder(s); at least 2 "
                "are needed, each with the images of one class"
            )
        files: list[Path] = []
        labels: list[int] = []
        above = frozenset(_identity(folder.stat()) for folder in (self.root, path))
        for number, folder in enumerate(folders):
            images = sorted(self._images(folder, above, linked=False))
            if not images:
                raise UserError(
                    f"task.data: {printable(folder)} holds no images, but each folder in "
                    f"{printable(path)} is a class; name another folder, or add images to this "
                    "class or remove it"
                )
            files += images
            labels += [number] * len(images)
        return Listing(tuple(f.name for f in folders), tuple(files), tuple(labels))

    def _images(
        self, folder: Path, above: frozenset[tuple[int, int]], *, linked: bool
    ) -> Iterator[Path]:
        """Yield the images below a folder.

        Args:
            folder: the folder.
            above: device and number of the folders that contain it; a link to them is a loop.
            linked: whether the folder lies behind a link below its class.
        """
        above |= {_identity(folder.stat())}
        for entry in self._entries(folder):
            path, suffix = Path(entry.path), _suffix(entry.name)
            if entry.is_dir():
                if _identity(entry.stat()) in above:
                    self.leave_out("links to a folder that contains them", path)
                else:
                    yield from self._images(path, above, linked=linked or entry.is_symlink())
            elif suffix not in SUFFIXES:
                self.leave_out("files without the suffix of an image", path)
            elif _is_dangling(entry):
                raise _dangling(entry)
            elif not entry.is_file():
                self.leave_out("not regular files, such as pipes", path)
            else:
                if linked:
                    self.reader_changes.add("links to folders are followed")
                if suffix not in EARLIER_SUFFIXES:
                    self.reader_changes.add(f"{suffix} files are read")
                yield path

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """Yield what a folder holds, except for hidden, system and backup files and folders."""
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not _is_litter(entry.name):
                    yield entry
                    continue
                path = Path(entry.path)
                self.leave_out(_LITTER, path)
                inside = path.rglob("*") if entry.is_dir() else [path]
                if any(file.suffix.lower() in EARLIER_SUFFIXES for file in inside):
                    self.reader_changes.add(f"{_LITTER} are left out")


def _folder_names(path: Path) -> set[str]:
    with os.scandir(path) as entries:
        return {e.name for e in entries if e.is_dir() and not _is_litter(e.name)}


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.endswith("~") or name.casefold() in _SYSTEM_NAMES


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _is_dangling(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()


def _dangling(entry: os.DirEntry[str]) -> UserError:
    target = printable(Path(entry.path).readlink())
    return UserError(
        f"task.data: the link {printable(entry.path)} leads to {target}, which does not exist; "
        "mend or remove it"
    )
