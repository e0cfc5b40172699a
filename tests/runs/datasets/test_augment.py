from typing import Any

import numpy as np
import pytest
import timm.data.mixup
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.mixup import Mixup
from torch import Tensor
from torch.nn import functional

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplit, MixRow, draw_epoch
from partialnas.runs.datasets.loaders import Splits

CPU = torch.device("cpu")
BLACK = -2  # a normalized pixel of level 0 if the mean is two deviations


def pool_of(count: int, channels: int, side: int, border: int, seed: int = 0) -> DeviceSplit:
    chance = np.random.default_rng(seed)
    x = chance.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    y = np.arange(count)
    mean = np.linspace(0.2, 0.6, channels, dtype=np.float32)
    splits = Splits(x, y, x, y, x, y, mean=mean, std=mean / 2)
    return DeviceSplit(x, y, splits, border, CPU)


def originals(pool: DeviceSplit) -> Tensor:
    return torch.cat([x for x, _ in pool.sequential_batches(7)])


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(0, 5))
def test_a_crop_matches_a_slice_of_the_padded_image(
    data: st.DataObject, channels: int, side: int, border: int
) -> None:
    pool = pool_of(6, channels, side, border)
    offsets = st.lists(st.integers(0, 2 * border), min_size=4, max_size=4)
    index = np.array(data.draw(st.lists(st.integers(0, 5), min_size=4, max_size=4)))
    top, left = (np.array(data.draw(offsets)) for _ in range(2))
    mirrored = torch.tensor(data.draw(st.lists(st.booleans(), min_size=4, max_size=4)))
    images_out = pool.crop(pool.crop_offsets(index, top, left), mirrored)

    padded = functional.pad(originals(pool), [border] * 4, value=BLACK)
    for number, image in enumerate(images_out):
        y, x = top[number], left[number]
        expected = padded[index[number], :, y : y + side, x : x + side]
        if mirrored[number]:
            expected = expected.flip(2)
        torch.testing.assert_close(image, expected, atol=1e-5, rtol=1e-5)


