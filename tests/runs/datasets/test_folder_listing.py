"""Which files of a folder are images of which split and class, and what is left out."""

import os
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from partialnas.runs.datasets.folder_listing import scan_folder
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.space.errors import UserError


def paint(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 9).save(file, format="PNG")


def make(root: Path, *folders: str) -> Path:
    """Make two images in each folder."""
    paint(*(root / folder / f"{number}.png" for folder in folders for number in range(2)))
    return root


def with_classes(*splits: str) -> tuple[str, ...]:
    return tuple(f"{split}/{name}" for split in splits for name in "ab")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("a", "b"), {"train": ""}),
        (with_classes("train"), {"train": "train"}),
        (with_classes("train", "val", "test"), {k: k for k in ("train", "val", "test")}),
        (with_classes("train", "valid"), {"train": "train", "val": "valid"}),
        (with_classes("train", "validation"), {"train": "train", "val": "validation"}),
        (with_classes("Train", "Val", "TEST"), {"train": "Train", "val": "Val", "test": "TEST"}),
        (with_classes("Train", "Valid", "others"), {"train": "Train", "val": "Valid"}),
        (with_classes("train", "others"), {"train": "train"}),
        (("bus", "car", "train"), {"train": ""}),
        (("bus/x", "car/x", "Train/x"), {"train": ""}),
        (("val", "control"), {"train": ""}),
    ],
)
def test_splits_are_recognized(
    folders: tuple[str, ...], expected: dict[str, str], tmp_path: Path
) -> None:
    make(tmp_path, *folders)
    splits = scan_folder(tmp_path).splits
    assert splits.keys() == expected.keys()
    for name, listing in splits.items():
        assert {file.relative_to(tmp_path / expected[name]).parts[0] for file in listing.files} == {
            *listing.classes
        }


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (with_classes("val", "test"), "holds only test and val, which are names of splits"),
        (("val", "test"), "holds only test and val, which are names of splits"),
        (("Train", "Val"), "holds only Train and Val, which are names of splits"),
        (("train", "val"), "holds only train and val, which are names of splits"),
        (with_classes("train", "val", "valid"), "holds val and valid, .* the split 'val'"),
        (with_classes("train", "Val", "val"), "holds Val and val, .* the split 'val'"),
        (with_classes("train", "Train"), "holds Train and train, .* the split 'train'"),
        (("a", "b", *with_classes("test")), "class folders beside a split with the same classes"),
        ((*with_classes("train"), "valid"), r"valid holds 0 class folder"),
        ((*with_classes("train"), "valid/a", "valid/c"), r"differ in their classes \(b, c\)"),
        (("a",), "holds 1 class folder"),
    ],
)
def test_ambiguous_and_incomplete_splits_are_refused(
    folders: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    make(tmp_path, *folders)
    with pytest.raises(UserError, match=message):
        resolve_task(f"folder:{tmp_path}")


LITTER = (
    *("a/._0.png", "a/.hidden.png", "a/0.png~", ".ipynb_checkpoints/0.png", "__MACOSX/a/0.png"),
    *("a/@eaDir/0.png/thumb.jpg", ".DS_Store", "Thumbs.db", "a/desktop.ini", "a/.DS_Store"),
    *("b~/0.png", ".git/config", "a/.ipynb_checkpoints/0-checkpoint.png"),
)


def test_litter_of_editors_and_systems_is_left_out(tmp_path: Path) -> None:
    before = scan_folder(make(tmp_path, "a", "b"))
    paint(*(tmp_path / name for name in LITTER))
    after = scan_folder(tmp_path)
    assert after.splits == before.splits
    (left_out,) = after.left_out.values()
    assert len(left_out) == len({name.partition("/@eaDir")[0] for name in LITTER})
    assert {*left_out} >= {"__MACOSX", "a/@eaDir", ".ipynb_checkpoints", "b~", "a/._0.png"}
    assert not before.reader_changes
    assert after.reader_changes  # the first version read some of it


def test_litter_that_no_version_has_read_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    before = resolve_task(f"folder:{tmp_path}")
    for name in (".DS_Store", "a/Thumbs.db", "a/0.png~", ".git/config", "README.md", "a/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert resolve_task(f"folder:{tmp_path}") == before


def test_everything_that_is_left_out_is_listed(tmp_path: Path) -> None:
    make(tmp_path, *with_classes("train", "others"))
    for name in ("notes.md", "train/labels.csv", "train/a/0.txt", "train/b/1.txt"):
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "train" / "a" / "pipe.png")
    assert scan_folder(tmp_path).left_out == {
        "files outside of the class folders": ["notes.md", "train/labels.csv"],
        "folders beside the splits": ["others"],
        "files without the suffix of an image": ["train/a/0.txt", "train/b/1.txt"],
        "not regular files, such as pipes": ["train/a/pipe.png"],
    }


def test_links_are_followed_as_torchvision_does(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "a", "b")
    make(tmp_path / "more", "deep/er", ".")
    (root / "a" / "more").symlink_to(tmp_path / "more")
    (root / "b" / "file.png").symlink_to(tmp_path / "more" / "0.png")
    (root / "c").symlink_to(tmp_path / "more")
    theirs = ImageFolder(str(root))
    folder = scan_folder(root)
    ours = folder.splits["train"]
    assert list(ours.classes) == theirs.classes
    pairs = zip(ours.files, ours.labels, strict=True)
    assert sorted((str(file), label) for file, label in pairs) == sorted(theirs.samples)
    assert folder.reader_changes == {"links to folders are followed"}
    (root / "a" / "more").unlink()  # links to files and to a whole class were always followed
    assert not scan_folder(root).reader_changes


def test_loops_of_links_end(tmp_path: Path) -> None:
    make(tmp_path, "a", "b", "a/deeper")
    (tmp_path / "a" / "deeper" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "root").symlink_to(tmp_path)
    folder = scan_folder(tmp_path)
    assert len(folder.splits["train"].files) == 6
    left_out = folder.left_out["links to a folder that contains them"]
    assert left_out == ["a/deeper/up", "b/root"]


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    (tmp_path / "a" / "note").symlink_to("/nowhere/note")  # no image
    scan_folder(tmp_path)
    for name in ("a/99.png", "c"):
        (tmp_path / name).symlink_to("/nowhere/x")
        with pytest.raises(UserError, match=rf"the link \S*/{name} leads to /nowhere/x, which"):
            resolve_task(f"folder:{tmp_path}")
        (tmp_path / name).unlink()


def test_other_suffixes_of_images_are_read(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    image = Image.new("RGB", (4, 4), (200, 100, 50))
    names = ("x.JPG", "x.jfif", "x.gif", "x.webp", "x.TIFF", "x.jp2", "x.tga")
    for name in names:
        image.save(tmp_path / "a" / name, format="JPEG" if name == "x.jfif" else None)
    folder = scan_folder(tmp_path)
    assert {file.name for file in folder.splits["train"].files} >= {*names}
    assert folder.reader_changes == {
        f"{suffix} files are read" for suffix in (".jfif", ".gif", ".jp2", ".tga")
    }


def test_names_may_have_any_bytes(tmp_path: Path) -> None:
    make(tmp_path, *(f"class {name}" for name in ("a", "b\nc", "\udcff\udcfe")))
    for folder in [*tmp_path.iterdir()]:
        paint(*(folder / f"{number}\udcfa\n.png" for number in range(20)))
    task = resolve_task(f"folder:{tmp_path}")
    assert (task.classes, len(task.content)) == (3, 16)
    assert len(load_splits(task).train_y) > 40
    (tmp_path / "class b\nc" / "2\udcfa\n.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"class b\\nc/2\\udcfa\\n\.png") as caught:
        resolve_task(f"folder:{tmp_path}")
    assert str(caught.value).encode().decode().isprintable()


def test_the_error_of_an_unreadable_folder_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a", "b")
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=rf"cannot read {tmp_path}/b: Permission denied"):
        resolve_task(f"folder:{tmp_path}")
