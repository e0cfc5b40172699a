import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional

from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.runs.datasets.augment import DeviceSplits, draw_epoch
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.training import loop
from partialnas.runs.training.evaluation import evaluate
from partialnas.runs.training.lane import Lane
from partialnas.runs.training.loop import Training
from partialnas.runs.training.loss_table import LossTable
from partialnas.space.errors import TrialEndedError

CPU = torch.device("cpu")
EPOCHS = 3
RICH = {"mixup": 0.3, "cutmix": 1.0, "flip": True, "shift": 1, "ema": 0.9, "clip_grad": 1.0}
RECIPES_TESTED: dict[str, dict[str, Any]] = {
    "short": {},
    "rich": RICH,
    "sgd": {"optimizer": "sgd", "schedule": "cosine", "lr": 0.1},
    "lamb": {"optimizer": "lamb", "schedule": "constant", "ema": 0.99},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16", "clip_grad": 1.0},
}


class Small(nn.Module):
    """A network with dropout, drop path and norms."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 2, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.mix = nn.Conv2d(8, 8, 3, padding=1)
        self.drop_path = DropPath(0.2)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(8 * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        x = x + self.drop_path(functional.relu(self.mix(x)))
        logits: Tensor = self.head(self.dropout(x.flatten(1)))
        return logits


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_splits(resolve_task("digits"))


def small(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return Small()


def begin(
    splits: Splits, seed: int = 0, network: nn.Module | None = None, **settings: Any
) -> Training:
    recipe = Recipe(**settings)
    pools = DeviceSplits.from_splits(splits, recipe, CPU)
    return Training(network or small(), recipe, EPOCHS, seed, pools)


def run(training: Training) -> Training:
    while len(training.curve) < EPOCHS:
        training.run_epoch()
    return training


def stored(training: Training) -> dict[str, Any]:
    """Return the state after writing it to a file and reading it."""
    buffer = io.BytesIO()
    torch.save(training.state_dict(), buffer)
    buffer.seek(0)
    state: dict[str, Any] = torch.load(buffer, weights_only=True)
    return state


def assert_same(first: Training, second: Training) -> None:
    """Compare two trainings bit for bit, except for their durations."""
    for row, other in zip(first.curve, second.curve, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    one, two = stored(first), stored(second)
    for state in (one, two):
        del state["curve"]
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert first.metrics() == second.metrics()


@pytest.mark.parametrize("name", ["short", "rich"])
def test_repeating_a_training_gives_the_same_result_bit_for_bit(name: str, splits: Splits) -> None:
    first = run(begin(splits, **RECIPES_TESTED[name]))
    torch.rand(3)  # the caller may draw random numbers in between
    assert_same(first, run(begin(splits, **RECIPES_TESTED[name])))


@pytest.mark.parametrize("settings", RECIPES_TESTED.values(), ids=RECIPES_TESTED)
def test_resuming_at_any_epoch_gives_the_same_training_bit_for_bit(
    settings: dict[str, Any], splits: Splits
) -> None:
    uninterrupted = begin(splits, **settings)
    states = [stored(uninterrupted)]
    for _ in range(EPOCHS):
        uninterrupted.run_epoch()
        states.append(stored(uninterrupted))
    for state in states:
        continued = begin(splits, network=small(99), **settings)
        continued.load_state_dict(state)
        assert_same(run(continued), uninterrupted)


def test_seeds_differ(splits: Splits) -> None:
    first, second = (run(begin(splits, seed)).curve for seed in (0, 1))
    assert first[0]["train_nll"] != second[0]["train_nll"]


def test_the_random_state_of_the_caller_does_not_change(splits: Splits) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before, numpy_before = torch.get_rng_state(), np.random.random(5)
    np.random.seed(3)
    run(begin(splits, **RICH)).metrics()
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.random(5), numpy_before)


class Plain(nn.Module):
    """A network without randomness."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 9, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(functional.relu(self.norm(self.conv(x))).flatten(1))
        return logits


