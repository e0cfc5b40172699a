"""Image folders in the layout of torchvision: one folder per class with its images below it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import compress
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partialnas.runs.datasets import carving
from partialnas.runs.datasets.folder_listing import FolderListing, Listing, scan_folder
from partialnas.runs.datasets.image_files import ImageHeader, decode_images, read_header
from partialnas.runs.datasets.memory import check_size
from partialnas.runs.datasets.registry import DataSetFacts
from partialnas.runs.datasets.task import Task, check_content
from partialnas.space.errors import printable
from partialnas.space.values import digest

_EXAMPLES = 3  # listed for each reason

_CARVED = {"test": carving.TEST_SHARE, "val": carving.VAL_SHARE}
"""Share of the training images that makes a missing split, in the order of carving."""

READER_VERSION = 2
"""Version of the reader, part of the content of folders that the first version read differently."""


def folder_facts(path: Path) -> DataSetFacts:
    """Return the facts of an image folder.

    The channels are those of all images: 1 if all are gray, else 3. The resolution is that of the
    first image of each class of the training split.

    Raises:
        UserError: See `scan_folder` and `read_header`.
    """
    return _facts(path, scan_folder(path))


def load_folder(task: Task) -> dict[str, carving.LabeledImages]:
    """Load the splits of an image folder; missing ones are carved from the training images.

    Raises:
        UserError: An image cannot be read, the images take too much memory, or they are not those
            of the task.
    """
    folder = scan_folder(task.path)
    splits = _carve_missing(folder.splits)
    files = [file for paths, _ in splits.values() for file in paths]
    check_size(task, len(files))
    images = decode_images(files, len(files), task.resolution, task.channels)
    check_content(task, _facts(task.path, folder))
    parts, start = {}, 0
    for name, (paths, labels) in splits.items():
        parts[name] = carving.LabeledImages(images[start : start + len(paths)], labels)
        start += len(paths)
    return parts


def list_images(path: Path) -> carving.ListedImages:
    """Return the images of a folder by split, the carved ones included, from their headers.

    Raises:
        UserError: See `scan_folder` and `read_header`.
    """
    folder = scan_folder(path)
    splits = _carve_missing(folder.splits)
    summary = _summarize(path, _files(folder.splits), _firsts(folder.splits["train"]))
    return carving.ListedImages(
        {name: files for name, (files, _) in splits.items()},
        {name: labels for name, (_, labels) in splits.items()},
        summary.modes,
        summary.sizes,
    )


_Split = tuple[tuple[Path, ...], NDArray[np.int64]]
"""Image files of a split and their labels."""


def _carve_missing(listings: dict[str, Listing]) -> dict[str, _Split]:
    """Return the splits `train`, `val` and `test`; missing ones are carved from `train`."""
    splits: dict[str, _Split] = {
        name: (files, np.asarray(labels, dtype=np.int64))
        for name, (_, files, labels) in listings.items()
    }
    count = len(splits["train"][0])
    for name, share in _CARVED.items():
        if name not in splits:
            files, labels = splits["train"]
            chosen = carving.choose(labels, round(share * count))
            for part, mask in ((name, chosen), ("train", ~chosen)):
                splits[part] = (tuple(compress(files, mask)), labels[mask])
    return {name: splits[name] for name in carving.SPLITS}


def list_folder(path: Path) -> dict[str, Listing]:
    """Return the images under `path` by split; see `scan_folder`."""
    return scan_folder(path).splits


def fingerprint(path: Path, listings: Iterable[Listing]) -> str:
    """Return a digest of the names and sizes of all images, independent of the folder's path."""
    files = [file for listing in listings for file in listing.files]
    return digest([[_encodable(file.relative_to(path)), file.stat().st_size] for file in files])


