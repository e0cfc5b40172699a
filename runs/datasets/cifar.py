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

from partialnas.space.errors import UserError


class _Layout(NamedTuple):
    """How an archive is laid out: its folder, its files, and the key of the labels."""

    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str


_LAYOUTS = {
    "cifar10": _Layout(
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        ("test_batch",),
        "labels",
    ),
    "cifar100": _Layout(
        "cifar-100-python.tar.gz", "cifar-100-python", ("train",), ("test",), "fine_labels"
    ),
}

# What unpacking a published file calls; taken from an array's own recipe, as numpy moved the first.
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pixels, N x 3 x 32 x 32, and their labels."""


class _ArrayUnpickler(pickle.Unpickler):
    """Admits arrays and plain types; anything else in a file is refused before it can run."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in it") from None


def check_archive(kind: str, path: Path) -> None:
    """Refuse a path that is neither a tar archive nor a folder, without reading it whole.

    Raises:
        UserError: nothing is there, or a file that is no archive.
    """
    if not path.exists():
        raise _unusable(kind, f"there is nothing at {path}")
    if not path.is_dir() and not _is_archive(path):
        raise _unusable(kind, f"{path} is no tar archive, or a broken one")


def _is_archive(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, OSError, zlib.error):  # cut off within what is compressed, or unreadable
        return False


def read_archive(kind: str, path: Path) -> dict[str, Images]:
    """The published splits `train` and `test` of `cifar10` or `cifar100`.

    Args:
        kind: which of the two.
        path: the published tar archive, or the folder that it unpacks to.

    Raises:
        UserError: missing, incomplete or corrupt.
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
    """How to read one pickled file by its name, from the archive or from its folder."""
    if path.is_dir():
        yield lambda name: _unpickle((path / name).open("rb"))
        return
    with tarfile.open(path) as archive:
        yield lambda name: _unpickle(archive.extractfile(f"{folder}/{name}"))


def _unpickle(file: IO[bytes] | None) -> dict[str, Any]:
    if file is None:
        raise ValueError("a folder stands where a file is expected")
    with file:
        data = _ArrayUnpickler(file, encoding="latin1").load()
    return dict(data)


def _images(data: dict[str, Any], labels: str) -> Images:
    pixels, numbers = np.asarray(data["data"]), np.asarray(data[labels], dtype=np.int64)
    if pixels.dtype != np.uint8 or pixels.shape != (len(numbers), 3 * 32 * 32):
        raise ValueError(f"{len(numbers)} labels for pixels of shape {pixels.shape}")
    return pixels.reshape(-1, 3, 32, 32), numbers


def _joined(parts: list[Images]) -> Images:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _unusable(kind: str, what: str) -> UserError:
    return UserError(
        f"task.data: {what}; {kind}:PATH names the published archive {_LAYOUTS[kind].archive} "
        "or the folder that it unpacks to"
    )
