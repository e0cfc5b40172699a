import io
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.ratio_learning.tracking import relative_logit_gap
from partialnas.runs.records.frozen_model import frozen_subject
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.training.loop import Training
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.nn.init import initialize
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import count_ops

CPU = torch.device("cpu")
TASK = resolve_task("digits")
EPOCHS = 2
KINDS: dict[str, dict[str, Any]] = {
    "threshold": {},
    "gates": {"method": "gates"},
    "input": {"per": "input"},
}
WITH_SLOW = [
    "threshold",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gates", "input")),
]
RICH = {"mixup": 0.3, "ema": 0.9, "clip_grad": 1.0, "ratio_freeze": 0.5}
RECIPES: dict[str, dict[str, Any]] = {
    "short": {},
    "rich": RICH,
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
}


pytestmark = pytest.mark.usefixtures("one_thread")


def architecture(kind: str = "threshold", **plan: Any) -> Architecture:
    ratio = {"learned": {"grain": 2, "budget": 0.3, **KINDS[kind]}}
    usual = {"attention": {"channel": "stage 2", "self": "stage 3"}, "ratio": ratio}
    shape = {"stem_stride": 1, "width": 8, "depths": (1, 1, 1, 1), "head_width": 16}
    return Plan.model_validate({**shape, **usual, **plan}).architecture()


def begin(
    subject: Architecture, splits: Splits, weights: int = 0, epochs: int = EPOCHS, **settings: Any
) -> Training:
    recipe = Recipe.model_validate(settings)
    network = Network(subject, 1, 10, drop_path_rate=0.1)
    initialize(network, weights)
    return Training(network, recipe, epochs, 0, DeviceSplits.from_splits(splits, recipe, CPU))


def run(training: Training) -> Training:
    while len(training.curve) < training.epochs:
        training.run_epoch()
    return training


def stored(training: Training) -> dict[str, Any]:
    """Return the state after writing it to a file and reading it."""
    buffer = io.BytesIO()
    torch.save(training.state_dict(), buffer)
    buffer.seek(0)
    state: dict[str, Any] = torch.load(buffer, weights_only=True)
    return state


def assert_same(first: Training, second: Training, *, tested: bool = True) -> None:
    """Compare two trainings bit for bit, except for their durations."""
    assert first.ratio_rows == second.ratio_rows
    one, two = stored(first), stored(second)
    for state in (one, two):
        del state["ratio_rows"]
        for row in state["curve"]:
            row["seconds"] = 0
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert not tested or first.metrics() == second.metrics()


def interrupted_everywhere(kind: str, splits: Splits, **settings: Any) -> None:
    subject = architecture(kind)
    uninterrupted = begin(subject, splits, **settings)
    states = [stored(uninterrupted)]
    for _ in range(EPOCHS):
        uninterrupted.run_epoch()
        states.append(stored(uninterrupted))
    for epoch, state in enumerate(states):
        continued = begin(subject, splits, weights=99, **settings)
        continued.load_state_dict(state)
        assert_same(run(continued), uninterrupted, tested=epoch == EPOCHS)


@pytest.mark.parametrize("kind", WITH_SLOW)
def test_resuming_at_any_epoch_gives_the_same_training_bit_for_bit(
    kind: str, few_digits: Splits
) -> None:
    interrupted_everywhere(kind, few_digits, **RICH)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["short", "bfloat16", "float16"])
def test_resuming_with_any_recipe_gives_the_same_training_bit_for_bit(
    recipe: str, kind: str, few_digits: Splits
) -> None:
    interrupted_everywhere(kind, few_digits, **RECIPES[recipe])


@pytest.mark.slow
def test_interleaved_trainings_do_not_affect_each_other(few_digits: Splits) -> None:
    alone = [run(begin(architecture(kind), few_digits, epochs=2)) for kind in KINDS]
    together = [begin(architecture(kind), few_digits, epochs=2) for kind in KINDS]
    for _ in range(2):
        for training in together:
            training.run_epoch()
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other, tested=False)


def stepped(turns: list[tuple[int, Training]]) -> list[dict[str, Any]]:
    """Return the states after these single steps of trainings, without randomness."""
    for step, training in turns:
        assert training.ratio_learner is not None
        x, y = next(iter(training.data.train.sequential_batches(32)))
        training.network.train()
        training.ratio_learner.update_boundaries(step)
        loss = nn.functional.cross_entropy(training.network(x), y)
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        training.ratio_learner.update_sizes(step)
    return [stored(training) for training in dict.fromkeys(t for _, t in turns)]