def _encodable(path: Path) -> str:
    """Return a path as text that UTF-8 can encode; a name in UTF-8 is not changed."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _files(listings: dict[str, Listing]) -> tuple[Path, ...]:
    return tuple(file for listing in listings.values() for file in listing.files)


def _firsts(listing: Listing) -> tuple[Path, ...]:
    """Return the first image of each class."""
    return tuple(listing.files[listing.labels.index(n)] for n in range(len(listing.classes)))


class _ImageSummary(NamedTuple):
    """What the headers of all images tell.

    Attributes:
        resolution: side in pixels, or None if the first images of the classes are no squares of
            one size.
        channels: 1 or 3.
        notes: what is converted, one line each.
        reader_changes: what the first version of the reader converted differently.
        modes: number of images of each mode.
        sizes: number of images of each size.
    """

    resolution: int | None
    channels: int
    notes: tuple[str, ...]
    reader_changes: frozenset[str]
    modes: Counter[str]
    sizes: Counter[tuple[int, int]]


def _facts(path: Path, folder: FolderListing) -> DataSetFacts:
    listings, classes = folder.splits, folder.splits["train"].classes
    images = _summarize(path, _files(listings), _firsts(listings["train"]))
    changes = tuple(sorted(folder.reader_changes | images.reader_changes))
    content = fingerprint(path, listings.values())
    return DataSetFacts(
        images.resolution,
        images.channels,
        len(classes),
        f"v{READER_VERSION}-{content}" if changes else content,
        notes=(
            _listed("classes", classes),
            *_carving_note(listings),
            *(_listed(f"left out, {why}", names) for why, names in folder.left_out.items()),
            *images.notes,
        ),
        reader_changes=changes,
        images=sum(len(listing.files) for listing in listings.values()),
        class_names=classes,
    )


def _carving_note(listings: dict[str, Listing]) -> Iterator[str]:
    """Yield which splits the folder lacks, and their shares of its training images."""
    missing = {name: share for name, share in _CARVED.items() if name not in listings}
    if missing:
        shares = (f"{100 * share:g} % for {name}" for name, share in missing.items())
        yield f"carved from the training images: {' and '.join(shares)}"


def _summarize(path: Path, files: Sequence[Path], firsts: Sequence[Path]) -> _ImageSummary:
    """Return the summary of all images; their headers are read again only if a file changes."""
    stamps = ((file, file.stat()) for file in files)
    state = digest([[_encodable(file), s.st_size, s.st_mtime_ns] for file, s in stamps])
    return _cached_summary(state, path, tuple(files), tuple(firsts))


@lru_cache(maxsize=8)
def _cached_summary(
    _state: str, path: Path, files: tuple[Path, ...], firsts: tuple[Path, ...]
) -> _ImageSummary:
    headers = {file: read_header(file) for file in files}
    sizes = Counter(headers[file].size for file in firsts)
    (width, height), *others = sizes
    resolution = width if width == height and not others else None
    first_modes = {headers[file].mode for file in firsts}
    channels = 1 if all(header.gray for header in headers.values()) else 3
    changes = set()
    notes = []

    def note(text: str, chosen: Callable[[ImageHeader], bool]) -> bool:
        names = [str(file.relative_to(path)) for file, h in headers.items() if chosen(h)]
        if names:
            notes.append(_listed(text, names))
        return bool(names)

    if note("16-bit images, scaled to 8 bits", lambda header: header.wide):
        changes.add("16-bit images are scaled instead of clipped")
    if note("turned upright by their EXIF orientation", lambda header: header.turned):
        changes.add("EXIF orientation is applied")
    if channels != (1 if first_modes <= {"1", "L"} else 3):
        changes.add("channels are those of all images")
    note("with several frames, of which the first is read", lambda header: header.frames)
    if resolution is not None:
        note(
            f"not {resolution} x {resolution} pixels, so cropped to squares and resized",
            lambda header: header.size != (resolution, resolution),
        )
    modes, all_sizes = (Counter(map(attrgetter(key), headers.values())) for key in ("mode", "size"))
    return _ImageSummary(resolution, channels, tuple(notes), frozenset(changes), modes, all_sizes)


def _listed(text: str, names: Sequence[str]) -> str:
    """Return a note with a number and some examples."""
    more = ", ..." if len(names) > _EXAMPLES else ""
    return f"{text}: {len(names)} ({', '.join(map(printable, names[:_EXAMPLES]))}{more})"