def test_images_are_normalized_and_channels_last() -> None:
    chance = np.random.default_rng(0)
    x = chance.integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    scaled = x / 255.0
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
    y = np.arange(50)
    splits = Splits(x, y, x, y, x, y, mean=mean.astype(np.float32), std=std.astype(np.float32))
    pool = DeviceSplit(x, y, splits, 2, CPU)
    batches = torch.cat([images for images, _ in pool.sequential_batches(9)])
    expected = (scaled - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(batches.numpy(), expected, atol=1e-5)
    (first, _), *_ = pool.sequential_batches(50)
    assert first.is_contiguous(memory_format=torch.channels_last)


@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 5))
def test_an_epoch_has_no_image_twice_and_full_batches(
    count: int, batch_size: int, epoch: int
) -> None:
    plan = draw_epoch(Recipe(batch_size=batch_size), count, 28, 0, epoch)
    size = min(count, batch_size)
    assert plan.index.shape == (count // size, size)
    assert len(np.unique(plan.index)) == plan.index.size
    assert plan.index.min() >= 0
    assert plan.index.max() < count


def test_epochs_and_seeds_have_different_orders() -> None:
    orders = [draw_epoch(Recipe(), 640, 28, s, e).index for s in range(3) for e in range(3)]
    assert len({order.tobytes() for order in orders}) == 9


def test_the_order_does_not_depend_on_other_draws() -> None:
    plain = draw_epoch(Recipe(), 640, 28, 1, 2)
    rich = draw_epoch(Recipe(shift=4, flip=True, mixup=0.2, cutmix=1), 640, 28, 1, 2)
    np.testing.assert_array_equal(plain.index, rich.index)


def test_shifts_and_flips_are_uniform() -> None:
    plan = draw_epoch(Recipe(shift=2, flip=True), 64_000, 28, 0, 0)
    for offsets in (plan.top, plan.left):
        assert np.abs(np.bincount(offsets.ravel()) / 64_000 - 1 / 5).max() < 0.01
    assert plan.mirrored is not None
    assert abs(plan.mirrored.mean() - 0.5) < 0.01


def steps_of(pool: DeviceSplit, recipe: Recipe) -> list[dict[str, Tensor]]:
    tables = pool.epoch_tables(recipe, 0, 0)
    return [{name: table[step] for name, table in tables.items()} for step in range(3)]


def test_batches_match_the_draws() -> None:
    pool = pool_of(30, 1, 6, 1)
    recipe = Recipe(batch_size=8, shift=1, flip=True)
    plan = draw_epoch(recipe, 30, 6, 0, 0)
    for step, row in enumerate(steps_of(pool, recipe)):
        x, y = pool.batch(row)
        assert y.tolist() == plan.index[step].tolist()
        starts = pool.crop_offsets(plan.index[step], plan.top[step], plan.left[step])
        assert plan.mirrored is not None
        assert torch.equal(x, pool.crop(starts, torch.from_numpy(plan.mirrored[step])))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_batches_match_timm(
    kind: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timm gets the weights that were drawn, and for CutMix the boxes."""
    pool = pool_of(30, channels, 6, 1)
    recipe = Recipe.model_validate({"batch_size": 8, "shift": 1, kind: 1.0})
    plan, plain = draw_epoch(recipe, 30, 6, 0, 0), recipe.model_copy(update={kind: 0.0})
    assert plan.mixes is not None
    rows = zip(steps_of(pool, recipe), steps_of(pool, plain), strict=True)
    for step, (row, plain_row) in enumerate(rows):
        weight, box = float(plan.mixes.weights[step]), plan.mixes.boxes[step].tolist()
        theirs: Any = Mixup(mixup_alpha=1.0, num_classes=30, label_smoothing=0.1)
        monkeypatch.setattr(theirs, "_params_per_batch", lambda w=weight: (w, kind == "cutmix"))
        monkeypatch.setattr(
            timm.data.mixup, "cutmix_bbox_and_lam", lambda *_, b=box, w=weight, **__: (b, w)
        )
        x, y = pool.batch(plain_row)
        mixed, target = theirs(x.clone(), y)
        images, labels = pool.batch(row)
        torch.testing.assert_close(images, mixed)

        logits = torch.randn(8, 30)
        loss, nll = pool.losses(logits, labels, row, 0.1)
        torch.testing.assert_close(loss, -(target * logits.log_softmax(1)).sum(1).mean())
        assert torch.equal(nll, pool.losses(logits, labels, row, 0.0)[0])


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(1, 40))
def test_a_pasted_box_has_the_area_of_its_weight(epoch: int, side: int) -> None:
    recipe = Recipe(batch_size=4, cutmix=1.0)
    mixes = draw_epoch(recipe, 16, side, 0, epoch).mixes
    assert mixes is not None
    tables = mixes.tables(side, 2)
    mix = MixRow(*(tables[name][0] for name in ("mix_weight", "mix_columns", "unmixed_rows")))
    x = torch.zeros(4, side, side * 2)
    x[2:] = 1
    pasted = mix.images(x) != x
    assert pasted.double().mean().item() == pytest.approx(1 - float(mix.weight), abs=1e-7)


def test_weights_follow_their_beta_distribution_and_both_kinds_occur() -> None:
    recipe = Recipe(batch_size=2, mixup=0.4, cutmix=1.0)
    mixes = draw_epoch(recipe, 8000, 28, 0, 0).mixes
    assert mixes is not None
    plain = mixes.weights[mixes.inside > 0]
    assert abs(len(plain) / len(mixes.weights) - 0.5) < 0.03
    assert abs(plain.mean() - 0.5) < 0.02
    assert plain.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.05)


def test_nothing_is_mixed_by_default() -> None:
    assert draw_epoch(Recipe(), 640, 28, 0, 0).mixes is None
