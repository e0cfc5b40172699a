"""The training loop: deterministic epochs that can be interrupted and resumed bit for bit."""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import BatchMix, DeviceSplit, draw_epoch, epoch_shape
from partialnas.runs.datasets.loaders import Splits, subset
from partialnas.runs.ratio_learning import tracking
from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.runs.records.record import CurveRow, RatioEpoch
from partialnas.runs.system.precision import autocast
from partialnas.runs.system.seeding import derive_seed, seeded
from partialnas.runs.training.lr_schedule import learning_rate, set_learning_rate
from partialnas.runs.training.optimizer import make_optimizer
from partialnas.runs.training.outcome import TrialEndedError, ratio_metrics
from partialnas.space.nn.network import Network

_EVALUATION_BATCHES = 4  # training batches per evaluation batch, which needs no gradients
_CHECK_EVERY = 50  # steps between checks of the loss, which wait for the device


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


class Training:
    """A training run that can be saved after each epoch and resumed bit for bit.

    Args:
        network: network with its initial weights; moved to the device of the images and trained in
            place.
        recipe: recipe of the training; its `epochs` are not used.
        epochs: epochs of the whole schedule.
        seed: seed of all randomness.
        data: images on the device of the training.
        micro_batches: parts of a batch that go through the network one by one, their gradients
            added up, to save memory. Batch norms see one part at a time, and input-dependent ratios
            follow their budget by the last part.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        epochs: int,
        seed: int,
        data: DeviceSplits,
        *,
        micro_batches: int = 1,
    ) -> None:
        self.recipe, self.epochs, self.seed, self.data = recipe, epochs, seed, data
        self.micro_batches = micro_batches
        self.device = device = data.train.labels.device
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(network, recipe)
        self.average = (
            ModelEmaV3(network, decay=recipe.ema, use_warmup=True) if recipe.ema else None
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
        self.curve: list[CurveRow] = []
        self.trunk_epochs = 0
        self._steps = epoch_shape(len(data.train), recipe.batch_size)[0]
        self.ratio_learner = tracking.make_ratio_learner(
            network, data.train.resolution, epochs * self._steps, recipe.ratio_freeze
        )
        self.ratio_rows: list[RatioEpoch] = []

    @property
    def evaluated_network(self) -> nn.Module:
        """The network that is evaluated and saved: the weight average if there is one.

        Its learned ratios are those of the trained network: sizes are not averaged.
        """
        if self.average is None:
            return self.network
        average: nn.Module = self.average.module
        if self.ratio_learner is not None:
            self.ratio_learner.copy_to(average)
        return average

    @property
    def seconds(self) -> float:
        """Seconds of all epochs, including those before an interruption.

        Epochs of a trunk, which a shorter run trained, do not count.
        """
        return sum(row["seconds"] for row in self.curve[self.trunk_epochs :])

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next epoch depends on, as tensors and plain data."""
        return {
            "micro_batches": self.micro_batches,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "scaler": self.scaler.state_dict(),
            "curve": self.curve,
            "taken": self.trunk_epochs,
            "ratios": None if self.ratio_learner is None else self.ratio_learner.state_dict(),
            "ratio_rows": [row.model_dump(mode="json") for row in self.ratio_rows],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `state_dict`.

        Raises:
            Exception: Any error if the state belongs to another run. This run is then unusable.
        """
        self.micro_batches = state["micro_batches"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.scaler.load_state_dict(state["scaler"])
        self.curve = [dict(row) for row in state["curve"]]
        self.trunk_epochs = int(state["taken"])
        if self.ratio_learner is not None:
            self.ratio_learner.load_state_dict(state["ratios"])
            self.ratio_rows = [RatioEpoch.model_validate(row) for row in state["ratio_rows"]]

    def resume_from_trunk(self, trunk: dict[str, Any]) -> None:
        """Resume from the point at which a shorter run began to cool down.

        Raises:
            Exception: See `load_state_dict`.
        """
        self.load_state_dict(trunk)
        self.trunk_epochs = len(self.curve)

    def run_epoch(self, limit_s: float = math.inf) -> CurveRow:
        """Train for one epoch, evaluate, and add the row to the curve.

        Args:
            limit_s: seconds that all epochs together may take.

        Raises:
            TrialEndedError: The loss is not finite, or the time limit is reached.
        """
        started = time.perf_counter()
        epoch = len(self.curve)
        with seeded(derive_seed(self.seed, epoch, "network"), self.device):
            train_nll = self._train(epoch, limit_s, started - self.seconds)
        last = epoch + 1 == self.epochs
        if self.ratio_learner is not None and last:
            tracking.calibrate_to_budget(self.ratio_learner, self.evaluated_network, self.data.val)
        val_nll, val_accuracy = self._evaluate(self.data.val)
        if not math.isfinite(val_nll):
            reason = f"validation loss became {_non_finite_name(val_nll)} in epoch {epoch + 1}"
            raise TrialEndedError("failed", reason)
        row = {
            "epoch": epoch + 1,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_nll": train_nll,
            "val_nll": val_nll,
            "val_accuracy": val_accuracy,
            "seconds": time.perf_counter() - started,
        }
        self.curve.append(row)
        if self.ratio_learner is not None:
            self._add_ratio_row(self.ratio_learner, epoch, last=last)
        return row

    def _add_ratio_row(self, ratios: RatioLearner, epoch: int, *, last: bool) -> None:
        network, val = self.evaluated_network, self.data.val
        assert isinstance(network, Network)  # no other network learns ratios
        frozen = epoch * self._steps < ratios.freeze_step <= (epoch + 1) * self._steps
        row = tracking.ratio_epoch(ratios, network, val, epoch + 1, frozen=frozen, last=last)
        self.ratio_rows.append(row)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the finished run; the test split is used only here.

        `train_nll` is that of the last epoch, over augmented batches during training.
        """
        test_nll, test_accuracy = self._evaluate(self.data.test)
        last = self.curve[-1]
        return {
            **{key: last[key] for key in ("val_accuracy", "val_nll", "train_nll")},
            "test_accuracy": test_accuracy,
            "test_nll": test_nll,
            **ratio_metrics(self.ratio_rows),
        }

    def _train(self, epoch: int, limit_s: float, started: float) -> float:
        """Train for one epoch, and return the mean negative log-likelihood of its steps."""
        train = self.data.train
        plan = draw_epoch(self.recipe, len(train), train.resolution, self.seed, epoch)
        steps = len(plan.mixes)
        losses: list[Tensor] = []
        self.network.train()
        for number, (x, y, mix) in enumerate(plan.batches(train), start=epoch * steps):
            rate = learning_rate(self.recipe, number, self.epochs * steps)
            set_learning_rate(self.optimizer, rate)
            scale = 1.0
            if self.ratio_learner is not None:
                self.ratio_learner.update_boundaries(number)
                scale = self.scaler.get_scale()
            losses.append(self._step(x, y, mix))
            if self.ratio_learner is not None:
                self.ratio_learner.update_sizes(number, scale)
            if self.average is not None:
                self.average.update(self.network, step=number + 1)
            if len(losses) % _CHECK_EVERY == 0:
                _check(losses, epoch)
            if time.perf_counter() - started > limit_s:
                where = f"epoch {epoch + 1} (step {len(losses)})"
                raise TrialEndedError("timeout", f"time limit of {limit_s:g} s reached in {where}")
        _check(losses, epoch)
        if self.ratio_learner is not None:
            self.ratio_learner.update_boundaries((epoch + 1) * steps)
        return float(torch.stack(losses).double().mean())

    def _step(self, x: Tensor, y: Tensor, mix: BatchMix) -> Tensor:
        """Run one optimizer step, and return the loss of the batch without label smoothing."""
        self.optimizer.zero_grad(set_to_none=True)
        mixed_in = y.flip(0) if mix.weight < 1 else y
        divided = [whole.tensor_split(self.micro_batches) for whole in (x, y, mixed_in)]
        shares: list[Tensor] = []
        for part in zip(*divided, strict=True):
            with self.ratio_learner.detached_kernels() if self.ratio_learner else nullcontext():
                shares.append(self._add_gradients(*part, weight=mix.weight, batch_size=len(x)))
        nll = reduce(torch.add, shares)
        if self.recipe.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return nll

    def _add_gradients(
        self, x: Tensor, y: Tensor, mixed_in: Tensor, *, weight: float, batch_size: int
    ) -> Tensor:
        """Add the gradients of a part of the batch, and return its share of the batch's loss."""
        with autocast(self.device, self.recipe.precision):
            logits = self.network(x)
        likelihoods = functional.log_softmax(logits.float(), dim=1)
        nll = functional.nll_loss(likelihoods, y)
        if weight < 1:
            nll = torch.lerp(functional.nll_loss(likelihoods, mixed_in), nll, weight)
        loss = nll
        if self.recipe.label_smoothing:
            loss = torch.lerp(nll, -likelihoods.mean(), self.recipe.label_smoothing)
        share = len(x) / batch_size
        self.scaler.scale(loss * share).backward()
        return nll.detach() * share

    def _evaluate(self, pool: DeviceSplit) -> tuple[float, float]:
        return evaluate(self.evaluated_network, pool, self.recipe, self.micro_batches)


def evaluate(
    network: nn.Module, pool: DeviceSplit, recipe: Recipe, micro_batches: int = 1
) -> tuple[float, float]:
    """Return mean negative log-likelihood in nats and accuracy in percent over all images."""
    size = max(_EVALUATION_BATCHES * recipe.batch_size // micro_batches, 1)
    device = pool.labels.device
    nll = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    network.eval()
    with torch.inference_mode(), autocast(device, recipe.precision):
        for x, y in pool.sequential_batches(size):
            logits = network(x).float()
            nll += functional.cross_entropy(logits, y, reduction="sum")
            correct += (logits.argmax(1) == y).sum()
    return float(nll) / len(pool), 100 * int(correct) / len(pool)


def _check(losses: list[Tensor], epoch: int) -> None:
    """Raise `TrialEndedError` at the first loss that is not finite."""
    values = torch.stack(losses)
    if not torch.isfinite(values).all():
        step = int((~torch.isfinite(values)).nonzero()[0])
        name = _non_finite_name(float(values[step]))
        reason = f"loss became {name} in epoch {epoch + 1} (step {step + 1})"
        raise TrialEndedError("failed", reason)


def _non_finite_name(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinite"
