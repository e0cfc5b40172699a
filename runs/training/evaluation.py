"""Evaluation of a network on a pool."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.devices.precision import autocast
from partialnas.runs.training.graph import StepGraph
from partialnas.runs.training.pool import Pool

_EVALUATION_BATCHES = 4  # training batches per evaluation batch, which needs no gradients


class Evaluation(NamedTuple):
    """Mean negative log-likelihood in nats, and accuracy in percent."""

    nll: float
    accuracy: float


class Evaluator:
    """Evaluates one network again and again; whole batches may be replays of a graph.

    Args:
        network: network on its device.
        recipe: recipe with the batch size and the precision.
        device: device of the network and the pools.
        micro_batches: parts of a training batch.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, device: torch.device, micro_batches: int = 1
    ) -> None:
        self._network, self._device, self._precision = network, device, recipe.precision
        self._size = max(_EVALUATION_BATCHES * recipe.batch_size // micro_batches, 1)
        self._nll = torch.zeros((), dtype=torch.float64, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._batch: tuple[Tensor, Tensor] | None = None
        self._graph: StepGraph | None = None

    def evaluate(self, pool: Pool, *, by_graph: bool = False) -> Evaluation:
        """Return the means over all samples of a pool.

        Args:
            pool: pool of the task.
            by_graph: whether whole batches may be captured: from now on, the network computes the
                same operations (see `StepGraph`).
        """
        self._nll.zero_()
        self._correct.zero_()
        self._network.eval()
        with torch.inference_mode():
            for batch in pool.sequential_batches(self._size):
                if by_graph and len(batch[0]) == self._size:
                    self._add_by_graph(pool, batch)
                else:
                    self._add(pool, batch)
        return Evaluation(float(self._nll) / len(pool), 100 * int(self._correct) / len(pool))

    def _add(self, pool: Pool, batch: tuple[Tensor, Tensor]) -> None:
        inputs, targets = batch
        with autocast(self._device, self._precision):
            outputs = self._network(inputs)
        nll, correct = pool.scores(outputs, targets)
        self._nll += nll
        self._correct += correct

    def _add_by_graph(self, pool: Pool, batch: tuple[Tensor, Tensor]) -> None:
        if self._batch is None or self._graph is None:
            self._batch = batch[0].clone(), batch[1].clone()
            self._graph = StepGraph(self._device)
        for fixed, values in zip(self._batch, batch, strict=True):
            fixed.copy_(values)
        self._graph(partial(self._add, pool, self._batch))


def evaluate(network: nn.Module, pool: Pool, recipe: Recipe, micro_batches: int = 1) -> Evaluation:
    """Return mean negative log-likelihood in nats and accuracy in percent over all samples."""
    return Evaluator(network, recipe, pool.device, micro_batches).evaluate(pool)
