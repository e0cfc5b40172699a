"""The memory of all images is checked from the listing, before any image is decoded."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import partialnas
from partialnas.runs.datasets import image_folder, memory
from partialnas.runs.datasets.memory import check_free_memory, check_size, largest_resolution
from partialnas.runs.datasets.task import Task, resolve_task
from partialnas.space.errors import MachineError, UserError

STUDY: dict[str, Any] = {
    "study": "small",
    "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
    "arms": {"a": {}},
    "objectives": {"val_nll": "min"},
    "executor": {"kind": "in-process"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        file = tmp_path / "images" / f"class{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(file)
    return tmp_path / "images"


@pytest.mark.parametrize("start", [partialnas.check, partialnas.run])
@pytest.mark.parametrize(
    ("resolution", "free", "error", "message"),
    [
        (4096, 2**40, UserError, r"40 images at 4096 x 4096 pixels take 1\.9 GiB.*at most 1 GiB"),
        (64, 40 * 3 * 64**2 - 1, MachineError, r"40 images at 64 x 64 .* only 480 KiB .* free"),
    ],
)
def test_a_study_is_refused_before_an_image_is_decoded(
    start: Any, resolution: int, free: int, error: type[Exception], message: str, folder: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "MAX_DATASET_BYTES", 2**30)
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    monkeypatch.setattr(image_folder, "decode_images", None)
    study = STUDY | {"task": {"data": f"folder:{folder}", "resolution": resolution}}
    with pytest.raises(error, match=message):
        start(study)
    assert not [*tmp_path.rglob("*.sqlite")]


def test_the_size_is_listed_with_other_mistakes() -> None:
    """5,000 images of mnist5k at 2,048 pixels take 5000 * 2048**2 bytes = 19.5 GiB."""
    conditions = {
        "large": {"task.resolution": 2048},
        "missing": {"task.data": "folder:/nowhere"},
    }
    with pytest.raises(UserError) as raised:
        partialnas.check(STUDY | {"conditions": conditions})
    large, missing = sorted(str(raised.value).splitlines()[1:])
    assert "conditions.large: task.data: 5,000 images at 2048 x 2048 pixels take 19.5 GiB" in large
    assert "there is no folder /nowhere" in missing


def test_a_user_function_reads_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = STUDY | {"task": {"data": "mnist5k", "resolution": 2048}, "trial": "module:function"}
    partialnas.run(study | {"objectives": {"loss": "min"}}, rehearse=True)


@pytest.mark.parametrize(("channels", "images"), [(1, 5000), (3, 60_000), (3, 1_281_167)])
def test_the_resolution_in_the_message_is_allowed_and_the_largest_of_its_kind(
    channels: int, images: int
) -> None:
    task = Task(data="mnist5k", resolution=1, channels=channels, classes=10)
    side = largest_resolution(task, images)
    check_size(task.model_copy(update={"resolution": side}), images)
    step = 1 if side < 32 else 16
    with pytest.raises(UserError, match=f"at most {side},"):
        check_size(task.model_copy(update={"resolution": side + step}), images)


def test_tasks_at_several_resolutions_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [resolve_task("digits", side) for side in (8, 16)]
    needed = 1797 * (8**2 + 16**2)
    monkeypatch.setattr(memory, "available_memory", lambda: needed)
    check_free_memory(tasks)
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    with pytest.raises(MachineError, match=r"8 x 8 pixels .* and .* 16 x 16 pixels"):
        check_free_memory(tasks)
