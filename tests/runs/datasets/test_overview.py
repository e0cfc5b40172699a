"""What is reported of a data set is what is loaded; headers suffice for folders of images."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from partialnas.runs.datasets import image_folder, memory
from partialnas.runs.datasets.carving import SPLITS, LabeledImages, carve_all
from partialnas.runs.datasets.image_files import SUFFIXES
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.overview import DataOverview, data_name, inspect_data
from partialnas.runs.datasets.registry import DATA_SETS, DataSet, DataSetFacts
from partialnas.runs.datasets.task import Task
from partialnas.space.errors import UserError

DOCS = Path(__file__).parents[3] / "docs" / "data.md"
SIZES = ((12, 12), (30, 20), (16, 40), (12, 12))


def paint(folder: Path, counts: dict[str, int], mode: str = "RGB") -> Path:
    """Write images of several sizes, one folder per class."""
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = Image.new("L", SIZES[number % len(SIZES)], 40 * label + number).convert(mode)
            image.save(folder / name / f"{number:03}.png")
    return folder


def assert_agrees_with_loaded_data(overview: DataOverview) -> None:
    splits = load_splits(overview.task)
    for name in SPLITS:
        np.testing.assert_array_equal(overview.labels[name], getattr(splits, f"{name}_y"))
    loaded = [getattr(splits, f"{name}_x") for name in SPLITS]
    assert overview.bytes == sum(images.nbytes for images in loaded)
    for label, images in enumerate(overview.samples(3)):
        expected = splits.train_x[splits.train_y == label][:3]
        np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("data", ["digits", "mnist5k"])
@pytest.mark.parametrize("resolution", [None, 12])
def test_bundled_data_sets(data: str, resolution: int | None) -> None:
    overview = inspect_data(data, resolution)
    assert_agrees_with_loaded_data(overview)
    side = {"digits": 8, "mnist5k": 28}[data]
    assert overview.sizes == {(side, side): sum(map(len, overview.labels.values()))}
    assert overview.class_names == tuple("0123456789")
    assert (overview.modes, overview.problems) == ({}, ())


@pytest.mark.parametrize("split", ["", "val", "test"])
def test_folders_with_and_without_splits(split: str, tmp_path: Path) -> None:
    root = tmp_path / "train" if split else tmp_path
    paint(root, {"a": 21, "b": 13, "c": 8})
    if split:
        paint(tmp_path / split, {"a": 2, "b": 3, "c": 1})
    overview = inspect_data(tmp_path, 10)
    assert_agrees_with_loaded_data(overview)
    assert overview.class_counts().sum() == len([*tmp_path.rglob("*.png")])
    assert overview.task.data == f"folder:{tmp_path}"


@settings(max_examples=15)
@given(st.lists(st.integers(4, 30), min_size=2, max_size=5), st.integers(4, 20))
def test_any_folder(tmp_path_factory: pytest.TempPathFactory, counts: list[int], side: int) -> None:
    folder = tmp_path_factory.mktemp("images")
    paint(folder, {f"class {n}": count for n, count in enumerate(counts)}, mode="L")
    overview = inspect_data(folder, side)
    assert overview.class_counts().sum(axis=1).tolist() == counts
    if not overview.problems:  # else too few of a class
        assert_agrees_with_loaded_data(overview)


def test_sizes_and_modes_come_from_the_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path, {"a": 20, "b": 20})
    Image.new("L", (500, 2)).save(tmp_path / "a" / "000.png")
    monkeypatch.setattr(Image.Image, "load", None)  # which decodes the pixels
    overview = inspect_data(tmp_path)
    sizes = [SIZES[number % 4] for number in range(20)] * 2
    sizes[0] = (500, 2)
    widths, heights = np.array(sizes).T
    expected = [[f(widths), f(heights)] for f in (np.min, lower_median, np.max)]
    assert overview.size_quantiles().tolist() == expected
    assert overview.modes == {"RGB": 39, "L": 1}
    assert overview.task.channels == 3


def lower_median(values: np.ndarray) -> int:
    return int(np.quantile(values, 0.5, method="lower"))


def test_a_missing_resolution_is_suggested(tmp_path: Path) -> None:
    assert not inspect_data(paint(tmp_path, {"a": 20, "b": 20})).resolution_is_missing
    Image.new("RGB", (300, 200)).save(tmp_path / "a" / "000.png")
    overview = inspect_data(tmp_path)
    assert overview.resolution_is_missing
    assert overview.task.resolution == 16  # 19 of 40 shorter sides are 12, 10 are 16
    assert not inspect_data(tmp_path, 9).resolution_is_missing


def test_too_few_images_are_counted_and_reported(tmp_path: Path) -> None:
    overview = inspect_data(paint(tmp_path, {"a": 1, "b": 1}))
    assert overview.class_counts().sum() == 2
    (problem,) = overview.problems
    with pytest.raises(UserError) as raised:
        load_splits(overview.task)
    assert problem == str(raised.value)


def test_images_too_large_for_memory_are_reported_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path, {"a": 20, "b": 20})
    monkeypatch.setattr(memory, "MAX_DATASET_BYTES", 40 * 3 * 32**2 - 1)
    monkeypatch.setattr(image_folder, "decode_images", None)
    assert inspect_data(tmp_path, 31).problems == ()
    (problem,) = inspect_data(tmp_path, 32).problems
    assert "choose a task.resolution of at most 31" in problem


def test_registered_data_sets_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 6, 6), dtype=np.uint8)
    labeled = LabeledImages(images, np.arange(60) % 2)
    facts = DataSetFacts(6, 3, 2, class_names=("even", "odd"))
    dataset = DataSet(facts, lambda _: carve_all(labeled, val=10, test=20))
    monkeypatch.setitem(DATA_SETS, "stripes", dataset)
    overview = inspect_data("stripes", 4)
    assert_agrees_with_loaded_data(overview)
    assert overview.class_names == ("even", "odd")
    assert overview.sizes == {(6, 6): 60}


def test_the_documentation_lists_the_suffixes_and_resolutions() -> None:
    text = DOCS.read_text("utf-8")
    listed = re.search(r"^- \*\*Files\*\*(.*?)^- ", text, re.M | re.S)
    assert listed is not None
    assert {*re.findall(r"`(\.\w+)`", listed[1])} == SUFFIXES
    rows = re.findall(r"^\| ([\d,]+)(?: \(\w+\))? \| (\d+) \|$", text, re.M)
    assert len(rows) == 3
    for images, side in rows:
        task = Task(data="folder:x", resolution=1, channels=3, classes=2)
        assert memory.largest_resolution(task, int(images.replace(",", ""))) == int(side)


def test_paths_become_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("flowers", "digits", "cifar-10-batches-py", "cifar-100-python"):
        Path(name).mkdir()
    assert data_name("flowers") == "folder:flowers"
    assert data_name(tmp_path / "flowers") == f"folder:{tmp_path}/flowers"
    assert data_name("digits") == "digits"
    assert data_name("./digits") == "folder:./digits"
    assert data_name("cifar-10-batches-py") == "cifar10:cifar-10-batches-py"
    assert data_name("cifar-100-python") == "cifar100:cifar-100-python"
    assert data_name("folder:anywhere") == "folder:anywhere"
    with pytest.raises(UserError, match="did you mean digits"):
        inspect_data("digit")


def test_a_dark_16_bit_image_among_bright_ones_is_shown(
    tmp_path: Path, make_wide: Callable[[Path, int], None]
) -> None:
    """A few images of a set may all be dark; that says nothing about the whole set."""
    for name in "ab":
        for number in range(20):
            make_wide(tmp_path / name / f"{number:03}.png", 100 if number < 10 else 60_000)
    overview = inspect_data(tmp_path)
    assert_agrees_with_loaded_data(overview)


@pytest.fixture
def make_wide() -> Callable[[Path, int], None]:
    def write(path: Path, level: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("I;16", (6, 6), level).save(path)

    return write
