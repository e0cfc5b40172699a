"""What `check` reports of data and arms before anything runs."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import _registry
from torch import Tensor, nn

import partialnas
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.subject import TimmModel
from partialnas.runs.trials.build import build_network, check_trainable, subject_cost
from partialnas.search.check.training_steps import gpu_notes
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError

STUDY: dict[str, Any] = {
    "study": "small",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
    "recipe": {"use": "short", "epochs": 1},
    "arms": {"a": {}},
    "objectives": {"val_nll": "min"},
    "measure": {"max_seconds": 0.1, "batch_size": 2},
    "executor": {"kind": "in-process"},
}
DIGITS = Task(data="digits", resolution=8, channels=1, classes=10)


def report(**settings: Any) -> list[str]:
    lines: list[str] = []
    partialnas.check(STUDY | settings, show=lines.append)
    return lines


class Broken(nn.Module):
    """A classifier that fails in one way."""

    def __init__(self, failure: str, num_classes: int = 10) -> None:
        super().__init__()
        if failure == "build":
            raise KeyError("no such size")
        self.failure = failure
        self.head = nn.Linear(1, num_classes + (failure == "logits"))

    def forward(self, x: Tensor) -> Any:
        logits = self.head(x.mean((1, 2, 3)).unsqueeze(1))
        if self.failure == "forward":
            raise IndexError("an index")
        if self.failure == "tuple":
            return logits, logits
        if self.failure == "eval" and not self.training:
            raise ZeroDivisionError("division by zero")
        return logits.detach() if self.failure == "gradient" else logits


FAILURES = ("build", "forward", "tuple", "eval", "gradient", "logits")


def make(failure: str) -> Callable[..., nn.Module]:
    def model(pretrained: bool = False, num_classes: int = 10, **_: Any) -> nn.Module:  # noqa: ARG001
        return Broken(failure, num_classes)

    model.__name__ = f"broken_{failure}"
    return model


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register timm models that fail in every way."""
    for failure in FAILURES:
        name = f"broken_{failure}"
        monkeypatch.setitem(_registry._model_entrypoints, name, make(failure))
    names = timm.list_models()
    monkeypatch.setattr(
        timm, "list_models", lambda: [*names, *(f"broken_{failure}" for failure in FAILURES)]
    )


def test_a_quick_check_of_a_study_without_quick_settings_is_noted() -> None:
    plain = STUDY | {"trial": "operator:setitem", "measure": "none"}  # which is not called
    noted = partialnas.check(plain, quick=True, show=str)
    assert [note for note in noted.notes if note.startswith("--quick changes nothing")]
    assert f"note: {noted.notes[0]}" in noted.lines
    small = plain | {"quick": {"seeds": 1}}
    for study, quick in ((plain, False), (small, True), (small, False)):
        lines = partialnas.check(study, quick=quick, show=str).lines
        assert not any("--quick" in line for line in lines)


def test_the_points_within_constraints_and_the_levels_without_any_are_reported() -> None:
    space = {"axes": {"width": [4, 64]}, "constraints": {"params": {"max": "20k"}}}
    search = {"search": {"sampler": "random"}, "budget": {"trials": 2}}
    lines = report(space=space, **search)
    assert "space: 2 points, 1 within params <= 20k, 1 distinct networks" in lines
    assert any("width: no network with 64 is within params <= 20k" in line for line in lines)


@pytest.mark.usefixtures("broken")
def test_every_timm_arm_that_cannot_be_trained_is_listed_with_its_reason() -> None:
    arms = {"a": {}, "fine": "timm:resnet10t"}
    arms |= {f"arm_{failure}": f"timm:broken_{failure}" for failure in FAILURES}
    with pytest.raises(UserError) as caught:
        report(arms=arms)
    message = str(caught.value)
    assert "fine" not in message
    assert "arms.a:" not in message
    for failure, reason in {
        "build": "cannot be built .*KeyError: 'no such size'",
        "forward": "cannot be trained .*IndexError: an index",
        "tuple": "cannot be trained",
        "eval": "cannot be trained .*ZeroDivisionError: division by zero",
        "gradient": "cannot be trained",
        "logits": r"cannot be trained .*\(2, 11\) is no batch of 10 logits",
    }.items():
        line = next(line for line in message.splitlines() if f"arms.arm_{failure}:" in line)
        assert f"timm:broken_{failure} " in line
        assert "1-channel images of 8 pixels" in line
        assert re.search(reason, line)


def test_a_timm_model_that_divides_by_zero_is_refused_by_name() -> None:
    task = DIGITS.model_copy(update={"resolution": 28})
    message = r"timm:gcvit_xxtiny cannot be built for 1-channel images of 28 pixels \(ZeroDivision"
    with pytest.raises(UserError, match=message):
        build_network(TimmModel(timm="gcvit_xxtiny"), task, Recipe())
    with pytest.raises(UserError, match=message):
        subject_cost(TimmModel(timm="gcvit_xxtiny"), task)


@pytest.mark.usefixtures("broken")
def test_a_reference_that_cannot_be_measured_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"reference: .*broken_eval cannot run .*ZeroDivisionError"):
        report(reference="timm:broken_eval")


