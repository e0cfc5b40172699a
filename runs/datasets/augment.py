"""Augmented batches on the training device: crop, shift, flip, normalization, mixup and cutmix.

A split is stored on the device as bytes, each image with a border of zeros. A shifted image is
then a run of consecutive bytes, and a batch is one gather of such runs. All random choices of an
epoch are drawn before its first step, into tables with a row per step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import Splits, subset
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
        index = np.arange(count)
        middle = np.full_like(index, border)
        self._centered = self.crop_offsets(index, middle, middle)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Device of the images and their batches."""
        return self.labels.device

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

    def crop(
        self, starts: Tensor, mirrored: Tensor | None = None, mix: "MixRow | None" = None
    ) -> Tensor:
        """Return normalized N x C x H x W images in channels-last memory from starts of runs.

        Args:
            starts: N starts of runs.
            mirrored: N flags, whether to mirror an image.
            mix: how the batch is mixed with itself.
        """
        height, width, channels = self._shape
        rows = self._runs.index_select(0, starts).view(len(starts), height, -1, channels)
        images = rows[:, :, :width]
        if mirrored is not None:
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(2), images)
        floats = images.to(torch.float32, memory_format=torch.contiguous_format)
        flat = floats.view(len(starts), -1).sub_(self._mean).mul_(self._scale)
        if mix is not None:
            floats = mix.images(flat.view(len(starts), height, -1)).view(floats.shape)
        return floats.permute(0, 3, 1, 2)

    def epoch_tables(self, recipe: Recipe, seed: int, epoch: int) -> dict[str, Tensor]:
        """See `Pool.epoch_tables`."""
        height, _, channels = self._shape
        draws = draw_epoch(recipe, len(self), height, seed, epoch)
        labels = self.labels[torch.from_numpy(draws.index).to(self.device, non_blocking=True)]
        tables = {"starts": self.crop_offsets(draws.index, draws.top, draws.left)}
        if draws.mirrored is not None:
            tables["mirrored"] = torch.from_numpy(draws.mirrored)
        if draws.mixes is not None:
            tables |= draws.mixes.tables(height, channels)
            labels = torch.stack((labels, labels.flip(1)), dim=2)
        return tables | {"labels": labels}

    def batch(self, row: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return augmented images and their labels: N, or N x 2 if the batch is mixed."""
        mix = None
        if "mix_weight" in row:
            mix = MixRow(row["mix_weight"], row["mix_columns"], row["unmixed_rows"])
        return self.crop(row["starts"], row.get("mirrored"), mix), row["labels"]

    def losses(
        self, logits: Tensor, labels: Tensor, row: Mapping[str, Tensor], smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the negative log-likelihood; only the former has smoothed labels."""
        likelihoods = functional.log_softmax(logits.float(), dim=1)
        if labels.dim() == 1:
            nll = functional.nll_loss(likelihoods, labels)
        else:
            first, second = labels.unbind(1)
            nll = functional.nll_loss(likelihoods, first)
            other = functional.nll_loss(likelihoods, second)
            nll = torch.lerp(other, nll, row["mix_weight"])
        loss = torch.lerp(nll, -likelihoods.mean(), smoothing) if smoothing else nll
        return loss, nll.detach()

    def scores(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the negative log-likelihoods and the number of correct images."""
        logits = logits.float()
        nll = functional.cross_entropy(logits, labels, reduction="sum")
        return nll, (logits.argmax(1) == labels).sum()

    def sequential_batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images and labels in order, in batches without augmentation."""
        for first in range(0, len(self), batch_size):
            part = slice(first, first + batch_size)
            yield self.crop(self._centered[part]), self.labels[part]


class MixRow(NamedTuple):
    """How a batch is mixed with itself in reverse order.

    Attributes:
        weight: weight of the first image's label.
        columns: weights of the first image in the rows of pixels that are mixed, for W * C values.
        unmixed_rows: H flags, whether a row of pixels is not mixed.
    """

    weight: Tensor
    columns: Tensor
    unmixed_rows: Tensor

    def images(self, x: Tensor) -> Tensor:
        """Return the mixed images N x H x (W * C)."""
        weights = self.columns.expand(x.shape[1:]).masked_fill(self.unmixed_rows[:, None], 1.0)
        return torch.lerp(x.flip(0), x, weights)


@dataclass(frozen=True)
class MixTable:
    """Mixes of the batches of an epoch: of a box, or of whole images.

    Attributes:
        weights: steps, weight of the first image's label as float32.
        boxes: steps x 4, first and last (exclusive) row and column of the box that is mixed.
        inside: steps, weight of the first image inside the box: 0 pastes the other image.
    """

    weights: NDArray[np.float32]
    boxes: NDArray[np.int64]
    inside: NDArray[np.float32]

    def tables(self, resolution: int, channels: int) -> dict[str, Tensor]:
        """Return the tables of the fields of `MixRow`."""
        pixels = np.arange(resolution)
        top, bottom, left, right = self.boxes.T[:, :, None]
        across = (pixels >= left) & (pixels < right)
        columns = np.where(across, self.inside[:, None], np.float32(1))
        tables = {
            "mix_weight": self.weights,
            "mix_columns": columns.repeat(channels, axis=1),
            "unmixed_rows": (pixels < top) | (pixels >= bottom),
        }
        return {name: torch.from_numpy(table) for name, table in tables.items()}


@dataclass(frozen=True)
class Epoch:
    """Random choices of one epoch, steps x batch size.

    Attributes:
        index: images.
        top: rows of the border above the crop.
        left: columns of the border left of the crop.
        mirrored: whether the image is mirrored; None if the recipe does not flip.
        mixes: mix of each batch; None if the recipe does not mix.
    """

    index: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    mirrored: NDArray[np.bool_] | None
    mixes: MixTable | None


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
) -> MixTable | None:
    kinds = [kind for kind in ((recipe.mixup, False), (recipe.cutmix, True)) if kind[0] > 0]
    if not kinds:
        return None
    whole = (0, resolution, 0, resolution)
    weights = np.empty(steps, dtype=np.float32)
    boxes = np.full((steps, 4), whole)
    inside = np.zeros(steps, dtype=np.float32)
    for step, kind in enumerate(generator.integers(len(kinds), size=steps)):
        alpha, pasted = kinds[kind]
        weight = float(generator.beta(alpha, alpha))
        if pasted:
            boxes[step] = top, bottom, left, right = _draw_box(weight, resolution, generator)
            weights[step] = 1 - (bottom - top) * (right - left) / resolution**2
        else:
            weights[step] = inside[step] = weight
    return MixTable(weights, boxes, inside)


def _draw_box(
    weight: float, resolution: int, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a box with an area of about 1 - weight, clipped to the image (arXiv 1905.04899)."""
    side = int(resolution * np.sqrt(1 - weight))
    ends: list[int] = []
    for center in generator.integers(resolution, size=2).tolist():
        start = max(center - side // 2, 0)
        ends += start, min(center - side // 2 + side, resolution)
    top, bottom, left, right = ends
    return top, bottom, left, right


@dataclass(frozen=True)
class DeviceSplits:
    """The three splits on the training device."""

    train: DeviceSplit
    val: DeviceSplit
    test: DeviceSplit

    @classmethod
    def from_splits(cls, splits: Splits, recipe: Recipe, device: torch.device) -> "DeviceSplits":
        """Move the splits to a device, with the recipe's share of the training images.

        The training images have a border for its shifts.
        """
        splits = subset(splits, recipe.data_share)
        border = recipe.shift_at(splits.train_x.shape[-1])
        return cls(
            DeviceSplit(splits.train_x, splits.train_y, splits, border, device),
            DeviceSplit(splits.val_x, splits.val_y, splits, 0, device),
            DeviceSplit(splits.test_x, splits.test_y, splits, 0, device),
        )