def test_interleaved_steps_do_not_affect_each_other(few_digits: Splits) -> None:
    def fresh() -> list[Training]:
        plan = {"attention": "none"}
        trainings = [begin(architecture(kind, **plan), few_digits) for kind in KINDS]
        for training in trainings:
            for module in training.network.modules():
                if isinstance(module, DropPath):
                    module.drop_prob = 0.0
        return trainings

    alone = [stepped([(step, t) for step in range(4)])[0] for t in fresh()]
    trainings = fresh()
    together = stepped([(step, t) for step in range(4) for t in trainings])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def check_recipe(recipe: str, kind: str, splits: Splits) -> None:
    training = run(begin(architecture(kind), splits, epochs=2, **RECIPES[recipe]))
    metrics = training.metrics()
    assert metrics["budget_error"] <= 0
    assert metrics["ratio_gap"] < 1e-5
    assert training.ratio_rows[0].gradient_norm > 0
    assert training.ratio_rows[-1].ramp == 0


@pytest.mark.parametrize("recipe", ["rich", "float16"])
def test_every_recipe_learns_ratios_within_the_budget(recipe: str, few_digits: Splits) -> None:
    check_recipe(recipe, "threshold", few_digits)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gates", "input"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_learns_ratios_of_every_kind(
    recipe: str, kind: str, few_digits: Splits
) -> None:
    check_recipe(recipe, kind, few_digits)


@pytest.mark.parametrize("kind", ["threshold", "input"])
def test_recorded_gradients_are_unscaled(kind: str, few_digits: Splits) -> None:
    norms = []
    for precision in ("float32", "float16"):
        training = begin(architecture(kind), few_digits, epochs=2, precision=precision)
        training.run_epoch()
        norms.append(training.ratio_rows[0].gradient_norm)
    assert norms[0] / 10 < norms[1] < norms[0] * 10  # the scale is 65,536


def test_a_weight_average_has_the_ratios_of_its_network(few_digits: Splits) -> None:
    training = begin(architecture(), few_digits, ema=0.9)
    for _ in range(EPOCHS):
        training.run_epoch()
        networks = training.network, training.evaluated_network
        trained, averaged = map(learned_mixers, networks)
        assert training.evaluated_network is not training.network
        assert [m.get_extra_state().tolist() for m in trained.values()] == [
            m.get_extra_state().tolist() for m in averaged.values()
        ]


PARTS: dict[str, dict[str, Any]] = {
    **{name: {"operations": ("conv", name)} for name in ("channel", "spatial", "pool", "identity")},
    "self": {"operations": ("conv", "self"), "ratio": {"learned": {"grain": 4, "budget": 0.6}}},
    "conv": {"operations": ("conv", "conv"), "ratio": {"learned": {"grain": 2, "budget": 0.6}}},
    "three": {
        "parts": 3,
        "operations": ("conv", "channel", "identity"),
        "ratio": [{"learned": {"grain": 2, "budget": 0.3}}] * 2,
    },
}


FEW = ("channel", "three")


@pytest.mark.parametrize(
    "parts", [*FEW, *(pytest.param(p, marks=pytest.mark.slow) for p in PARTS if p not in FEW)]
)
def test_every_operation_and_every_boundary_is_learned(parts: str, few_digits: Splits) -> None:
    plan = {"attention": "none", "depths": (1, 1, 1, 1), "width": 16, **PARTS[parts]}
    training = run(begin(architecture(**plan), few_digits, epochs=1))
    assert training.ratio_learner is not None
    (row,) = training.ratio_rows
    assert len(row.channels) == (8 if parts == "three" else 4)
    assert any(training.ratio_learner.max_displacement.values())
    assert training.metrics()["ratio_gap"] < 1e-5
    assert training.metrics()["budget_error"] <= 0


@pytest.mark.parametrize("batch_size", [64, 192])
def test_one_epoch_of_a_few_steps_is_enough(batch_size: int, few_digits: Splits) -> None:
    training = run(begin(architecture(), few_digits, epochs=1, batch_size=batch_size))
    (row,) = training.ratio_rows
    assert row.ramp == 0
    assert row.used_macs <= (row.budget_macs or 0)
    assert all(size == int(size) for size in row.channels.values())


def test_a_single_layer_can_learn_its_ratio(few_digits: Splits) -> None:
    parts = [{"op": "conv", "ratio": {"learned": {"grain": 2}}}, {"op": "identity"}]
    blocks = [{"parts": parts}, {"parts": [{"op": "conv", "ratio": "1/4"}, {"op": "identity"}]}]
    data = {"stem_stride": 1, "stages": [{"width": 8, "blocks": blocks}], "head_width": 8}
    training = run(begin(Architecture.from_data(data), few_digits, epochs=1))
    assert list(training.ratio_rows[-1].channels) == ["stage 1, block 1"]
    assert not [s for row in training.ratio_rows for s in row.warnings if "uses" in s]


