"""Image files of any mode as gray or RGB bytes: headers, orientation, 16-bit levels, errors."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from partialnas.space.errors import UserError, printable

EARLIER_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
)
"""Suffixes, in any letter case, that the first version of the reader took; torchvision's."""

SUFFIXES = EARLIER_SUFFIXES | {
    *(".apng", ".avif", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".pbm", ".pcx", ".pnm"),
    *(".qoi", ".tga"),
}
"""Suffixes of image files, in any letter case."""

_BYTE_GRAY = ("1", "L")
_WIDE_GRAY = ("I;16", "I;16L", "I;16B", "I;16N")
_COLOR = ("LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation; 1 is upright."""

_LEVEL_STEP = 257  # between 16-bit levels of neighboring 8-bit levels: 65535 / 255
_LEAST_WIDE_MAX = 4096  # a whole set of 16-bit images below holds 12 bits or fewer


class ImageHeader(NamedTuple):
    """What a file's header states, without its pixels.

    Attributes:
        mode: mode of Pillow, such as `RGB`.
        size: width and height in pixels once the image is upright.
        wide: whether it has 16 bits per pixel, which are scaled to 8.
        turned: whether its EXIF orientation is not upright.
        frames: whether it has several frames, of which the first is read.
    """

    mode: str
    size: tuple[int, int]
    wide: bool
    turned: bool
    frames: bool

    @property
    def gray(self) -> bool:
        """Whether one channel holds all of the image."""
        return self.wide or self.mode in _BYTE_GRAY


def read_header(file: Path) -> ImageHeader:
    """Return the header of an image file.

    Raises:
        UserError: The file is no image, or its mode cannot be converted to 8 bits per channel.
    """
    with _reading(file), Image.open(file) as image:
        wide = _is_wide(image, file)
        turned = _orientation(image) in _TRANSPOSITIONS
        width, height = image.size
        if turned and _orientation(image) > 4:
            width, height = height, width
        frames = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
        return ImageHeader(image.mode, (width, height), wide, turned, frames)


def decode_images(
    files: Iterable[Path],
    count: int,
    resolution: int,
    channels: int,
    *,
    check_levels: bool = True,
) -> NDArray[np.uint8]:
    """Return the images as one array, N x channels x resolution x resolution.

    Each image is turned upright, center-cropped to a square, then resized with antialiasing.
    16-bit levels are scaled to 8 bits. Transparency is ignored, as torchvision and timm do.

    Args:
        files: image files.
        count: number of files.
        resolution: side of the images in pixels.
        channels: 1 or 3.
        check_levels: whether the files are all of a data set, whose 16-bit images must not be dark.

    Raises:
        UserError: A file is not an image, its mode cannot be converted, or the levels of the
            16-bit images are those of fewer bits.
    """
    pixels = np.empty((count, channels, resolution, resolution), dtype=np.uint8)
    side = (resolution, resolution)
    widest, brightest = None, 0
    for number, file in enumerate(files):
        with _reading(file), Image.open(file) as image:
            if _is_wide(image, file):
                levels = np.asarray(image, dtype=np.int32)
                brightest, widest = max(brightest, int(levels.max())), file
                scaled = (levels + _LEVEL_STEP // 2) // _LEVEL_STEP
                plain = Image.fromarray(scaled.astype(np.uint8))
            else:
                plain = image
            plain = plain.convert("L" if channels == 1 else "RGB")
            if (transposition := _TRANSPOSITIONS.get(_orientation(image))) is not None:
                plain = plain.transpose(transposition)
        square = ImageOps.fit(plain, side, Image.Resampling.BILINEAR)
        pixels[number] = np.asarray(square).reshape(*side, channels).transpose(2, 0, 1)
    if check_levels and widest is not None and brightest < _LEAST_WIDE_MAX:
        raise UserError(
            f"task.data: the brightest pixel of all 16-bit images, such as {printable(widest)}, is "
            f"{brightest} of 65535; they hold fewer than 16 bits and would be nearly black: scale "
            "them to 0-65535, or save them with 8 bits"
        )
    return pixels


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raise errors of Pillow as `UserError` that name the file; ignore its warnings."""
    try:
        with warnings.catch_warnings():
            # large images, palettes with transparency, damaged metadata: none changes the pixels
            warnings.simplefilter("ignore")
            yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a broken file can raise nearly anything
        reason = printable(str(error))
        raise UserError(
            f"task.data: cannot read the image {printable(file)} ({reason}); replace or remove it"
        ) from None


def _is_wide(image: Image.Image, file: Path) -> bool:
    """Return whether an image has 16-bit levels.

    Raises:
        UserError: Its mode cannot be converted to 8 bits per channel.
    """
    tags = getattr(image, "tag_v2", {})
    twelve_bits, inverted = tags.get(258) == (12,), tags.get(262) == 0
    if image.mode in _WIDE_GRAY and not twelve_bits and not inverted:
        return True
    # PNG and PNM have at most 16 bits; other formats use mode I for signed and 32-bit numbers.
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return True
    if image.mode in _BYTE_GRAY or image.mode in _COLOR:
        return False
    raise UserError(
        f"task.data: the image {printable(file)} has mode {image.mode} of Pillow"
        f"{' with 12 bits' * twelve_bits}{' with inverted levels' * inverted}, whose range of "
        "levels is unknown; save it as an 8-bit or 16-bit gray or RGB image"
    )


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that Pillow has not applied; 1 is upright."""
    if image.format == "TIFF":  # Pillow applies it itself
        return 1
    if image.format == "PNG" and "exif" not in image.info:  # getexif would decode all pixels
        return 1
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))
