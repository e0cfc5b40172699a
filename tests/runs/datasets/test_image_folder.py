from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from torchvision.datasets import ImageFolder

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets import image_folder, memory
from partialnas.runs.datasets.image_files import ImageHeader, read_header
from partialnas.runs.datasets.image_folder import folder_facts, list_folder
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import Task, resolve_task
from partialnas.runs.records.job import trial_key
from partialnas.space import preset
from partialnas.space.errors import UserError


def paint(
    folder: Path, classes: str, count: int, size: tuple[int, int] = (12, 12), mode: str = "RGB"
) -> None:
    """Write images with a level that depends on class and number: class a is dark, b lighter."""
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = Image.new("L", size, 40 * place + number).convert(mode)
            image.save(folder / name / f"{number:03}.png")


def test_the_listing_matches_torchvision(tmp_path: Path) -> None:
    paint(tmp_path, "cab", 3)
    (tmp_path / "a" / "deeper").mkdir()
    (tmp_path / "a" / "000.png").rename(tmp_path / "a" / "deeper" / "x.PNG")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    theirs = ImageFolder(str(tmp_path))
    ours = list_folder(tmp_path)["train"]
    assert list(ours.classes) == theirs.classes
    pairs = zip(ours.files, ours.labels, strict=True)
    assert sorted((str(file), label) for file, label in pairs) == sorted(theirs.samples)


def test_a_bare_folder_is_split_in_proportion(tmp_path: Path) -> None:
    paint(tmp_path, "ab", 20)
    splits = load_splits(resolve_task(f"folder:{tmp_path}"))
    counts = [
        np.bincount(labels).tolist() for labels in (splits.train_y, splits.val_y, splits.test_y)
    ]
    assert counts == [[14, 14], [2, 2], [4, 4]]
    levels = [splits.train_x, splits.val_x, splits.test_x]
    seen = np.concatenate([images[:, 0, 0, 0] for images in levels])
    assert sorted(seen.tolist()) == sorted([*range(20), *range(40, 60)])


def test_existing_splits_are_kept(tmp_path: Path) -> None:
    for name, count in (("train", 20), ("val", 3), ("test", 5)):
        paint(tmp_path / name, "ab", count)
    splits = load_splits(resolve_task(f"folder:{tmp_path}"))
    assert [len(y) for y in (splits.train_y, splits.val_y, splits.test_y)] == [40, 6, 10]


@pytest.mark.parametrize(("existing", "sizes"), [("val", [32, 6, 8]), ("test", [36, 4, 6])])
def test_missing_splits_are_carved_from_train(
    existing: str, sizes: list[int], tmp_path: Path
) -> None:
    paint(tmp_path / "train", "ab", 20)
    paint(tmp_path / existing, "ab", 3)
    splits = load_splits(resolve_task(f"folder:{tmp_path}"))
    assert [len(y) for y in (splits.train_y, splits.val_y, splits.test_y)] == sizes


def test_facts_come_from_the_images(tmp_path: Path) -> None:
    paint(tmp_path, "abc", 1, size=(10, 10), mode="L")
    task = resolve_task(f"folder:{tmp_path}")
    assert (task.resolution, task.channels, task.classes) == (10, 1, 3)
    paint(tmp_path, "c", 1, size=(10, 10), mode="RGB")
    assert resolve_task(f"folder:{tmp_path}").channels == 3


def test_images_of_different_sizes_are_resized_to_a_stated_resolution(tmp_path: Path) -> None:
    paint(tmp_path, "ab", 10, size=(12, 12))
    paint(tmp_path, "a", 10, size=(30, 20))
    with pytest.raises(UserError, match=r"task\.resolution: missing"):
        resolve_task(f"folder:{tmp_path}")
    splits = load_splits(resolve_task(f"folder:{tmp_path}", 8))
    assert splits.train_x.shape[1:] == (3, 8, 8)
    assert (splits.train_x == splits.train_x[:, :1, :1, :1]).all()  # each image still has one color


def test_oblong_images_are_center_cropped(tmp_path: Path) -> None:
    paint(tmp_path, "ab", 6)
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 200
    for name in "ab":
        for file in (tmp_path / name).iterdir():
            Image.fromarray(pixels).save(file)
    assert (load_splits(resolve_task(f"folder:{tmp_path}", 8)).train_x == 200).all()


def test_content_depends_on_the_images_and_not_on_their_path(tmp_path: Path) -> None:
    paint(tmp_path / "here", "ab", 2)
    paint(tmp_path / "there", "ab", 2)
    here, there = (resolve_task(f"folder:{tmp_path / name}") for name in ("here", "there"))
    assert here.identity() == there.identity()
    (tmp_path / "there" / "a" / "000.png").unlink()
    assert resolve_task(f"folder:{tmp_path / 'there'}").identity() != here.identity()


def write_pnm(root: Path, suffix: str) -> None:
    """Write images whose sizes in bytes do not depend on a library."""
    magic, channels = (5, 1) if suffix == "pgm" else (6, 3)
    for split, count in (("train", 3), ("val", 1)):
        for name in "ab":
            for number in range(count):
                side = 4 + number
                file = root / split / name / ("sub" if number == 1 else "") / f"{number}.{suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                head = b"P%d %d %d 255\n" % (magic, side, side)
                file.write_bytes(head + bytes(side * side * channels))


