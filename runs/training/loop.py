"""The training loop: deterministic epochs that can be interrupted and resumed bit for bit."""

import math
import time
from functools import partial
from typing import Any

import torch
from torch import nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplit, DeviceSplits, epoch_shape
from partialnas.runs.ratio_learning import tracking
from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.runs.records.record import CurveRow, RatioEpoch, ratio_metrics
from partialnas.runs.system.seeding import derive_seed
from partialnas.runs.training.evaluation import Evaluation, Evaluator
from partialnas.runs.training.graph import StepGraph, supports_graphs
from partialnas.runs.training.lane import Lane
from partialnas.runs.training.loss_table import LossTable, non_finite_name
from partialnas.runs.training.lr_schedule import learning_rate, set_learning_rate
from partialnas.runs.training.optimizer import capturable, make_optimizer
from partialnas.runs.training.progress import EpochProgress
from partialnas.runs.training.step import TrainingStep
from partialnas.runs.training.step_tables import StepTables
from partialnas.runs.training.weight_average import WeightAverage
from partialnas.space.errors import TrialEndedError
from partialnas.space.nn.network import Network

_CHECK_EVERY = 50  # steps between checks of the loss


class Training:
    """A training run that can be saved after each epoch and resumed bit for bit.

    An epoch runs at once (`run_epoch`) or in pieces (`begin_epoch`, `run_steps`, `finish_epoch`)
    between which other trainings of the process may run; the result is the same. After an error the
    training cannot be continued.

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
        lane: number of the training among those that run side by side on a GPU.
        by_counter: whether steps read their rows by a counter on the device, and on a GPU are
            replays of a graph; default: on GPUs, where `supports_graphs`. The result is the same.
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
        lane: int = 0,
        by_counter: bool | None = None,
    ) -> None:
        self.recipe, self.epochs, self.seed, self.data = recipe, epochs, seed, data
        self.micro_batches = micro_batches
        self.device = device = data.train.device
        self.steps = epoch_shape(len(data.train), recipe.batch_size)[0]
        self.curve: list[CurveRow] = []
        self.trunk_epochs = 0
        self._lane = Lane(device, lane)
        self._lane.wait_for_caller()
        with self._lane.stream():
            self.network = network.to(device).to(memory_format=torch.channels_last)
            self.optimizer = make_optimizer(network, recipe)
            self.average = WeightAverage(network, recipe.ema) if recipe.ema else None
            self._tables = StepTables(device)
            self._losses = LossTable(self.steps, device)
            self.ratio_learner = tracking.make_ratio_learner(
                network,
                data.train.resolution,
                epochs * self.steps,
                recipe.ratio_freeze,
                recipe.ratio_every,
            )
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
        self.ratio_rows: list[RatioEpoch] = []
        self._progress: EpochProgress | None = None
        self._by_counter = device.type == "cuda" if by_counter is None else by_counter
        self._prepare_functions()

    def _prepare_functions(self) -> None:
        """Make the functions of a step and of the evaluation anew, without graphs."""
        parts, average = self.micro_batches, self.average
        self._by_counter &= supports_graphs(self.network, self.recipe, parts)
        self._step = TrainingStep(
            self.network,
            self.optimizer,
            self.scaler,
            average,
            self.ratio_learner,
            self.recipe,
            self.data.train,
            parts,
        )
        self._counted_step = StepGraph(self.device, partial(capturable, self.optimizer))
        evaluated = self.network if average is None else average.module
        self._evaluator = Evaluator(evaluated, self.recipe, self.device, parts)

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
        self._lane.wait_for_caller()
        with self._lane.stream():  # after the copies that the lane made when it began
            self._load_state_dict(state)
            self._prepare_functions()

    def _load_state_dict(self, state: dict[str, Any]) -> None:
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
        self.begin_epoch(limit_s)
        self.run_steps(self.steps)
        return self.finish_epoch()

    def begin_epoch(self, limit_s: float = math.inf) -> None:
        """Draw all random choices of the next epoch; see `run_epoch`."""
        started = time.perf_counter()
        epoch, steps = len(self.curve), self.steps
        numbers = range(epoch * steps, (epoch + 1) * steps)
        rates = [learning_rate(self.recipe, number, self.epochs * steps) for number in numbers]
        shares = [self.average.share(number) if self.average else 0.0 for number in numbers]
        self._lane.wait_for_caller()
        with self._lane.stream():
            tables = self.data.train.epoch_tables(self.recipe, self.seed, epoch)
            if self._by_counter:
                scalars = {"rate": rates, "average_share": shares}
                tables |= {name: torch.tensor(values) for name, values in scalars.items()}
            self._tables.fill(tables)
            rows = self._tables.rows()
        self._losses.restart()
        self._lane.seed(derive_seed(self.seed, epoch, "network"))
        self.network.train()
        self._progress = EpochProgress(numbers.start, rows, rates, shares, limit_s)
        self._progress.seconds = time.perf_counter() - started

    @property
    def steps_left(self) -> int:
        """Steps of the epoch that has begun."""
        return 0 if self._progress is None else self.steps - self._progress.done

    def run_steps(self, count: int = 1) -> None:
        """Run the next steps of the epoch that has begun.

        Raises:
            TrialEndedError: The loss is not finite, or the time limit is reached.
        """
        assert self._progress is not None, "no epoch has begun"
        progress, epoch = self._progress, len(self.curve)
        earlier, started = self.seconds + progress.seconds, time.perf_counter()
        with self._lane.active():
            for _ in range(min(count, self.steps_left)):
                self._run_step(progress)
                progress.done += 1
                if progress.done % _CHECK_EVERY == 0:
                    self._losses.check(progress.done, epoch)
                progress.check_limit(earlier + time.perf_counter() - started, epoch)
        progress.seconds += time.perf_counter() - started

    def finish_epoch(self) -> CurveRow:
        """Evaluate after all steps of an epoch, and add the row to the curve.

        Raises:
            TrialEndedError: A loss is not finite, or the device has reached the time limit, which
                may be behind the host.
        """
        assert self._progress is not None, "no epoch has begun"
        progress, started = self._progress, time.perf_counter()
        with self._lane.stream():
            return self._finish_epoch(progress, started)

    def _finish_epoch(self, progress: EpochProgress, started: float) -> CurveRow:
        epoch, learner = len(self.curve), self.ratio_learner
        train_nll = self._losses.mean(epoch)  # which waits for the steps
        waited = time.perf_counter() - started
        progress.check_limit(self.seconds + progress.seconds + waited, epoch)
        last = epoch + 1 == self.epochs
        set_learning_rate(self.optimizer, progress.rates[-1])  # it may be in a table of the epoch
        if learner is not None:
            learner.end_epoch(progress.first + self.steps)
            if last:
                tracking.calibrate_to_budget(learner, self.evaluated_network, self.data.val)
        val_nll, val_accuracy = self._evaluate(self.data.val)
        if not math.isfinite(val_nll):
            reason = f"validation loss became {non_finite_name(val_nll)} in epoch {epoch + 1}"
            raise TrialEndedError("failed", reason)
        row = {
            "epoch": epoch + 1,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_nll": train_nll,
            "val_nll": val_nll,
            "val_accuracy": val_accuracy,
            "seconds": progress.seconds + time.perf_counter() - started,
        }
        self.curve.append(row)
        self._progress = None
        if learner is not None:
            self._add_ratio_row(learner, epoch, last=last)
        return row

    def _add_ratio_row(self, ratios: RatioLearner, epoch: int, *, last: bool) -> None:
        network, val = self.evaluated_network, self.data.val
        assert isinstance(network, Network)  # no other network learns ratios
        frozen = epoch * self.steps < ratios.freeze_step <= (epoch + 1) * self.steps
        row = tracking.ratio_epoch(ratios, network, val, epoch + 1, frozen=frozen, last=last)
        self.ratio_rows.append(row)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the finished run; the test split is used only here.

        `train_nll` is that of the last epoch, over augmented batches during training.
        """
        self._lane.wait_for_caller()
        with self._lane.stream():
            test_nll, test_accuracy = self._evaluate(self.data.test)
        last = self.curve[-1]
        return {
            **{key: last[key] for key in ("val_accuracy", "val_nll", "train_nll")},
            "test_accuracy": test_accuracy,
            "test_nll": test_nll,
            **ratio_metrics(self.ratio_rows),
        }

    def _run_step(self, progress: EpochProgress) -> None:
        number, learner = progress.first + progress.done, self.ratio_learner
        if learner is not None:
            learner.update_boundaries(number)
        if self._is_static:
            if not progress.by_counter:
                self._tables.set_counter(progress.done)
                progress.by_counter = True
            self._counted_step(self._run_counted_step)
            return
        scale = 1.0 if learner is None else self.scaler.get_scale()
        settings = progress.rates[progress.done], progress.shares[progress.done]
        self._losses.values[progress.done] = self._step(progress.rows[progress.done], *settings)
        if learner is not None:
            learner.update_sizes(number, scale)

    @property
    def _is_static(self) -> bool:
        """Whether all further steps run the same operations, by a counter on the device."""
        return self._by_counter and (self.ratio_learner is None or self.ratio_learner.is_frozen)

    def _run_counted_step(self) -> None:
        row = self._tables.counted_row()
        self._tables.store(self._losses.values, self._step(row, row["rate"], row["average_share"]))

    def _evaluate(self, pool: DeviceSplit) -> Evaluation:
        if self.ratio_learner is not None and self.average is not None:
            self.ratio_learner.copy_to(self.average.module)
        return self._evaluator.evaluate(pool, by_graph=self._is_static)