def test_an_epoch_matches_plain_torch(splits: Splits) -> None:
    """The reference uses normalized images, torch's label smoothing and unfused AdamW."""
    recipe = Recipe(schedule="constant", warmup=0, shift=0, weight_decay=0.1, lr=3e-3)
    torch.manual_seed(0)
    ours, theirs = Plain(), Plain()
    theirs.load_state_dict(ours.state_dict())
    training = Training(ours, recipe, 1, 0, DeviceSplits.from_splits(splits, recipe, CPU))
    row = training.run_epoch()

    x = torch.from_numpy((splits.train_x / 255 - splits.mean.item()) / splits.std.item()).float()
    y = torch.from_numpy(splits.train_y)
    groups = [
        {"params": [theirs.conv.weight, theirs.head.weight], "weight_decay": 0.1},
        {"params": [theirs.head.bias, *theirs.norm.parameters()], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, foreach=False)
    likelihoods = []
    for index in draw_epoch(recipe, len(y), 8, 0, 0).index:
        logits = theirs(x[index])
        loss = functional.cross_entropy(logits, y[index], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        likelihoods.append(functional.cross_entropy(logits, y[index]).item())
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-3, atol=1e-4)
    assert row["train_nll"] == pytest.approx(np.mean(likelihoods), rel=1e-4)


def test_metrics_match_scikit_learn(splits: Splits) -> None:
    training = run(begin(splits))
    metrics = training.metrics()
    scaled = (splits.test_x / 255 - splits.mean.item()) / splits.std.item()
    training.network.eval()
    with torch.no_grad():
        shares = training.network(torch.from_numpy(scaled).float()).softmax(1).double().numpy()
    shares /= shares.sum(1, keepdims=True)
    assert metrics["test_nll"] == pytest.approx(log_loss(splits.test_y, shares), rel=1e-4)
    accuracy = 100 * accuracy_score(splits.test_y, shares.argmax(1))
    assert metrics["test_accuracy"] == pytest.approx(accuracy)


def test_the_last_row_of_a_curve_matches_the_metrics(splits: Splits) -> None:
    training = run(begin(splits))
    keys = {"epoch", "lr", "train_nll", "val_nll", "val_accuracy", "seconds"}
    assert all(set(row) == keys for row in training.curve)
    assert [row["epoch"] for row in training.curve] == [1, 2, 3]
    metrics = training.metrics()
    assert metrics["val_nll"] == training.curve[-1]["val_nll"]
    assert metrics["train_nll"] == training.curve[-1]["train_nll"]


def test_digits_are_learned_better_than_chance(splits: Splits) -> None:
    """Guessing has an accuracy of 0.1, with a standard deviation."""
    metrics = run(begin(splits, **RECIPES["short"].model_dump())).metrics()
    deviation = math.sqrt(0.1 * 0.9 / len(splits.test_y))
    assert metrics["test_accuracy"] > 100 * (0.1 + 10 * deviation)
    assert metrics["test_nll"] < math.log(10)


def test_the_weight_average_is_evaluated(splits: Splits) -> None:
    training = run(begin(splits, ema=0.9))
    assert training.evaluated_network is not training.network
    averaged = evaluate(training.evaluated_network, training.data.val, training.recipe)
    assert averaged == (training.curve[-1]["val_nll"], training.curve[-1]["val_accuracy"])
    assert averaged != evaluate(training.network, training.data.val, training.recipe)


class Breaking(nn.Module):
    """A network with outputs multiplied by `value` after some training steps."""

    def __init__(self, value: float, at: int, evaluated: bool = False) -> None:
        super().__init__()
        self.inner, self.value, self.left, self.evaluated = small(), value, at, evaluated

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        broken = self.left < 0 and self.training != self.evaluated
        logits: Tensor = self.inner(x) * (self.value if broken else 1.0)
        return logits


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("at", "where"), [(0, "1 (step 1)"), (18, "1 (step 19)"), (24, "2 (step 6)")]
)
def test_a_non_finite_loss_ends_the_training(
    value: float, at: int, where: str, splits: Splits
) -> None:
    with pytest.raises(TrialEndedError) as caught:
        run(begin(splits, network=Breaking(value, at)))
    assert caught.value.state == "failed"
    assert caught.value.reason == f"loss became NaN in epoch {where}"


def test_a_non_finite_validation_loss_ends_the_training(splits: Splits) -> None:
    training = begin(splits, network=Breaking(math.nan, 19, evaluated=True))
    with pytest.raises(TrialEndedError, match="validation loss became NaN in epoch 2"):
        run(training)
    assert len(training.curve) == 1


def test_time_is_counted_over_all_epochs(splits: Splits) -> None:
    training = begin(splits)
    training.run_epoch(1000)
    training.curve[0]["seconds"] = 999.99
    with pytest.raises(
        TrialEndedError, match=r"time limit of 1000 s reached in epoch 2 \(step"
    ) as e:
        training.run_epoch(1000)
    assert e.value.state == "timeout"


def test_a_limit_holds_for_a_device_that_is_behind_the_host(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device takes 100 seconds for the steps of the last epoch, and the host none."""
    now = 0.0
    mean = LossTable.mean

    def wait_for_the_steps(losses: LossTable, epoch: int) -> float:
        nonlocal now
        now += 100.0 if epoch == EPOCHS - 1 else 1.0
        return mean(losses, epoch)

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(LossTable, "mean", wait_for_the_steps)
    training = begin(splits)
    for _ in range(EPOCHS - 1):
        assert training.run_epoch(50)["seconds"] == 1
    where = rf"time limit of 50 s reached in epoch {EPOCHS} \(step {training.steps}\)"
    with pytest.raises(TrialEndedError, match=where):
        training.run_epoch(50)


def test_a_state_is_restored_after_the_work_of_the_lane(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = stored(begin(splits))
    training = begin(splits)
    events: list[str] = []

    @contextmanager
    def stream(_: Lane) -> Iterator[None]:
        events.append("enter")
        yield
        events.append("leave")

    monkeypatch.setattr(Lane, "stream", stream)
    monkeypatch.setattr(Lane, "wait_for_caller", lambda _: events.append("wait"))
    training.network.register_load_state_dict_post_hook(lambda *_: events.append("network"))
    training.optimizer.register_load_state_dict_post_hook(lambda *_: events.append("optimizer"))
    training.load_state_dict(state)
    assert events == ["wait", "enter", "network", "optimizer", "leave"]


def test_a_state_of_another_network_is_rejected(splits: Splits) -> None:
    other = begin(splits, network=Plain())
    with pytest.raises(RuntimeError):
        begin(splits).load_state_dict(stored(other))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_digits_are_learned_on_a_gpu(precision: str, splits: Splits) -> None:
    recipe = Recipe.model_validate({"precision": precision, **RICH})
    pools = DeviceSplits.from_splits(splits, recipe, torch.device("cuda"))
    training = run(Training(small(), recipe, EPOCHS, 0, pools))
    assert training.metrics()["test_accuracy"] > 25
