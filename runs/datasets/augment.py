"""Augmented batches on the training device: crop, shift, flip, normalization, mixup and cutmix.

A split is stored on the device as bytes, each image with a border of zeros. A shifted image is
then a run of consecutive bytes, and a batch is one gather of such runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.system.seeding import make_generator


class DeviceSplit:
    """Images of one split on a device.

    Args:
        x: images N x C x H x W.
        y: labels.
        splits: splits with the mean and deviation for normalization.
        border: width of the border of zeros, which is the largest possible shift.
        device: device of the images and their batches.
    """

    def __init__(
        self,
        x: NDArray[np.uint8],
        y: NDArray[np.int64],
        splits: Splits,
        border: int,
        device: torch.device,
    ) -> None:
        self.border = border
        count, channels, height, width = x.shape
        self._shape = (height, width, channels)
        self._row = (width + 2 * border) * channels
        self._image = (height + 2 * border) * self._row
        # The run of the last image may extend past its end by less than a row.
        flat = np.zeros(count * self._image + self._row, dtype=np.uint8)
        framed = flat[: count * self._image].reshape(count, -1, width + 2 * border, channels)
        inside = slice(border, border + height), slice(border, border + width)
        framed[:, *inside] = x.transpose(0, 2, 3, 1)
        run = height * self._row
        pixels = torch.from_numpy(flat).to(device, non_blocking=True)
        self._runs = pixels.as_strided((len(flat) - run + 1, run), (1, 1))
        self.labels = torch.from_numpy(y.copy()).to(device, non_blocking=True)
        self._mean = self._tiled(255 * splits.mean, device)
        self._scale = self._tiled(1 / (255 * splits.std), device)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return int(self._shape[0])

    def _tiled(self, values: NDArray[np.floating[Any]], device: torch.device) -> Tensor:
        height, width, _ = self._shape
        return torch.from_numpy(np.tile(values.astype(np.float32), height * width)).to(device)

    def crop_offsets(
        self, index: NDArray[np.int64], top: NDArray[np.int64], left: NDArray[np.int64]
    ) -> Tensor:
        """Return the starts of the runs of images, `top` and `left` pixels into the border."""
        where = index * self._image + top * self._row + left * self._shape[2]
        return torch.from_numpy(where).to(self.labels.device, non_blocking=True)

    def crop(self, starts: Tensor, mirrored: Tensor | None = None) -> Tensor:
        """Return normalized N x C x H x W images in channels-last memory from starts of runs."""
        height, width, channels = self._shape
        rows = self._runs.index_select(0, starts).view(len(starts), height, -1, channels)
        images = rows[:, :, :width]
        if mirrored is not None:
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(2), images)
        floats = images.to(torch.float32, memory_format=torch.contiguous_format)
        floats.view(len(starts), -1).sub_(self._mean).mul_(self._scale)
        return floats.permute(0, 3, 1, 2)

    def sequential_batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images and labels in order, in batches without augmentation."""
        index = np.arange(len(self))
        middle = np.full_like(index, self.border)
        starts = self.crop_offsets(index, middle, middle)
        for first in range(0, len(self), batch_size):
            part = slice(first, first + batch_size)
            yield self.crop(starts[part]), self.labels[part]


class BatchMix(NamedTuple):
    """How a batch is mixed with itself in reverse order.

    Attributes:
        weight: weight of the first image, a float32.
        box: rows and columns that the other image fills (cutmix); None blends all pixels (mixup).
    """

    weight: float
    box: tuple[slice, slice] | None = None

    def images(self, x: Tensor) -> Tensor:
        """Return the mixed batch; `x` may change."""
        if self.weight == 1:
            return x
        if self.box is None:
            return torch.lerp(x.flip(0), x, self.weight)
        rows, columns = self.box
        x[:, :, rows, columns] = x.flip(0)[:, :, rows, columns]
        return x


@dataclass(frozen=True)
class Epoch:
    """Random choices of one epoch, steps x batch size.

    Attributes:
        index: images.
        top: rows of the border above the crop.
        left: columns of the border left of the crop.
        mirrored: whether the image is mirrored; None if the recipe does not flip.
        mixes: mix of each batch.
    """

    index: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    mirrored: NDArray[np.bool_] | None
    mixes: list[BatchMix]

    def batches(self, pool: DeviceSplit) -> Iterator[tuple[Tensor, Tensor, BatchMix]]:
        """Yield the images, labels and mix of each batch."""
        device = pool.labels.device
        starts = pool.crop_offsets(self.index, self.top, self.left)
        labels = pool.labels[torch.from_numpy(self.index).to(device, non_blocking=True)]
        mirrored = None if self.mirrored is None else torch.from_numpy(self.mirrored).to(device)
        for step, mix in enumerate(self.mixes):
            images = pool.crop(starts[step], None if mirrored is None else mirrored[step])
            yield mix.images(images), labels[step], mix


def epoch_shape(count: int, batch_size: int) -> tuple[int, int]:
    """Return the steps of an epoch over `count` images and the size of all its batches."""
    size = min(count, batch_size)
    return count // size, size


def draw_epoch(recipe: Recipe, count: int, resolution: int, seed: int, epoch: int) -> Epoch:
    """Draw the random choices of one epoch; each purpose has a separate generator."""
    shape = epoch_shape(count, recipe.batch_size)
    order = make_generator(seed, epoch, "order").permutation(count)
    border = recipe.shift_at(resolution)
    top, left = make_generator(seed, epoch, "shift").integers(0, 2 * border + 1, (2, *shape))
    mirrored = make_generator(seed, epoch, "flip").random(shape) < 0.5 if recipe.flip else None
    mixes = _draw_mixes(recipe, shape[0], resolution, make_generator(seed, epoch, "mix"))
    return Epoch(order[: shape[0] * shape[1]].reshape(shape), top, left, mirrored, mixes)


def _draw_mixes(
    recipe: Recipe, steps: int, resolution: int, generator: np.random.Generator
) -> list[BatchMix]:
    kinds = [kind for kind in ((recipe.mixup, False), (recipe.cutmix, True)) if kind[0] > 0]
    if not kinds:
        return [BatchMix(1.0)] * steps
    mixes = []
    for kind in generator.integers(len(kinds), size=steps):
        alpha, pasted = kinds[kind]
        weight = float(generator.beta(alpha, alpha))
        mix = _box(weight, resolution, generator) if pasted else BatchMix(weight)
        mixes.append(mix._replace(weight=float(np.float32(mix.weight))))
    return mixes


def _box(weight: float, resolution: int, generator: np.random.Generator) -> BatchMix:
    """Draw a box with an area of about 1 - weight, clipped to the image (arXiv 1905.04899)."""
    side = int(resolution * np.sqrt(1 - weight))
    spans = []
    for center in generator.integers(resolution, size=2).tolist():
        start = max(center - side // 2, 0)
        spans.append(slice(start, min(center - side // 2 + side, resolution)))
    area = (spans[0].stop - spans[0].start) * (spans[1].stop - spans[1].start)
    return BatchMix(1 - area / resolution**2, (spans[0], spans[1]))
