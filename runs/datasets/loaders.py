"""The training, validation and test splits of a task as plain arrays."""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from partialnas.runs.datasets.carving import SPLITS, LabeledImages, stratified_order
from partialnas.runs.datasets.memory import check_size
from partialnas.runs.datasets.registry import find_dataset
from partialnas.runs.datasets.task import Task
from partialnas.space.errors import UserError

_CHUNK = 256
"""Images of which statistics are computed at once."""


@dataclass(frozen=True)
class Splits:
    """Images N x C x H x W as bytes, labels, and the training split's mean and deviation.

    Mean and deviation are per channel, of pixels scaled to [0, 1]; they normalize all three splits.
    """

    train_x: NDArray[np.uint8]
    train_y: NDArray[np.int64]
    val_x: NDArray[np.uint8]
    val_y: NDArray[np.int64]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.int64]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def load_splits(task: Task) -> Splits:
    """Load the three splits of a task, the same on every call.

    `mnist5k` has 3500 / 500 / 1000 images, `digits` 1257 / 180 / 360, CIFAR 45000 / 5000 / 10000.
    Splits that an image folder lacks are carved from its training images: 10 % for validation, 20 %
    for test.

    Raises:
        UserError: The data set is missing, corrupt, too small to split or too large for memory, or
            its reader returned anything but labeled images of the task's channels.
    """
    parts = load_parts(task)
    check_size(task, sum(len(part.y) for part in parts.values()))
    train, val, test = (resize(parts[name], task.resolution) for name in SPLITS)
    mean, std = _statistics(train.x)
    return Splits(*train, *val, *test, mean=mean, std=std)


def load_parts(task: Task) -> dict[str, LabeledImages]:
    """Load the images of a task by split, as its reader returns them, before they are resized.

    Raises:
        UserError: See `load_splits`.
    """
    parts: dict[str, LabeledImages] = find_dataset(task.data).loader(task)
    if missing := [name for name in SPLITS if name not in parts]:
        raise UserError(f"task.data: the reader of {task.data} returned no {' and '.join(missing)}")
    for name, part in parts.items():
        _check_images(task, name, part)
        check_labels(task, name, part.y)
    return parts


def subset(splits: Splits, share: Fraction) -> Splits:
    """Return the splits with a share of the training images, at least one of each class.

    A smaller share is part of a larger one. Mean and deviation stay those of all images.
    """
    if share == 1:
        return splits
    y = splits.train_y
    by_class = stratified_order(y)
    _, first, count = np.unique(y[by_class], return_index=True, return_counts=True)
    classes = zip(first, count, strict=True)
    taken = [by_class[start : start + max(round(share * int(n)), 1)] for start, n in classes]
    kept = np.sort(np.concatenate(taken))
    return replace(splits, train_x=splits.train_x[kept], train_y=y[kept])


def resize(part: LabeledImages, resolution: int) -> LabeledImages:
    """Return square images resized to `resolution` pixels, antialiased."""
    if part.x.shape[-1] == resolution:
        return part
    import torch

    size = (resolution, resolution)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(part.x), size=size, mode="bilinear", antialias=True
    )
    return LabeledImages(resized.numpy(), part.y)


def _check_images(task: Task, name: str, part: LabeledImages) -> None:
    """Check what a reader returned: a registered one may return floats or another layout."""
    x, y = np.asarray(part.x), np.asarray(part.y)
    square = x.ndim == 4 and x.shape[1] == task.channels and x.shape[2] == x.shape[3]
    if x.dtype != np.uint8 or not square or y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise UserError(
            f"task.data: the reader of {task.data} returned images of shape {x.shape} and type "
            f"{x.dtype} with labels of shape {y.shape} and type {y.dtype} in its {name} split; "
            f"expected square images N x {task.channels} x H x W of type uint8 (levels 0 to 255), "
            "and N integers"
        )


def check_labels(task: Task, name: str, y: NDArray[np.int64]) -> None:
    """Check that a split has labels of the task's classes, and the training split all of them.

    Raises:
        UserError: Labels are out of range, or classes are missing.
    """
    labels = np.unique(y)
    if len(labels) and (labels[0] < 0 or labels[-1] >= task.classes):
        raise UserError(
            f"task.data: {task.data} has labels from {labels[0]} to {labels[-1]} in its {name} "
            f"split, but the task has {task.classes} classes"
        )
    if len(labels) < (task.classes if name == "train" else 1):
        raise UserError(
            f"task.data: {task.data} has too few images: {len(y)} from {len(labels)} classes "
            f"in its {name} split; add images, or provide the folders train, val and test"
        )


def _statistics(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and deviation per channel, exact from the histogram of the 256 levels."""
    levels = np.arange(256) / 255
    histograms = np.zeros((images.shape[1], 256), dtype=np.int64)
    for first in range(0, len(images), _CHUNK):  # `bincount` needs eight bytes per pixel
        for number, channel in enumerate(images[first : first + _CHUNK].swapaxes(0, 1)):
            histograms[number] += np.bincount(channel.ravel(), minlength=256)
    shares = histograms / (images.size / images.shape[1])
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
    std[std == 0] = 1  # a constant channel becomes 0 when its mean is subtracted
    return mean.astype(np.float32), std.astype(np.float32)
