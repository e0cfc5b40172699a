import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from partialnas.runs.datasets.cifar import check_archive, read_archive
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.space.errors import UserError

FILES = {
    "cifar10": [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"],
    "cifar100": ["train", "test"],
}
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
CLASSES = {"cifar10": 10, "cifar100": 100}
PER_FILE = {"cifar10": 40, "cifar100": 200}


def contents(kind: str) -> dict[str, dict[str, Any]]:
    """Return the contents of the published files with fewer images."""
    chance = np.random.default_rng(0)
    count = PER_FILE[kind]
    return {
        name: {
            "data": chance.integers(0, 256, (count, 3072), dtype=np.uint8),
            "labels" if kind == "cifar10" else "fine_labels": [
                number % CLASSES[kind] for number in range(count)
            ],
            "filenames": [f"{number}.png" for number in range(count)],
        }
        for name in FILES[kind]
    }


def write(folder: Path, kind: str, files: dict[str, Any], archived: bool) -> Path:
    """Write the files as a folder or a tar archive with protocol 2, as published."""
    unpacked = folder / FOLDERS[kind]
    unpacked.mkdir()
    for name, data in files.items():
        raw = data if isinstance(data, bytes) else pickle.dumps(data, protocol=2)
        (unpacked / name).write_bytes(raw)
    if not archived:
        return unpacked
    path = folder / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(unpacked, unpacked.name)
    return path


@pytest.mark.parametrize("archived", [True, False])
@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_images_are_read_unchanged(kind: str, archived: bool, tmp_path: Path) -> None:
    files = contents(kind)
    read = read_archive(kind, write(tmp_path, kind, files, archived))

    def expected(names: list[str]) -> NDArray[np.uint8]:
        return np.concatenate([files[name]["data"] for name in names]).reshape(-1, 3, 32, 32)

    np.testing.assert_array_equal(read["train"][0], expected(FILES[kind][:-1]))
    np.testing.assert_array_equal(read["test"][0], expected(FILES[kind][-1:]))
    assert read["test"][1].tolist() == [n % CLASSES[kind] for n in range(PER_FILE[kind])]


def test_a_pickle_of_python_2_is_read() -> None:
    """The published files hold the bytes of an array as a `str` of Python 2."""
    from partialnas.runs.datasets.cifar import _ArrayUnpickler

    old = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x03\x00\x7f\xfftb."
    )
    array = _ArrayUnpickler(io.BytesIO(old), encoding="latin1").load()
    assert array.tolist() == [0, 127, 255]


def test_splits_keep_the_published_test_and_carve_validation(tmp_path: Path) -> None:
    files = contents("cifar10")
    path = write(tmp_path, "cifar10", files, archived=True)
    splits = load_splits(resolve_task(f"cifar10:{path}"))
    assert [len(y) for y in (splits.train_y, splits.val_y, splits.test_y)] == [180, 20, 40]
    assert np.bincount(splits.val_y).tolist() == [2] * 10
    np.testing.assert_array_equal(splits.test_x, files["test_batch"]["data"].reshape(-1, 3, 32, 32))


class Malicious:
    """Runs a command when it is unpickled without restrictions."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_runs_code_is_rejected_before_it_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    files = {**contents("cifar10"), "data_batch_3": {"data": Malicious(mark), "labels": [0]}}
    path = write(tmp_path, "cifar10", files, archived=True)
    with pytest.raises(UserError, match="corrupt"):
        read_archive("cifar10", path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x80\x02garbage",
        {"data": np.zeros((3, 3072), np.uint8), "labels": [1, 2]},
        {"data": np.zeros((2, 3072), np.float32), "labels": [1, 2]},
        {"data": np.zeros((2, 99), np.uint8), "labels": [1, 2]},
        {"pixels": []},
        ["a list"],
        {"data": None, "labels": None},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0.5, 1.5]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": np.eye(2, 10, dtype=int)},
        {"data": np.zeros((2, 3072), np.int64), "labels": [1, 2]},
    ],
    ids=[
        *("empty", "garbage", "counts", "type", "shape", "keys", "list", "none"),
        *("fractions", "one-hot", "wide"),
    ],
)
def test_the_error_of_a_damaged_file_names_its_archive(broken: Any, tmp_path: Path) -> None:
    files = {**contents("cifar10"), "data_batch_2": broken}
    path = write(tmp_path, "cifar10", files, archived=False)
    with pytest.raises(UserError, match=r"cifar-10-batches-py is incomplete or corrupt .*archive"):
        read_archive("cifar10", path)


def test_labels_beyond_the_classes_are_rejected(tmp_path: Path) -> None:
    files = contents("cifar10")
    files["test_batch"]["labels"][0] = 10
    path = write(tmp_path, "cifar10", files, archived=False)
    with pytest.raises(UserError, match="labels from 0 to 10 in its test split"):
        load_splits(resolve_task(f"cifar10:{path}"))


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_a_truncated_archive_is_rejected(share: float, tmp_path: Path) -> None:
    path = write(tmp_path, "cifar10", contents("cifar10"), archived=True)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match="corrupt"):
        read_archive("cifar10", path)


@pytest.mark.parametrize("size", [0, 1, 10, 11, 18, 40, 80, 120])
def test_the_first_bytes_of_an_archive_are_rejected_as_damaged(size: int, tmp_path: Path) -> None:
    path = write(tmp_path, "cifar10", contents("cifar10"), archived=True)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"not a tar archive or is damaged; set cifar10:PATH"):
        check_archive("cifar10", path)


def test_the_archive_of_the_other_data_set_is_rejected(tmp_path: Path) -> None:
    path = write(tmp_path, "cifar100", contents("cifar100"), archived=True)
    with pytest.raises(UserError, match=r"set cifar10:PATH to the published archive"):
        read_archive("cifar10", path)