def test_sizes_of_splits_and_a_batch_larger_than_the_data_are_reported() -> None:
    lines = report(recipe={"use": "short", "epochs": 1, "batch_size": 4096})
    (note,) = [line for line in lines if "batch_size 4096" in line]
    assert "exceeds the 1257 training images; an epoch is one step on all of them" in note
    assert "data: 1257 training, 180 validation and 360 test images" in lines


def test_what_a_folder_holds_and_what_is_left_out_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    for split, count in (("train", 8), ("Valid", 2)):
        for name in "ab":
            (data / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(data / split / name / f"{number}.png")
    (data / "train" / "a" / "._0.png").write_bytes(b"litter")
    (data / "train" / "b" / "notes.txt").write_text("x")
    study = STUDY | {"task": {"data": f"folder:{data}"}}
    lines = [line for line in report(**study) if "data: " in line]
    assert lines == [
        "data: classes: 2 (a, b)",
        "data: carved from the training images: 20 % for test",
        "data: left out, hidden, system and backup files and folders: 1 (train/a/._0.png)",
        "data: left out, files without the suffix of an image: 1 (train/b/notes.txt)",
        "data: 13 training, 4 validation and 3 test images",
    ]
    partialnas.run(study, tmp_path / "out")
    assert lines[2] in capsys.readouterr().err  # `run` says it too


def test_a_trial_training_does_not_change_the_generator_of_torch() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_trainable(TimmModel(timm="resnet10t"), DIGITS, Recipe())
    assert torch.equal(torch.rand(3), expected)


def test_the_reference_is_named_where_it_is_timed() -> None:
    assert any(line.startswith("reference: ") for line in report())
    assert not any(line.startswith("reference: ") for line in report(measure="none"))


def images_in_folders(folder: Path, counts: dict[str, int]) -> Path:
    """Write random images of two classes, `counts` of each in every split."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def test_a_training_of_one_step_is_noted_with_what_to_change(tmp_path: Path) -> None:
    folder = images_in_folders(tmp_path / "data", {"train": 42, "val": 2, "test": 2})
    study = STUDY | {"task": {"data": f"folder:{folder}"}}
    checked = partialnas.check(study, show=str)
    assert (
        "steps: 1 per training (1 epoch of 1); 20 of 84 images left out of each epoch"
        in checked.lines
    )
    (note,) = [note for note in checked.notes if "1 step" in note]
    assert "recipe.batch_size" in note
    assert "recipe.epochs" in note
    recipe = {"use": "short", "epochs": 10, "batch_size": 42}
    enough = partialnas.check(study | {"recipe": recipe}, show=str)
    assert "steps: 20 per training (10 epochs of 2)" in enough.lines
    assert not any("step" in note for note in enough.notes)


def test_steps_are_reported_for_each_recipe_of_a_study() -> None:
    """Of digits, 1257 images are trained on: 19 batches of 64 and 41 images more, or 39 of 32."""
    factors = {"length": {"one": {}, "two": {"recipe.epochs": 2}}}
    ablation = {"design": "one-factor", "baseline": {}, "factors": factors}
    ablation |= {"match": "none", "tolerance": 0.02}
    lines = report(arms={}, ablation=ablation, conditions={
        "large": {"recipe.batch_size": 64}, "small": {"recipe.batch_size": 32},
    })  # fmt: skip
    assert [line for line in lines if line.startswith("steps")] == [
        "steps under large, baseline: 19 per training (1 epoch of 19); "
        "41 of 1,257 images left out of each epoch",
        "steps under large, length=two: 38 per training (2 epochs of 19); "
        "41 of 1,257 images left out of each epoch",
        "steps under small, baseline: 39 per training (1 epoch of 39); "
        "9 of 1,257 images left out of each epoch",
        "steps under small, length=two: 78 per training (2 epochs of 39); "
        "9 of 1,257 images left out of each epoch",
    ]
    notes = [line for line in lines if line.startswith("note: ") and "19 steps" in line]
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("settings", "device", "images", "batches"),
    [
        ({}, "cuda", 45_000, [128]),
        ({}, "cpu", 45_000, []),
        ({}, "cuda", 3_500, []),
        ({"recipe": {"precision": "bfloat16"}}, "cuda", 45_000, []),
        ({"recipe": {"batch_size": 1024}}, "cuda", 45_000, []),
        ({"recipe": {"use": "gpu"}}, "cuda", 45_000, []),
        ({"conditions": {"a": {}, "b": {"recipe.lr": 0.1}}}, "cuda", 45_000, [128]),
        (
            {
                "recipe": {"use": "gpu"},
                "conditions": {
                    "a": {},
                    "b": {"recipe.precision": "float32", "recipe.batch_size": 64},
                },
            },
            "cuda",
            45_000,
            [64],
        ),
    ],
)
def test_trials_on_a_gpu_have_a_recipe_of_their_own(
    settings: dict[str, Any], device: str, images: int, batches: list[int]
) -> None:
    plain = STUDY | {"recipe": {"batch_size": 128}} | settings
    resolved = resolve_study(Study.model_validate(plain), Path())
    splits = replace(load_splits(DIGITS), train_y=np.zeros(images, np.int64))
    notes = [*gpu_notes(resolved, device, lambda _: splits)]
    assert len(notes) == len(batches)
    for size, note in zip(batches, notes, strict=True):
        assert f"batches of {size} images" in note
        assert "recipe: {use: gpu}" in note
