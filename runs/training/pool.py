"""What the training loop needs from the images, or other samples, of a task."""

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from partialnas.runs.config.recipe import Recipe

Row = Mapping[str, Tensor]
"""One step's row of each table of an epoch, by name."""


class Pool(Protocol):
    """One split of a task on a device: its batches, their loss and their evaluation.

    `DeviceSplit` is the pool of image classification. Methods that get a row or a batch run inside
    a step: they neither wait for the device nor copy to it, and draw nothing.
    """

    def __len__(self) -> int:
        """Return the number of samples."""

    @property
    def device(self) -> torch.device:
        """Device of the samples and their batches."""

    def epoch_tables(self, recipe: Recipe, seed: int, epoch: int) -> dict[str, Tensor]:
        """Return all random choices of an epoch: tables with a row per step, on any device.

        Names, shapes and types are the same in all epochs.
        """

    def batch(self, row: Row) -> tuple[Tensor, Tensor]:
        """Return the augmented inputs and targets of a step; both are N x ..., to be divided."""

    def losses(
        self, outputs: Tensor, targets: Tensor, row: Row, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch or a part of it, and the mean that is reported.

        Args:
            outputs: N x ..., outputs of the network.
            targets: N x ..., targets of `batch`.
            row: row of the step.
            smoothing: label smoothing, which counts for the loss only.
        """

    def sequential_batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all inputs and targets in order, without augmentation."""

    def scores(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood of a batch and its correct predictions."""
