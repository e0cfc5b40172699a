"""Data sets registered from outside the package are used like those inside it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partialnas.runs.datasets.carving import LabeledImages, carve_all
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.registry import (
    DATA_SETS,
    DataSet,
    DataSetFacts,
    register_dataset,
)
from partialnas.runs.datasets.task import Task, resolve_task
from partialnas.space.errors import UserError


def stripes(task: Task) -> dict[str, LabeledImages]:
    labels = np.arange(60, dtype=np.int64) % task.classes
    images = np.zeros((60, task.channels, 4, 4), np.uint8)
    images[labels == 1, :, ::2] = 255
    return carve_all(LabeledImages(images, labels), val=10, test=20)


def stripes_on_disk(path: Path) -> DataSetFacts:
    return DataSetFacts(4, 1, 2, content=path.name)


@pytest.fixture
def registered() -> Iterator[None]:
    register_dataset("stripes", facts=DataSetFacts(4, 3, 2), load=stripes)
    register_dataset("stripes-file", facts=stripes_on_disk, load=stripes, on_disk=True)
    yield
    del DATA_SETS["stripes"]
    del DATA_SETS["stripes-file"]


@pytest.mark.usefixtures("registered")
def test_registered_data_sets_are_loaded(tmp_path: Path) -> None:
    task = resolve_task("stripes")
    assert task == Task(data="stripes", resolution=4, channels=3, classes=2)
    splits = load_splits(task)
    assert [len(y) for y in (splits.train_y, splits.val_y, splits.test_y)] == [30, 10, 20]
    on_disk = resolve_task(f"stripes-file:{tmp_path}", resolution=8)
    assert (on_disk.path, on_disk.content) == (tmp_path, tmp_path.name)
    assert load_splits(on_disk).train_x.shape == (30, 1, 8, 8)


X, Y = np.zeros((60, 3, 4, 4), np.uint8), np.arange(60) % 2


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X / 255, Y),
        (X.astype(np.int16), Y),
        (X[:, 0], Y),
        (X[:, :1], Y),
        (X.transpose(0, 2, 3, 1), Y),
        (X[:, :, :2], Y),
        (X, Y[:-1]),
        (X, Y / 2),
        (X, np.eye(2, dtype=int)[Y]),
    ],
    ids=["float", "16 bits", "3-D", "gray", "channels last", "oblong", "count", "real", "one-hot"],
)
def test_a_reader_that_returns_other_arrays_is_refused(
    x: Any, y: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = LabeledImages(x, y)
    parts = {"train": LabeledImages(X, Y), "val": broken, "test": LabeledImages(X, Y)}
    monkeypatch.setitem(DATA_SETS, "stripes", DataSet(DataSetFacts(4, 3, 2), lambda _: parts))
    with pytest.raises(UserError, match=r"reader of stripes returned images .* in its val split"):
        load_splits(resolve_task("stripes"))
    del parts["val"]
    with pytest.raises(UserError, match="reader of stripes returned no val"):
        load_splits(resolve_task("stripes"))


def test_the_error_of_an_unknown_data_set_lists_registered_ones(registered: None) -> None:  # noqa: ARG001
    with pytest.raises(UserError, match=r"folder:PATH, stripes or stripes-file:PATH$"):
        resolve_task("zebra")
    with pytest.raises(UserError, match=r"did you mean stripes"):
        resolve_task("strpes")
    with pytest.raises(UserError, match=r"expected stripes-file:PATH, got 'stripes-file'"):
        resolve_task("stripes-file")


def test_a_task_of_an_unregistered_data_set_is_rejected() -> None:
    with pytest.raises(UserError, match="there is neither a data set nor a folder 'stripes'"):
        load_splits(Task(data="stripes", resolution=4, channels=3, classes=2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nofolder", "neither a data set nor a folder 'nofolder'"),
        ("imsg", "neither a data set nor a folder 'imsg'; did you mean folder:imgs?"),
        ("digit", "neither a data set nor a folder 'digit'; did you mean digits or folder:digit2?"),
        ("inner/img", "no folder 'inner/img'; did you mean folder:inner/imgs?"),
        ("inner/digits", "no folder 'inner/digits'; name an existing folder, or choose mnist5k,"),
        ("folder:inner/img", "/inner/img; did you mean "),
        ("imgs", "no data set 'imgs'; for the images of that folder, write folder:imgs"),
        ("fodler:imgs", "no data set 'fodler:imgs'; did you mean folder:PATH?"),
    ],
)
def test_names_and_folders_that_resemble_a_mistyped_one_are_named(
    data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("imgs", "digit2", "inner/imgs"):
        Path(folder).mkdir(parents=True)
    Path("inner/image.txt").touch()  # no folder
    with pytest.raises(UserError) as error:
        resolve_task(data)
    assert message in str(error.value)
    assert "image.txt" not in str(error.value)


@pytest.mark.parametrize("name", ["digits", "Stripes", "a:b", ""])
def test_taken_and_invalid_names_are_rejected(name: str) -> None:
    before = dict(DATA_SETS)
    with pytest.raises(UserError, match=r"choose another name|expected a lowercase name"):
        register_dataset(name, facts=DataSetFacts(4, 3, 2), load=stripes)
    assert before == DATA_SETS
