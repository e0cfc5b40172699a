"""One step of a training: the same operations whether it runs eagerly or is captured as a graph."""

from contextlib import nullcontext
from functools import reduce

import torch
from torch import Tensor, nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.devices.precision import autocast
from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.runs.training.lr_schedule import set_learning_rate
from partialnas.runs.training.pool import Pool, Row
from partialnas.runs.training.weight_average import WeightAverage


class TrainingStep:
    """A step of the optimizer, and of the average of the weights.

    Args:
        network: network in training mode.
        optimizer: optimizer of its weights.
        scaler: scaler of float16's gradients, disabled for other precisions.
        average: average of the weights; None for no average.
        learner: learner of the network's ratios; None if it has no learned ratios.
        recipe: recipe of the training.
        pool: pool of the batches.
        micro_batches: parts of a batch that go through the network one by one.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        average: WeightAverage | None,
        learner: RatioLearner | None,
        recipe: Recipe,
        pool: Pool,
        micro_batches: int,
    ) -> None:
        self._network, self._optimizer, self._scaler = network, optimizer, scaler
        self._average, self._learner = average, learner
        self._recipe, self._pool, self._micro_batches = recipe, pool, micro_batches

    def __call__(self, row: Row, rate: float | Tensor, average_share: float | Tensor) -> Tensor:
        """Run the step, and return the loss of its batch without label smoothing.

        Args:
            row: row of the step, for the batch.
            rate: learning rate, a scalar of the host or the device.
            average_share: share of the new weights in the average, likewise.
        """
        set_learning_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        batch = self._pool.batch(row)
        parts = zip(*(whole.tensor_split(self._micro_batches) for whole in batch), strict=True)
        shares = [self._add_gradients(x, y, row, len(batch[0])) for x, y in parts]
        if self._recipe.clip_grad:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._network.parameters(), self._recipe.clip_grad)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update(average_share)
        return reduce(torch.add, shares)

    def _add_gradients(self, inputs: Tensor, targets: Tensor, row: Row, batch_size: int) -> Tensor:
        """Add the gradients of a part of the batch, and return its share of the batch's loss."""
        learner = self._learner
        with learner.detached_kernels() if learner else nullcontext():
            with autocast(inputs.device, self._recipe.precision):
                outputs = self._network(inputs)
            loss, reported = self._pool.losses(outputs, targets, row, self._recipe.label_smoothing)
            if len(inputs) < batch_size:
                share = len(inputs) / batch_size
                loss, reported = loss * share, reported * share
            self._scaler.scale(loss).backward()
        return reported
