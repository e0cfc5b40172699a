"""The splits of a job stay on the device for the next job of the same task."""

import weakref
from dataclasses import replace

import pytest
import torch

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.trials.split_cache import SplitCache

CPU = torch.device("cpu")


def test_the_same_splits_are_moved_once(few_digits: Splits) -> None:
    cache = SplitCache()
    first = cache.get(few_digits, Recipe(), CPU)
    assert cache.get(few_digits, Recipe(epochs=9, lr=0.1), CPU) is first


@pytest.mark.parametrize("settings", [{"data_share": "1/2"}, {"shift": 3}])
def test_other_settings_have_other_splits(settings: dict[str, object], few_digits: Splits) -> None:
    cache = SplitCache()
    first = cache.get(few_digits, Recipe(), CPU)
    recipe = Recipe.model_validate(settings)
    other = cache.get(few_digits, recipe, CPU)
    alone = DeviceSplits.from_splits(few_digits, recipe, CPU)
    assert len(other.train) == len(alone.train)
    assert other.train.border == alone.train.border
    assert (len(other.train), other.train.border) != (len(first.train), first.train.border)


def test_equal_images_of_another_object_are_moved_again(few_digits: Splits) -> None:
    """Comparing the images would take as long as moving them."""
    cache = SplitCache()
    first = cache.get(few_digits, Recipe(), CPU)
    assert cache.get(replace(few_digits), Recipe(), CPU) is not first


def test_the_splits_before_are_released_before_others_are_moved(
    few_digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = SplitCache()
    before = weakref.ref(cache.get(few_digits, Recipe(), CPU))
    move = DeviceSplits.from_splits

    def from_splits(*arguments: object) -> DeviceSplits:
        assert before() is None
        return move(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(DeviceSplits, "from_splits", from_splits)
    cache.get(few_digits, Recipe(shift=2), CPU)


def test_nothing_is_kept_when_the_study_has_released_its_images(few_digits: Splits) -> None:
    cache = SplitCache()
    images = replace(few_digits)
    moved = weakref.ref(cache.get(images, Recipe(), CPU))
    assert moved() is not None
    del images
    assert moved() is None


def test_a_failed_move_keeps_nothing(few_digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SplitCache()
    before = weakref.ref(cache.get(few_digits, Recipe(), CPU))

    def fail(*_: object) -> DeviceSplits:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DeviceSplits, "from_splits", fail)
    with pytest.raises(torch.OutOfMemoryError):
        cache.get(few_digits, Recipe(shift=2), CPU)
    assert before() is None
