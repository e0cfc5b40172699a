"""The splits of the latest job stay on the device, for the next job of the same task."""

import weakref
from fractions import Fraction
from typing import NamedTuple

import torch

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits


class _Settings(NamedTuple):
    """What the splits on a device depend on, besides the images."""

    data_share: Fraction
    border: int
    device: torch.device


class SplitCache:
    """One set of splits on a device, as long as its source is in use.

    The next set replaces it before it is moved to the device, so that the memory of a job does not
    depend on the job before.
    """

    def __init__(self) -> None:
        self._source: weakref.ref[Splits] | None = None
        self._settings: _Settings | None = None
        self._data: DeviceSplits | None = None

    def get(self, splits: Splits, recipe: Recipe, device: torch.device) -> DeviceSplits:
        """Return splits on a device: those of the last call if source and settings are the same.

        Splits are the same if they are one object, because their arrays never change.
        """
        border = recipe.shift_at(splits.train_x.shape[-1])
        settings = _Settings(recipe.data_share, border, device)
        is_same = self._source is not None and self._source() is splits
        if self._data is None or not is_same or settings != self._settings:
            self.clear()
            self._data = DeviceSplits.from_splits(splits, recipe, device)
            self._source = weakref.ref(splits, lambda _: self.clear())
            self._settings = settings
        return self._data

    def clear(self) -> None:
        """Release the splits."""
        self._source = self._settings = self._data = None


SPLIT_CACHE = SplitCache()
"""The splits of this process's latest job."""
