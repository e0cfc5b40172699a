"""Training on a real GPU: replays, lanes, stored states, learned ratios, memory that runs out."""

import io
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.small_trainings import CASES, EPOCHS, begin_case

from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.records.job import Job
from partialnas.runs.system.seeding import kernel_selection
from partialnas.runs.training.lanes import run_side_by_side
from partialnas.runs.training.loop import Training
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.space.arch.plan import Plan

pytestmark = pytest.mark.gpu
SEEDS = range(3)

if torch.cuda.is_available():  # cuBLAS reads it when it starts
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def _deterministic_kernels() -> Iterator[None]:
    with kernel_selection(torch.device("cuda"), deterministic=True, cudnn_benchmark=False):
        yield


def run(training: Training) -> Training:
    while len(training.curve) < EPOCHS:
        training.run_epoch()
    return training


def assert_equal(training: Training, expected: Training) -> None:
    for row, other in zip(training.curve, expected.curve, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    states = training.network.state_dict(), expected.network.state_dict()
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_replayed_steps_equal_eager_steps(case: str, few_digits: Splits) -> None:
    replayed = run(begin_case(case, few_digits, device="cuda"))
    assert_equal(replayed, run(begin_case(case, few_digits, device="cuda", by_counter=False)))


@pytest.mark.parametrize("case", ["attention", "drop path", "average", "learned"])
def test_lanes_have_the_results_that_they_have_alone(case: str, few_digits: Splits) -> None:
    lanes = [begin_case(case, few_digits, n, device="cuda", lane=n) for n in SEEDS]
    assert run_side_by_side(lanes) == [None] * len(SEEDS)
    for number, training in enumerate(lanes):
        assert_equal(training, run(begin_case(case, few_digits, number, device="cuda")))


@pytest.mark.parametrize("case", ["average", "all augmentations", "learned", "learned by input"])
def test_a_stored_state_continues_on_the_gpu(case: str, few_digits: Splits) -> None:
    interrupted, buffer = begin_case(case, few_digits, device="cuda"), io.BytesIO()
    interrupted.run_epoch()
    torch.save(interrupted.state_dict(), buffer)
    buffer.seek(0)
    continued = begin_case(case, few_digits, device="cuda")
    continued.load_state_dict(torch.load(buffer, map_location="cpu", weights_only=True))
    assert_equal(run(continued), run(begin_case(case, few_digits, device="cuda")))


def test_a_state_of_the_cpu_continues_on_the_gpu(few_digits: Splits) -> None:
    on_cpu, on_gpu = (begin_case("average", few_digits, device=d) for d in ("cpu", "cuda"))
    on_cpu.run_epoch()
    on_gpu.load_state_dict(on_cpu.state_dict())
    on_gpu.run_epoch()
    on_cpu.run_epoch()
    assert on_gpu.curve[1]["train_nll"] == pytest.approx(on_cpu.curve[1]["train_nll"], rel=0.02)


def job(precision: str = "float32", **plan: Any) -> Job:
    shape = {"stem_stride": 1, "width": 16, "depths": (1, 1, 1, 1), "head_width": 32}
    recipe = Recipe.model_validate({"precision": precision, "keep_weights": "none"})
    subject = Plan.model_validate(shape | plan).architecture()
    task = resolve_task("digits")
    return Job(subject=subject, task=task, recipe=recipe, fidelity=EPOCHS, seeds=(0,))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("learned", [{}, {"method": "gates"}, {"per": "input"}])
def test_ratios_are_learned_in_each_precision(
    learned: dict[str, str], precision: str, context: Context
) -> None:
    requested = job(precision, ratio={"learned": {"budget": "1/4", **learned}})
    (record,) = run_job(requested, replace(context, device="cuda"))
    assert (record.state, record.reason) == ("done", None)
    assert record.metrics["ratio_gap"] <= (1e-3 if precision == "float32" else 0.05)


def test_batches_that_do_not_fit_are_divided_and_the_next_trial_is_whole(context: Context) -> None:
    on_gpu = replace(context, device="cuda", folder=None)
    wide = job(width=256, head_width=1280)
    run_job(wide, on_gpu)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run_job(wide, on_gpu)
    needed = torch.cuda.max_memory_reserved()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(0.75 * needed / total)
        (divided,) = run_job(wide, on_gpu)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    (whole,) = run_job(wide, on_gpu)
    assert (divided.state, whole.state) == ("done", "done")
    assert divided.environment["micro_batch"] == wide.recipe.batch_size // 2
    assert "micro_batch" not in whole.environment


def test_seeds_of_a_deterministic_job_repeat_whatever_its_lanes(context: Context) -> None:
    recipe = job().recipe.model_copy(update={"deterministic": True, "drop_path": 0.1})
    requested = job().model_copy(update={"recipe": recipe, "seeds": tuple(SEEDS)})
    on_gpu = replace(context, device="cuda", folder=None)
    alone, again, together = (
        run_job(requested, replace(on_gpu, lanes=lanes)) for lanes in (1, 1, len(SEEDS))
    )
    assert [record.state for record in alone] == ["done"] * len(SEEDS)
    for other in (again, together):
        assert [record.metrics for record in other] == [record.metrics for record in alone]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_recipe_for_gpus_learns(optimizer: str, context: Context) -> None:
    changes = {"batch_size": 32, "optimizer": optimizer}
    recipe = Recipe.model_validate(RECIPES["gpu"].model_dump() | changes)
    requested = job().model_copy(update={"recipe": recipe, "fidelity": 8, "seeds": tuple(SEEDS)})
    for record in run_job(requested, replace(context, device="cuda", lanes=len(SEEDS))):
        assert record.state == "done", record.reason
        assert record.metrics["val_nll"] < 0.8 * math.log(10)  # of guessing
