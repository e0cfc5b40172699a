"""The verb `data`: its output, its contact sheet and its exit codes."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import run_cli
from PIL import Image

import partialnas
from partialnas.commands.studies.data import data_lines
from partialnas.runs.datasets.overview import inspect_data
from partialnas.runs.datasets.registry import DATA_SETS
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.ledger.ledger import Ledger

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that docs/data.md shows."""
    monkeypatch.chdir(tmp_path)
    for label, (name, count) in enumerate({"daisy": 30, "rose": 24, "tulip": 21}.items()):
        for number in range(count):
            file = Path("photos") / name / f"{number:02}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            size = (60 + 2 * number, 48 + number)
            Image.new("RGB", size, (80 * label, 5 * number, 90)).save(file)
    Image.new("L", (64, 64)).save("photos/rose/03.jpg")
    (tmp_path / "photos" / "labels.csv").write_text("x")
    (tmp_path / "photos" / "rose" / "notes.txt").write_text("x")
    (tmp_path / "photos" / "rose" / ".DS_Store").write_text("x")
    return Path("photos")


def normalized(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_the_output_in_the_documentation_is_that_of_the_command(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", DOCS.read_text("utf-8"), re.M | re.S)
    command, shown = blocks[:2]
    assert run_cli(*command.split()[1:]) == 0
    output = capsys.readouterr().out.replace(str(photos.resolve()), "/home/me/photos")
    assert normalized(output) == normalized(shown)
    assert Image.open("photos.png").format == "PNG"


def test_the_code_in_the_documentation_runs(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from_python, splits, plugin = re.findall(
        r"^```python\n(.*?)^```$", DOCS.read_text("utf-8"), re.M | re.S
    )
    exec(from_python, {})
    exec(splits, {})
    assert Image.open("photos.png").width > 100
    folder = photos.resolve().parent
    monkeypatch.syspath_prepend(str(folder))
    (folder / "parts_data.py").write_text(plugin, encoding="utf-8")
    images = np.zeros((1000, 1, 64, 64), np.uint8)
    np.savez("parts.npz", images=images, labels=np.arange(1000) % 2)
    try:
        assert run_cli("data", "parts:parts.npz", "--plugin", "parts_data") == 0
    finally:
        DATA_SETS.pop("parts", None)
    output = capsys.readouterr().out
    assert "700 training, 100 validation and 200 test images" in output
    assert "scratched" in output


def test_the_task_shown_is_that_of_a_study(photos: Path) -> None:
    overview = inspect_data(photos, 32)
    assert overview.task == resolve_task("folder:photos", 32)
    (line,) = (line for line in data_lines(overview) if line.startswith("task:"))
    assert str(photos.resolve()) in line


def test_many_classes_share_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in range(30):
        for number in range(10 + label):
            file = tmp_path / f"c{label:02}" / f"{number}.png"
            file.parent.mkdir(exist_ok=True)
            Image.new("L", (4, 4), number).save(file)
    assert run_cli("data", tmp_path) == 0
    rows = capsys.readouterr().out.splitlines()
    (last,) = (row for row in rows if "10 more, each" in row)
    training = inspect_data(tmp_path).class_counts()[20:, 0]
    assert f"{training.min()} to {training.max()}" in last
    assert not any(row.split()[:1] == ["c20"] for row in rows)


def test_data_that_no_study_can_use_are_shown_and_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    assert run_cli("data", tmp_path) == 2
    captured = capsys.readouterr()
    assert "images: 2 training, 0 validation and 0 test images" in captured.out
    assert "too few images" in captured.err


def test_a_data_set_of_a_plug_in_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "checks_plugin.py").write_text(
        "import numpy as np\n"
        "from partialnas.runs.datasets.carving import LabeledImages, carve_all\n"
        "from partialnas.runs.datasets.registry import DataSetFacts, register_dataset\n"
        "def load(task):\n"
        "    y = np.arange(90, dtype=np.int64) % 3\n"
        "    x = np.full((90, 1, 6, 6), 7, np.uint8)\n"
        "    return carve_all(LabeledImages(x, y), val=9, test=18)\n"
        "facts = DataSetFacts(6, 1, 3, class_names=('x', 'y', 'z'))\n"
        "register_dataset('checks', facts=facts, load=load)\n"
    )
    try:
        assert run_cli("data", "checks", "--plugin", "checks_plugin", "-o", "sheet.png") == 0
    finally:
        DATA_SETS.pop("checks", None)
    output = capsys.readouterr().out
    assert "63 training, 9 validation and 18 test images" in output
    assert "z" in output
    assert Path("sheet.png").exists()


def test_unknown_data_sets_are_mistakes_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("data", "mnist") == 2
    assert "did you mean mnist5k" in capsys.readouterr().err


def test_the_listed_images_are_those_of_the_splits(photos: Path) -> None:
    assert run_cli("data", photos, "--list", "photos.csv") == 0
    with Path("photos.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert sorted(row["file"] for row in rows) == sorted(
        str(p.resolve()) for p in photos.rglob("*.jpg")
    )
    assert all(Path(row["file"]).parent.name == row["class"] for row in rows)
    splits = partialnas.load_splits(photos, resolution=8)
    classes = ["daisy", "rose", "tulip"]
    for name in ("train", "val", "test"):
        listed = [classes.index(row["class"]) for row in rows if row["split"] == name]
        images, labels = getattr(splits, f"{name}_x"), getattr(splits, f"{name}_y")
        assert labels.tolist() == listed
        assert images.shape == (len(listed), 3, 8, 8)
        # a photo's blue is 90 and its red is 80 times its class; one file is gray and black
        colored = images[:, 2, 4, 4] > 45
        red = images[colored, 0, 4, 4].astype(int)
        assert np.allclose(red, 80 * labels[colored], atol=5)


def test_images_without_files_are_listed_by_their_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli("data", "digits", "--list", "digits.csv") == 0
    with Path("digits.csv").open(newline="") as file:
        val = [row for row in csv.DictReader(file) if row["split"] == "val"]
    splits = partialnas.load_splits("digits")
    assert [int(row["index"]) for row in val] == [*range(180)]
    assert [int(row["class"]) for row in val] == splits.val_y.tolist()


def test_the_splits_of_a_study_have_its_resolution(tmp_path: Path) -> None:
    task = resolve_task("digits", 6)
    with Ledger.create(tmp_path / "s", {"task": task.model_dump_json()}):
        pass
    splits = partialnas.load_splits(tmp_path / "s")
    assert splits.val_x.shape == (180, 1, 6, 6)
    assert partialnas.load_splits(task).val_y.tolist() == splits.val_y.tolist()


def test_a_list_of_another_format_is_refused(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("data", photos, "--list", "photos.txt") == 2
    assert "use a name that ends in .csv" in capsys.readouterr().err
