"""Fixed, stratified splits of labeled images."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
VAL_SHARE, TEST_SHARE = 0.1, 0.2

_SEED = 20_250_203  # of the splits only, independent of the seeds of trials


class LabeledImages(NamedTuple):
    """Images N x C x H x W and their labels."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]


class ListedImages(NamedTuple):
    """The images of a data set before any of them is decoded.

    Attributes:
        files: image files by split.
        labels: their labels by split.
        modes: number of images of each mode of Pillow, such as `RGB`.
        sizes: number of images of each width and height in pixels.
    """

    files: dict[str, tuple[Path, ...]]
    labels: dict[str, NDArray[np.int64]]
    modes: Counter[str]
    sizes: Counter[tuple[int, int]]


def choose(labels: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Choose `count` images for a split, stratified by class; return the mask of these images.

    The images are shuffled and sorted by class, then every n-th is taken. The numbers of
    `RandomState` never change, so the splits are the same under every version of numpy.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    places = (2 * np.arange(count) + 1) * len(labels) // (2 * max(count, 1))
    chosen[stratified_order(labels)[places]] = True
    return chosen


def carve(images: LabeledImages, count: int) -> tuple[LabeledImages, LabeledImages]:
    """Split `count` images off, stratified by class; return the other images and these."""
    chosen = choose(images.y, count)
    rest, part = (LabeledImages(images.x[mask], images.y[mask]) for mask in (~chosen, chosen))
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
