"""Image folders laid out as torchvision reads them: one folder a class, files below it."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from partialnas.space.errors import UserError
from partialnas.space.values import digest

_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
_GREY = {"1", "L"}
_BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
SPLITS = ("train", "val", "test")


class Listing(NamedTuple):
    """The images of one split, in the order of their names, with the number of their class."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]


def list_folder(path: Path) -> dict[str, Listing]:
    """The images under `path`, by split; a folder without `train/` is all `train`.

    Raises:
        UserError: nothing there, fewer than two classes, a class without images, or splits that
            have different classes.
    """
    if not path.is_dir():
        raise UserError(
            f"task.data: there is no folder {path}; expected one folder a class, "
            "or train/ (and val/, test/) with one folder a class in each"
        )
    if not (path / "train").is_dir():
        return {"train": _list_split(path)}
    listings = {name: _list_split(path / name) for name in SPLITS if (path / name).is_dir()}
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
        found = sorted(f for f in (path / name).rglob("*") if f.suffix.lower() in _SUFFIXES)
        if not found:
            raise UserError(f"task.data: {path / name} holds no images; add some or remove it")
        files += found
        labels += [number] * len(found)
    return Listing(classes, tuple(files), tuple(labels))


def fingerprint(path: Path, listings: Iterable[Listing]) -> str:
    """Digest of the names and sizes of all images, blind to where the folder lies."""
    files = [file for listing in listings for file in listing.files]
    return digest([[str(file.relative_to(path)), file.stat().st_size] for file in files])


def infer_image_shape(listing: Listing) -> tuple[int | None, int]:
    """Resolution (None where sizes differ) and channels, told by the first image of each class."""
    sizes: set[tuple[int, int]] = set()
    modes: set[str] = set()
    for number in range(len(listing.classes)):
        with _opened(listing.files[listing.labels.index(number)]) as image:
            sizes.add(image.size)
            modes.add(image.mode)
    (width, height), *others = sizes
    resolution = width if width == height and not others else None
    return resolution, 1 if modes <= _GREY else 3


def decode_images(
    files: Iterable[Path], count: int, resolution: int, channels: int
) -> NDArray[np.uint8]:
    """The images as one array, N x channels x resolution x resolution.

    Each is cropped at its centre to a square, then resized with antialiasing.

    Raises:
        UserError: a file that is no image.
    """
    pixels = np.empty((count, channels, resolution, resolution), dtype=np.uint8)
    side = (resolution, resolution)
    for number, file in enumerate(files):
        with _opened(file) as image:
            try:
                plain = image.convert("L" if channels == 1 else "RGB")
            except _BROKEN as error:
                raise _broken(file, error) from None
            square = ImageOps.fit(plain, side, Image.Resampling.BILINEAR)
        pixels[number] = np.asarray(square).reshape(*side, channels).transpose(2, 0, 1)
    return pixels


def _opened(file: Path) -> Image.Image:
    try:
        return Image.open(file)
    except _BROKEN as error:
        raise _broken(file, error) from None


def _broken(file: Path, error: Exception) -> UserError:
    return UserError(f"task.data: cannot read the image {file} ({error}); replace or remove it")
