"""Fixed, stratified splits of labeled images."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partialnas.runs.datasets.task import Task
from partialnas.space.errors import UserError

MAX_DATASET_BYTES = 4 * 2**30
"""Largest size of the decoded images of a data set in bytes; they all stay in memory."""

SPLITS = ("train", "val", "test")
VAL_SHARE, TEST_SHARE = 0.1, 0.2

_SEED = 20_250_203  # of the splits only, independent of the seeds of trials


class LabeledImages(NamedTuple):
    """Images N x C x H x W and their labels."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]


def carve(images: LabeledImages, count: int) -> tuple[LabeledImages, LabeledImages]:
    """Split `count` images off, stratified by class; return the other images and these.

    The images are shuffled and sorted by class, then every n-th is taken. The numbers of
    `RandomState` never change, so the splits are the same under every version of numpy.
    """
    by_class = stratified_order(images.y)
    taken = np.zeros(len(images.y), dtype=bool)
    taken[by_class[(2 * np.arange(count) + 1) * len(images.y) // (2 * max(count, 1))]] = True
    rest, part = (LabeledImages(images.x[mask], images.y[mask]) for mask in (~taken, taken))
    return rest, part


def carve_all(images: LabeledImages, val: int, test: int) -> dict[str, LabeledImages]:
    """Split images into `test` test images, `val` validation images and a training split."""
    rest, test_split = carve(images, test)
    train_split, val_split = carve(rest, val)
    return {"train": train_split, "val": val_split, "test": test_split}


def stratified_order(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return shuffled positions of the labels, sorted by class."""
    order = np.random.RandomState(_SEED).permutation(len(labels))
    return order[np.argsort(labels[order], kind="stable")]


def check_memory(task: Task, count: int) -> None:
    """Check that `count` decoded images of a task fit in memory.

    Raises:
        UserError: They take more than `MAX_DATASET_BYTES`.
    """
    needed = count * task.channels * task.resolution**2
    if needed > MAX_DATASET_BYTES:
        raise UserError(
            f"task.data: {count} images at {task.resolution} pixels take {needed / 2**30:.1f} GiB, "
            f"but all images are kept in memory and at most {MAX_DATASET_BYTES / 2**30:g} GiB are "
            "allowed; choose a smaller task.resolution or fewer images"
        )
