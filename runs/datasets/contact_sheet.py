"""A contact sheet: a few images of each class of a data set, as a network sees them."""

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from partialnas.runs.datasets.overview import DataOverview, Images
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.space.errors import UserError, printable

IMAGES_PER_CLASS = 8
MAX_CLASSES = 50

_LEAST_SIDE, _GREATEST_SIDE = 48, 256
_GAP = 4
_MARGIN = 12
_TEXT_SIZE = 13
_LONGEST_LABEL = 28
_PAPER, _INK, _FRAME = (255, 255, 255), (32, 32, 32), (208, 208, 208)


class _Grid(NamedTuple):
    """Sizes of a sheet in pixels: side of a cell, width of the labels, height of the head."""

    cell: int
    labels: int
    head: int

    def place(self, row: int, column: int) -> tuple[int, int]:
        """Return the left and upper edge of a cell."""
        step = self.cell + _GAP
        return _MARGIN + self.labels + column * step, self.head + row * step


def contact_sheet(overview: DataOverview, per_class: int = IMAGES_PER_CLASS) -> Image.Image:
    """Return a sheet with a row for each class: its name, its number of images, its first images.

    The training images are shown as the network sees them: turned upright, cropped to squares and
    resized. Small images are enlarged by a whole number, without smoothing; images of more than
    256 pixels are reduced to that. Of more than 50 classes, the first 50 are shown. The same data
    give the same pixels.

    Raises:
        UserError: An image cannot be decoded.
    """
    names = overview.class_names[:MAX_CLASSES]
    rows = overview.samples(per_class, len(names))
    counts = overview.class_counts()[:, 0]
    font = _font()
    labels = [_shortened(printable(name)) for name in names]
    labels = [f"{label} ({count:,})" for label, count in zip(labels, counts, strict=False)]
    grid = _Grid(
        _cell_side(overview.task.resolution),
        _GAP * 3 + max(int(font.getlength(label)) for label in labels),
        _MARGIN + 2 * _TEXT_SIZE,
    )
    right, bottom = grid.place(len(names), max(map(len, rows)))
    title, further = _title(overview), len(overview.class_names) - len(names)
    width = max(right, _MARGIN + int(font.getlength(title))) + _MARGIN
    height = bottom + _MARGIN + (2 * _TEXT_SIZE if further else 0)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title, fill=_INK, font=font, anchor="lt")
    for row, (label, images) in enumerate(zip(labels, rows, strict=True)):
        left, top = grid.place(row, 0)
        middle = top + grid.cell // 2
        pen.text((_MARGIN, middle), label, fill=_INK, font=font, anchor="lm")
        for column in range(len(images)):
            left, top = grid.place(row, column)
            sheet.paste(_thumbnail(images[column], grid.cell), (left, top))
            box = left - 1, top - 1, left + grid.cell, top + grid.cell
            pen.rectangle(box, outline=_FRAME)
    if further:
        text = f"and {further:,} more classes"
        pen.text((_MARGIN, bottom + _GAP), text, fill=_INK, font=font, anchor="lt")
    return sheet


def check_sheet_path(file: Path) -> None:
    """Check that a contact sheet can be written to a path, before its images are read.

    Raises:
        UserError: The file has another suffix, or see `check_output_path`.
        MachineError: The folder is not writable.
    """
    if file.suffix.lower() != ".png":
        raise UserError(f"{file}: a contact sheet is a PNG file; name it {file.stem}.png")
    check_output_path(file)


def write_contact_sheet(overview: DataOverview, file: Path) -> None:
    """Write the contact sheet of a data set as PNG.

    Raises:
        UserError: The file has another suffix, or an image cannot be decoded.
        MachineError: The file cannot be written.
    """
    check_sheet_path(file)
    content = BytesIO()
    contact_sheet(overview).save(content, format="PNG")
    write_file(file, content.getvalue())


def _font() -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which is part of matplotlib, so that it is the same everywhere."""
    spec = find_spec("matplotlib")  # importing it would read the user's matplotlibrc
    assert spec is not None, "matplotlib is a requirement"
    file = Path(spec.origin or "").with_name("mpl-data") / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), _TEXT_SIZE, layout_engine=ImageFont.Layout.BASIC)


def _title(overview: DataOverview) -> str:
    task = overview.task
    side = f"{task.resolution} x {task.resolution}"
    kind = "gray" if task.channels == 1 else "RGB"
    shown = ", shown smaller" if task.resolution > _GREATEST_SIDE else ""
    name = printable(task.path.name) if task.path.name else task.kind
    return f"{name}: first training images of each class, {kind}, {side} pixels{shown}"


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 3]}..."


def _cell_side(resolution: int) -> int:
    """Return the side at which images are shown: a multiple of their own, unless it is large."""
    factor = -(-_LEAST_SIDE // resolution)
    return min(resolution * factor, _GREATEST_SIDE)


def _thumbnail(image: Images, side: int) -> Image.Image:
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    enlarged = picture.width <= side
    resampling = Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR
    return picture.resize((side, side), resampling).convert("RGB")