def trial(splits: Splits, subject: Architecture, epochs: int = 2) -> Record:
    job = Job(subject=subject, task=TASK, recipe=Recipe(), fidelity=epochs, seeds=(0,))
    (record,) = run_job(job, Context(splits=splits))
    assert record.state == "done", record.reason
    return record


@pytest.mark.parametrize("kind", ["threshold", "gates"])
def test_a_record_describes_the_frozen_network(kind: str, few_digits: Splits) -> None:
    subject = architecture(kind)
    record = trial(few_digits, subject)
    first, last = record.ratios
    frozen = frozen_subject(subject, last.channels)
    assert (first.frozen, last.frozen) == (None, frozen.digest)
    counted = count_ops(Network(frozen, 1, 10).eval(), TASK.input_spec)
    assert record.cost["macs"] == counted.macs
    assert record.cost["params"] == counted.params
    assert last.budget_macs is not None
    assert record.metrics["budget_error"] == last.used_macs / last.budget_macs - 1


def test_rows_match_closed_formulas(few_digits: Splits) -> None:
    record = trial(few_digits, architecture(attention="none"))
    for number, row in enumerate(record.ratios, start=1):
        used = dense = 0.0
        for stage in range(4):
            size, width = row.channels[f"stage {stage + 1}, block 1"], 8 << stage
            used += 9 * size**2 * (8 >> stage) ** 2
            dense += 9 * width**2 * (8 >> stage) ** 2
            assert row.ratios[f"stage {stage + 1}, block 1"] == size / width
        assert row.epoch == number
        assert row.used_macs == pytest.approx(used)
        assert row.budget_macs == int(dense * 3 / 10)
    assert record.ratios[0].ramp > 1
    assert record.ratios[0].used_macs == pytest.approx(record.ratios[0].budget_macs, rel=0.02)


def predicted_macs(row: RatioEpoch) -> float:
    """Return the cost of the convolutions and of predictors with one hidden layer."""
    total = 0.0
    for stage in range(4):
        places, width = (8 >> stage) ** 2, 8 << stage
        hidden = max(width // 4, 4)
        total += width * places + width * hidden + hidden
        shares = row.distribution[f"stage {stage + 1}, block 1"]
        total += sum(share * 9 * int(size) ** 2 * places for size, share in shares.items())
    return total


def test_rows_describe_the_distribution_over_images(few_digits: Splits) -> None:
    record = trial(few_digits, architecture("input", attention="none"))
    labels = torch.from_numpy(few_digits.val_y)
    for row in record.ratios:
        assert row.used_macs == pytest.approx(predicted_macs(row), rel=1e-4)
        for name, ratio in row.ratios.items():
            shares = row.distribution[name]
            assert sum(shares.values()) == pytest.approx(1)
            mean = sum(int(size) * share for size, share in shares.items())
            assert row.channels[name] == pytest.approx(mean, rel=1e-4)
            classes = row.per_class[name]
            over = sum(r * float((labels == int(c)).float().mean()) for c, r in classes.items())
            assert over == pytest.approx(ratio, rel=1e-4)
    first, last = record.ratios
    assert first.per_kind == {}
    for name, kinds in last.per_kind.items():
        assert set(kinds) == {"clean", "blurred", "noisy", "low-resolution"}
        assert kinds["clean"] == pytest.approx(last.ratios[name])
    assert last.frozen is None
    assert -0.05 <= record.metrics["budget_error"] <= 0


def test_a_record_with_ratios_round_trips(few_digits: Splits) -> None:
    record = trial(few_digits, architecture("input"))
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_the_same_trial_twice_has_the_same_ratios(few_digits: Splits) -> None:
    first, again = (trial(few_digits, architecture(), 1) for _ in range(2))
    assert first.ratios == again.ratios
    assert first.metrics == again.metrics


def test_the_gap_detects_forms_that_differ(few_digits: Splits) -> None:
    training = run(begin(architecture(), few_digits, epochs=1))
    network = training.network
    assert isinstance(network, Network)
    assert relative_logit_gap(network, training.data.val) < 1e-5
    network.classifier.register_forward_hook(lambda module, inputs, out: 1.1 * out)  # noqa: ARG005
    assert relative_logit_gap(network, training.data.val) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0.1, 0.6])
@pytest.mark.parametrize("seed", [0, 1])
def test_digits_are_learned_at_any_budget(budget: float, seed: int) -> None:
    ratio = {"learned": {"budget": budget}}
    subject = architecture(width=16, attention="none", ratio=ratio)
    job = Job(subject=subject, task=TASK, recipe=Recipe(), fidelity=3, seeds=(seed,))
    (record,) = run_job(job, Context(splits=load_splits(TASK)))
    assert -0.05 <= record.metrics["budget_error"] <= 0
    assert record.metrics["test_accuracy"] > 90
    assert not [s for row in record.ratios for s in row.warnings]
