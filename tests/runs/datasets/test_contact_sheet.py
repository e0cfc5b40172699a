"""The contact sheet shows the pixels that are trained on, in a row for each class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partialnas.runs.datasets.carving import LabeledImages, carve_all
from partialnas.runs.datasets.contact_sheet import contact_sheet, write_contact_sheet
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.overview import inspect_data
from partialnas.runs.datasets.registry import DATA_SETS, DataSet, DataSetFacts
from partialnas.space.errors import UserError


def contains(sheet: np.ndarray, patch: np.ndarray) -> bool:
    """Return whether a patch occurs anywhere in a sheet."""
    height, width = patch.shape[:2]
    starts = np.argwhere((sheet == patch[0, 0]).all(axis=-1))
    inside = starts[(starts <= np.array(sheet.shape[:2]) - (height, width)).all(axis=1)]
    return any((sheet[r : r + height, c : c + width] == patch).all() for r, c in inside)


def test_the_sheet_holds_the_training_images_enlarged_by_a_whole_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 3, 9, 9), dtype=np.uint8)
    labeled = LabeledImages(pixels, np.arange(60) % 2)
    dataset = DataSet(DataSetFacts(9, 3, 2), lambda _: carve_all(labeled, val=10, test=20))
    monkeypatch.setitem(DATA_SETS, "noise", dataset)
    overview = inspect_data("noise")
    sheet = np.asarray(contact_sheet(overview, 2))
    splits = load_splits(overview.task)
    for label in range(2):
        for number, image in enumerate(splits.train_x[splits.train_y == label]):
            patch = image.transpose(1, 2, 0).repeat(6, axis=0).repeat(6, axis=1)
            assert contains(sheet, patch) is (number < 2)


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.png", "deeper/two.png")]
    for file in files:
        write_contact_sheet(inspect_data("digits"), file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Image folder with 60 classes of large images; the names are long or not Latin."""
    for label in range(60):
        folder = tmp_path / f"{label:02} {'long ' * (label % 9)} \u6f22"
        folder.mkdir()
        for number in range(4):
            Image.new("RGB", (300, 310), (label, number, 0)).save(folder / f"{number}.bmp")
    return tmp_path


def test_sheets_of_many_classes_and_large_images_are_bounded(many: Path) -> None:
    sheet = contact_sheet(inspect_data(many, 300))
    pixels = np.asarray(sheet)
    for label, is_shown in ((0, True), (49, True), (50, False)):
        shown = (pixels == (label, 0, 0)).all(axis=-1)
        assert shown.sum() == 256**2 * is_shown
    assert sheet.width < 9 * 256 + 400
    assert sheet.height < 51 * 264


def test_other_suffixes_and_damaged_images_are_mistakes_of_the_user(
    many: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"name it sheet\.png"):
        write_contact_sheet(inspect_data("digits"), tmp_path / "sheet.pdf")
    file = next(many.glob("00 */0.bmp"))
    file.write_bytes(file.read_bytes()[:400])
    overview = inspect_data(many, 300)
    with pytest.raises(UserError, match=r"cannot read the image .*0\.bmp"):
        write_contact_sheet(overview, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
