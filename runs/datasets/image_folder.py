"""Image folders in the layout of torchvision: one folder per class with its images below it."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from partialnas.runs.datasets import carving
from partialnas.runs.datasets.registry import DataSetFacts
from partialnas.runs.datasets.task import Task
from partialnas.space.errors import UserError
from partialnas.space.values import digest

_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
_GRAY_MODES = {"1", "L"}
_READ_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Listing(NamedTuple):
    """The images of one split in the order of their names, with the positions of their classes."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]


def folder_facts(path: Path) -> DataSetFacts:
    """Return the facts of an image folder; see `list_folder` for errors."""
    listings = list_folder(path)
    resolution, channels = infer_image_shape(listings["train"])
    content = fingerprint(path, listings.values())
    return DataSetFacts(resolution, channels, len(listings["train"].classes), content)


def load_folder(task: Task) -> dict[str, carving.LabeledImages]:
    """Load the splits of an image folder; missing ones are carved from the training images.

    Raises:
        UserError: An image cannot be read, or the images take too much memory.
    """
    listings = list_folder(task.path)
    carving.check_memory(task, sum(len(listing.files) for listing in listings.values()))
    parts = {}
    for name, (_, paths, labels) in listings.items():
        images = decode_images(paths, len(paths), task.resolution, task.channels)
        parts[name] = carving.LabeledImages(images, np.asarray(labels, dtype=np.int64))
    count = len(parts["train"].y)
    for name, share in (("test", carving.TEST_SHARE), ("val", carving.VAL_SHARE)):
        if name not in parts:
            parts["train"], parts[name] = carving.carve(parts["train"], round(share * count))
    return parts


def list_folder(path: Path) -> dict[str, Listing]:
    """Return the images under `path` by split; without `train/`, all of them are `train`.

    Raises:
        UserError: The folder is missing, has fewer than two classes or a class without images, or
            the classes of its splits differ.
    """
    if not path.is_dir():
        raise UserError(
            f"task.data: there is no folder {path}; expected one folder per class, "
            "or train/ (and val/, test/) with one folder per class in each"
        )
    if not (path / "train").is_dir():
        return {"train": _list_split(path)}
    listings = {name: _list_split(path / name) for name in carving.SPLITS if (path / name).is_dir()}
    for name, listing in listings.items():
        if different := set(listing.classes) ^ set(listings["train"].classes):
            raise UserError(
                f"task.data: {path / name} and {path / 'train'} differ in their classes "
                f"({', '.join(sorted(different))}): each split needs a folder for every class"
            )
    return listings


def _list_split(path: Path) -> Listing:
    classes = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir()))
    if len(classes) < 2:
        raise UserError(
            f"task.data: {path} holds {len(classes)} class folder(s); at least 2 are needed, "
            "each with the images of one class"
        )
    files: list[Path] = []
    labels: list[int] = []
    for number, name in enumerate(classes):
        images = sorted(f for f in (path / name).rglob("*") if f.suffix.lower() in _SUFFIXES)
        if not images:
            raise UserError(f"task.data: {path / name} holds no images; add some or remove it")
        files += images
        labels += [number] * len(images)
    return Listing(classes, tuple(files), tuple(labels))


def fingerprint(path: Path, listings: Iterable[Listing]) -> str:
    """Return a digest of the names and sizes of all images, independent of the folder's path."""
    files = [file for listing in listings for file in listing.files]
    return digest([[str(file.relative_to(path)), file.stat().st_size] for file in files])


def infer_image_shape(listing: Listing) -> tuple[int | None, int]:
    """Return resolution (None if sizes differ) and channels from the first image of each class."""
    sizes: set[tuple[int, int]] = set()
    modes: set[str] = set()
    for number in range(len(listing.classes)):
        with _open(listing.files[listing.labels.index(number)]) as image:
            sizes.add(image.size)
            modes.add(image.mode)
    (width, height), *others = sizes
    resolution = width if width == height and not others else None
    return resolution, 1 if modes <= _GRAY_MODES else 3


def decode_images(
    files: Iterable[Path], count: int, resolution: int, channels: int
) -> NDArray[np.uint8]:
    """Return the images as one array, N x channels x resolution x resolution.

    Each image is center-cropped to a square, then resized with antialiasing.

    Raises:
        UserError: A file is not an image.
    """
    pixels = np.empty((count, channels, resolution, resolution), dtype=np.uint8)
    side = (resolution, resolution)
    for number, file in enumerate(files):
        with _open(file) as image:
            try:
                plain = image.convert("L" if channels == 1 else "RGB")
            except _READ_ERRORS as error:
                raise _unreadable(file, error) from None
            square = ImageOps.fit(plain, side, Image.Resampling.BILINEAR)
        pixels[number] = np.asarray(square).reshape(*side, channels).transpose(2, 0, 1)
    return pixels


def _open(file: Path) -> Image.Image:
    try:
        return Image.open(file)
    except _READ_ERRORS as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"task.data: cannot read the image {file} ({error}); replace or remove it")
