"""The verb `data`: what would be read of a data set, its splits, and a contact sheet of images."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from partialnas.commands.terminal import (
    make_console,
    plain_table,
    print_files,
    print_lines,
    print_table,
)
from partialnas.runs.datasets.contact_sheet import check_sheet_path, write_contact_sheet
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.loaders import load_splits as read_splits
from partialnas.runs.datasets.memory import MAX_DATASET_BYTES, format_bytes
from partialnas.runs.datasets.overview import DataOverview, data_name, inspect_data, split_sizes
from partialnas.runs.datasets.task import Task, resolve_task
from partialnas.runs.ledger.file import LEDGER_FILE
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.system.files import write_file
from partialnas.search.study.yaml_data import flow_yaml
from partialnas.space.errors import UserError
from partialnas.space.plugins import load_plugins

_MOST_CLASSES = 20
"""Classes that have a row each; further ones share a row."""


def show_data(
    data: str,
    resolution: int | None,
    sheet: Path | None,
    plugins: Sequence[str] = (),
    *,
    listing: Path | None = None,
) -> None:
    """Print what would be read of a data set, and write its contact sheet and list of images.

    Args:
        data: see `inspect_data`.
        resolution: side of the images in pixels; None for that of the data set.
        sheet: PNG file of the contact sheet, if any.
        plugins: modules that register further data sets.
        listing: CSV file of the list of images, if any.

    Raises:
        UserError: The data set cannot be read, or no study could use it as it is.
        MachineError: A file cannot be written.
    """
    if sheet is not None:
        check_sheet_path(sheet)  # before the data are read
    if listing is not None and listing.suffix.lower() != ".csv":
        raise UserError(
            f"{listing}: the list of images is a CSV file; use a name that ends in .csv"
        )
    load_plugins(plugins, Path())
    overview = inspect_data(data, resolution)
    console = make_console()
    print_lines(console, *data_lines(overview))
    table = plain_table("", "class", "training", "validation", "test")
    for name, *counts in _class_rows(overview):
        table.add_row(name, *counts)
    print_table(console, table)
    if sheet is not None:
        write_contact_sheet(overview, sheet)
        print_files(console, [sheet])
    if listing is not None:
        write_file(listing, image_list(overview).encode("utf-8", "surrogateescape"))
        print_files(console, [listing])
    if overview.problems:
        raise UserError("\n".join(overview.problems))


def load_splits(data: str | Path | Task, resolution: int | None = None) -> Splits:
    """Return the images and labels of the three splits, as trainings get them.

    The images have the resolution of the task, before augmentation and normalization. The splits
    are the same at every call, carved ones included.

    Args:
        data: a data set as a study names it (`mnist5k`, `folder:photos`), the path of an image
            folder, the folder of a study's results, or a task.
        resolution: side of the square images in pixels; by default that of the study or data set.

    Returns:
        `train_x`, `train_y`, `val_x`, `val_y`, `test_x` and `test_y`: images N x C x H x W of bytes
        and N labels; `mean` and `std` of the training pixels for each channel, of values in [0, 1].

    Raises:
        UserError: There is no such data set, it cannot be read, a resolution must be stated, or the
            study has several data sets.
    """
    if isinstance(data, Task):
        task = data
    elif (Path(data) / LEDGER_FILE).is_file():
        with Ledger.open(Path(data)) as ledger:
            task, *others = ledger.study.tasks.values()
        if others:
            names = ", ".join(dict.fromkeys(of.data for of in (task, *others)))
            raise UserError(f"{data}: the study has several tasks; name one data set of {names}")
    else:
        task = resolve_task(data_name(data), resolution)
    if resolution is not None:
        task = task.model_copy(update={"resolution": resolution})
    return read_splits(task)


def image_list(overview: DataOverview) -> str:
    """Return the images of all splits as CSV: split, class, and file or position in the split."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["split", "class", "file" if overview.files else "index"])
    for split, labels in overview.labels.items():
        images = map(str, overview.files.get(split) or range(len(labels)))
        rows.writerows(
            (split, overview.class_names[y], i) for y, i in zip(labels, images, strict=True)
        )
    return text.getvalue()


def data_lines(overview: DataOverview) -> Iterator[str]:
    """Yield what would be read of a data set, without the table of its classes."""
    task = overview.task
    side = f"{task.resolution} x {task.resolution}"
    yield f"task: {flow_yaml({'data': task.data, 'resolution': task.resolution})}"
    if overview.resolution_is_missing:
        yield (
            "resolution: a study has to state one, because the images differ in size or are not "
            f"square; {side} is a suggestion"
        )
    yield f"images: {split_sizes({name: len(y) for name, y in overview.labels.items()})}"
    yield f"sizes: {_sizes(overview)}"
    modes = ", ".join(f"{count:,} {mode}" for mode, count in overview.modes.most_common())
    kind = "1 channel (gray)" if task.channels == 1 else "3 channels (RGB)"
    yield f"channels: {kind}" + (f", from images of mode {modes}" if modes else "")
    yield from overview.facts.notes
    yield (
        f"memory: {format_bytes(overview.bytes)} for all images at {side} pixels, of at most "
        f"{format_bytes(MAX_DATASET_BYTES)}"
    )


def _sizes(overview: DataOverview) -> str:
    least, median, greatest = overview.size_quantiles().tolist()
    if least == greatest:
        text = f"all {least[0]} x {least[1]} pixels"
    else:
        width, height = (
            f"{low} to {high} (median {middle})"
            for low, middle, high in zip(least, median, greatest, strict=True)
        )
        text = f"width {width}, height {height} pixels"
    side = overview.task.resolution
    if least == greatest == [side, side]:
        return text
    cropped = "" if all(width == height for width, height in overview.sizes) else "cropped and "
    return f"{text}, {cropped}resized to {side} x {side}"


def _class_rows(overview: DataOverview) -> Iterator[tuple[str, ...]]:
    """Yield the name and the numbers of images of each class, or of the first 20 and the rest."""
    counts, names = overview.class_counts(), overview.class_names
    shown = len(names) if len(names) <= _MOST_CLASSES + 1 else _MOST_CLASSES
    for name, row in zip(names[:shown], counts, strict=False):
        yield name, *(f"{count:,}" for count in row)
    if rest := len(names) - shown:
        yield f"{rest:,} more, each", *map(_range, counts[shown:].T)


def _range(counts: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> str:
    low, high = counts.min(), counts.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