@pytest.mark.parametrize(
    ("suffix", "channels", "content", "key"),
    [
        ("pgm", 1, "f54d98ba5d648409", "1746e533509f382b"),
        ("ppm", 3, "ca5b1939c9ec2ad9", "c003b186439824fe"),
    ],
)
def test_plain_folders_keep_the_identity_of_the_first_reader(
    suffix: str, channels: int, content: str, key: str, tmp_path: Path
) -> None:
    """The values were computed by the first version of the reader; ledgers hold them."""
    write_pnm(tmp_path, suffix)
    task = resolve_task(f"folder:{tmp_path}")
    assert (task.resolution, task.channels, task.content) == (4, channels, content)
    assert trial_key(preset("partialnet_t0"), task, Recipe(), 4, 0) == key


def replace_one(tmp_path: Path, image: Image.Image, **options: Any) -> Task:
    image.save(tmp_path / "train" / "a" / "2.pgm", format="PNG", **options)
    return resolve_task(f"folder:{tmp_path}")


def test_the_content_of_folders_that_are_read_differently_names_the_reader(tmp_path: Path) -> None:
    write_pnm(tmp_path, "pgm")
    assert "-" not in replace_one(tmp_path, Image.new("L", (6, 6))).content
    wide = replace_one(tmp_path, Image.new("I;16", (6, 6), 65535))
    assert wide.content.startswith("v2-")
    assert wide.channels == 1
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert replace_one(tmp_path, Image.new("L", (6, 6)), exif=exif).content.startswith("v2-")
    mixed = replace_one(tmp_path, Image.new("RGB", (6, 6)))
    assert (mixed.channels, mixed.content[:3]) == (3, "v2-")


def test_a_folder_that_was_read_differently_is_not_loaded_for_an_old_task(tmp_path: Path) -> None:
    paint(tmp_path, "ab", 20)
    for file in (tmp_path / "a").iterdir():
        Image.new("I;16", (12, 12), 60_000).save(file)
    task = resolve_task(f"folder:{tmp_path}")
    load_splits(task)
    old = task.model_copy(update={"content": task.content.removeprefix("v2-")})
    with pytest.raises(UserError, match=r"now reads them differently \(16-bit images are scaled"):
        load_splits(old)


def test_images_that_changed_since_the_start_are_not_loaded(tmp_path: Path) -> None:
    paint(tmp_path, "ab", 20)
    task = resolve_task(f"folder:{tmp_path}")
    (tmp_path / "a" / "000.png").unlink()
    with pytest.raises(UserError, match=r"are not those that the study was started with$"):
        load_splits(task)


def test_notes_state_classes_and_conversions(tmp_path: Path) -> None:
    paint(tmp_path, "abcd", 5)
    paint(tmp_path, "d", 1, size=(20, 12))
    Image.new("I;16", (12, 12), 60_000).save(tmp_path / "b" / "000.png")
    (tmp_path / "c" / "labels.txt").write_text("x")
    assert folder_facts(tmp_path).notes == (
        "classes: 4 (a, b, c, ...)",
        "carved from the training images: 20 % for test and 10 % for val",
        "left out, files without the suffix of an image: 1 (c/labels.txt)",
        "16-bit images, scaled to 8 bits: 1 (b/000.png)",
    )
    paint(tmp_path, "d", 5)
    Image.new("L", (20, 12)).save(tmp_path / "d" / "003.png")
    assert folder_facts(tmp_path).notes[-1] == (
        "not 12 x 12 pixels, so cropped to squares and resized: 1 (d/003.png)"
    )


def test_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path, "ab", 20)
    files = []

    def read(file: Path) -> ImageHeader:
        files.append(file)
        return read_header(file)

    monkeypatch.setattr(image_folder, "read_header", read)
    first = folder_facts(tmp_path)
    assert folder_facts(tmp_path) == first
    assert len(files) == 40
    Image.new("L", (12, 12)).save(tmp_path / "a" / "005.png")
    folder_facts(tmp_path)
    assert len(files) == 80


def test_the_error_of_a_damaged_image_names_its_file(tmp_path: Path) -> None:
    paint(tmp_path, "ab", 10)
    whole = (tmp_path / "b" / "005.png").read_bytes()
    task = resolve_task(f"folder:{tmp_path}")
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (tmp_path / "b" / "005.png").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read the image .*b/005\.png"):
            load_splits(task)


def test_a_folder_with_one_class_is_rejected(tmp_path: Path) -> None:
    paint(tmp_path, "a", 3)
    with pytest.raises(UserError, match="at least 2"):
        resolve_task(f"folder:{tmp_path}")


def test_a_class_without_images_is_rejected(tmp_path: Path) -> None:
    paint(tmp_path, "ab", 3)
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"/c holds no images, but each folder in .* name another"):
        resolve_task(f"folder:{tmp_path}")


def test_splits_with_different_classes_are_rejected(tmp_path: Path) -> None:
    paint(tmp_path / "train", "abc", 3)
    paint(tmp_path / "val", "abd", 3)
    with pytest.raises(UserError, match=r"differ in their classes \(c, d\)"):
        resolve_task(f"folder:{tmp_path}")


def test_too_few_images_to_split_are_rejected(tmp_path: Path) -> None:
    paint(tmp_path, "ab", 1)
    with pytest.raises(UserError, match="too few images"):
        load_splits(resolve_task(f"folder:{tmp_path}"))


def test_images_too_large_for_memory_are_rejected_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path, "ab", 10)
    monkeypatch.setattr(memory, "MAX_DATASET_BYTES", 20 * 3 * 12 * 12)
    assert len(load_splits(resolve_task(f"folder:{tmp_path}")).train_y) == 14
    monkeypatch.setattr(memory, "MAX_DATASET_BYTES", 20 * 3 * 12 * 12 - 1)
    with pytest.raises(UserError, match=r"take .* KiB, but .* at most .* KiB"):
        load_splits(resolve_task(f"folder:{tmp_path}"))
