"""CIFAR-10 and CIFAR-100, read from their published Python archives."""

import codecs
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partialnas.runs.datasets.carving import VAL_SHARE, LabeledImages, carve
from partialnas.runs.datasets.memory import check_size
from partialnas.runs.datasets.registry import DataSetFacts
from partialnas.runs.datasets.task import Task
from partialnas.space.errors import UserError


class _ArchiveLayout(NamedTuple):
    """Layout of an archive: its folder, its files, and the key of the labels."""

    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str


_CIFAR10_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))

_LAYOUTS = {
    "cifar10": _ArchiveLayout(
        "cifar-10-python.tar.gz", "cifar-10-batches-py", _CIFAR10_TRAIN, ("test_batch",), "labels"
    ),
    "cifar100": _ArchiveLayout(
        "cifar-100-python.tar.gz", "cifar-100-python", ("train",), ("test",), "fine_labels"
    ),
}

_IMAGES = 60_000

_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
"""Names of the classes in the order of their labels, as the archives' `meta` files list them."""

# Names that unpickling a published file calls; numpy has moved the first, so an array provides it.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pixels N x 3 x 32 x 32 and labels."""


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of arrays and plain types that rejects anything else before it can run."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed") from None


def cifar10_facts(path: Path) -> DataSetFacts:
    """Return the facts of CIFAR-10; see `check_archive` for errors."""
    check_archive("cifar10", path)
    return DataSetFacts(32, 3, 10, images=_IMAGES, class_names=tuple(_CIFAR10_CLASSES.split()))


def cifar100_facts(path: Path) -> DataSetFacts:
    """Return the facts of CIFAR-100; see `check_archive` for errors."""
    check_archive("cifar100", path)
    return DataSetFacts(32, 3, 100, images=_IMAGES, class_names=tuple(_CIFAR100_CLASSES.split()))


def published_name(path: Path) -> str:
    """Return `cifar10` or `cifar100` for a path with the name of its published archive or folder.

    Other paths have the empty name.
    """
    names = (n for n, layout in _LAYOUTS.items() if path.name in (layout.archive, layout.folder))
    return next(names, "")


def load_cifar(task: Task) -> dict[str, LabeledImages]:
    """Load the published splits, and carve the validation split from the training images.

    Raises:
        UserError: The archive is missing, incomplete or corrupt.
    """
    published = read_archive(task.kind, task.path)
    check_size(task, sum(len(images) for images, _ in published.values()))
    train, test = (LabeledImages(*published[name]) for name in ("train", "test"))
    train, val = carve(train, round(VAL_SHARE * len(train.y)))
    return {"train": train, "val": val, "test": test}


def check_archive(kind: str, path: Path) -> None:
    """Check that a path is a tar archive or a folder, without reading all of it.

    Raises:
        UserError: The path does not exist or is no archive.
    """
    if not path.exists():
        raise _unusable(kind, f"{path} does not exist")
    if not path.is_dir() and not _is_archive(path):
        raise _unusable(kind, f"{path} is not a tar archive or is damaged")


def _is_archive(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, OSError, zlib.error):  # truncated or unreadable
        return False


def read_archive(kind: str, path: Path) -> dict[str, Images]:
    """Return the published splits `train` and `test` of `cifar10` or `cifar100`.

    Args:
        kind: `cifar10` or `cifar100`.
        path: published tar archive, or the folder that it unpacks to.

    Raises:
        UserError: The archive is missing, incomplete or corrupt.
    """
    check_archive(kind, path)
    layout = _LAYOUTS[kind]
    try:
        with _reader(path, layout.folder) as read:
            train = [_images(read(name), layout.labels) for name in layout.train]
            test = [_images(read(name), layout.labels) for name in layout.test]
    except Exception as error:  # a broken archive can raise nearly anything
        raise _unusable(kind, f"{path} is incomplete or corrupt ({error})") from None
    return {"train": _joined(train), "test": _joined(test)}


@contextmanager
def _reader(path: Path, folder: str) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Yield a function that reads a pickled file by its name, from the archive or its folder."""
    if path.is_dir():
        yield lambda name: _unpickle((path / name).open("rb"))
        return
    with tarfile.open(path) as archive:
        yield lambda name: _unpickle(archive.extractfile(f"{folder}/{name}"))


def _unpickle(file: IO[bytes] | None) -> dict[str, Any]:
    if file is None:
        raise ValueError("expected a file, found a folder")
    with file:
        data = _ArrayUnpickler(file, encoding="latin1").load()
    return dict(data)


def _images(data: dict[str, Any], labels: str) -> Images:
    pixels, numbers = np.asarray(data["data"]), np.asarray(data[labels])
    if pixels.dtype != np.uint8 or pixels.shape != (len(numbers), 3 * 32 * 32):
        raise ValueError(f"{len(numbers)} labels for {pixels.dtype} pixels of shape {pixels.shape}")
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise ValueError(f"labels are {numbers.dtype} of shape {numbers.shape}, not integers")
    return pixels.reshape(-1, 3, 32, 32), numbers.astype(np.int64)


def _joined(parts: list[Images]) -> Images:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _unusable(kind: str, what: str) -> UserError:
    return UserError(
        f"task.data: {what}; set {kind}:PATH to the published archive {_LAYOUTS[kind].archive} "
        "or the folder that it unpacks to"
    )
