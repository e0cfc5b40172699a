import gc
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support.fake_cuda import install_fake_cuda
from torch import nn

from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import CurveRow, Record
from partialnas.runs.records.subject import Subject, TimmModel
from partialnas.runs.training.evaluation import evaluate
from partialnas.runs.trials import trial, trial_run
from partialnas.runs.trials.build import subject_cost
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.nn.network import Network

TASK = resolve_task("digits")
ATTENTION = {"channel": "stages 1-2", "self": "stage 3"}
PLAN = Plan(width=4, depths=(1, 1, 1, 1), stem_stride=1, head_width=16, attention=ATTENTION)
SUBJECT = PLAN.architecture()
EPOCHS = 2
METRICS = {"val_accuracy", "val_nll", "train_nll", "test_accuracy", "test_nll"}


def job(subject: Subject = SUBJECT, seeds: tuple[int, ...] = (0,), **settings: Any) -> Job:
    usual = {"drop_path": 0.1, "ema": 0.9, "keep_weights": "all"}
    recipe = Recipe.model_validate(usual | settings)
    return Job(subject=subject, task=TASK, recipe=recipe, fidelity=EPOCHS, seeds=seeds)


def timeless(record: Record) -> dict[str, Any]:
    """Return a record without durations."""
    data = record.model_dump(exclude={"seconds"})
    return {**data, "curve": [{**row, "seconds": 0} for row in data["curve"]]}


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_a_record_holds_the_results(context: Context) -> None:
    reported: list[tuple[str, CurveRow]] = []
    requested = job()
    listening = replace(context, on_epoch=lambda key, row: reported.append((key, row)))
    (record,) = run_job(requested, listening)
    assert (record.state, record.reason) == ("done", None)
    assert (record.key, record.digest) == (requested.trial_keys[0], SUBJECT.digest)
    assert (record.seed, record.fidelity, record.device) == (0, EPOCHS, "cpu")
    assert set(record.metrics) == METRICS
    assert reported == [(record.key, row) for row in record.curve]
    assert record.cost == subject_cost(SUBJECT, TASK)
    assert record.seconds >= sum(row["seconds"] for row in record.curve)
    assert record.environment["torch"] == torch.__version__.partition("+")[0]
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_repeating_a_trial_gives_the_same_record_bit_for_bit(context: Context) -> None:
    (first,), (again,) = run_job(job(), context), run_job(job(), context)
    assert timeless(first) == timeless(again)


def test_seeds_of_one_job_do_not_affect_each_other(context: Context) -> None:
    both = run_job(job(seeds=(0, 1)), context)
    alone = [*run_job(job(seeds=(0,)), context), *run_job(job(seeds=(1,)), context)]
    assert [timeless(record) for record in both] == [timeless(record) for record in alone]
    assert both[0].metrics != both[1].metrics


def test_a_timm_model_is_trained_the_same_way(context: Context) -> None:
    requested = job(TimmModel(timm="test_resnet"), drop_path=0.0)
    (first,), (again,) = run_job(requested, context), run_job(requested, context)
    assert first.state == "done", first.reason
    assert timeless(first) == timeless(again)


def test_saved_weights_are_those_that_were_evaluated(context: Context) -> None:
    assert context.folder
    (record,) = run_job(job(), context)
    assert files(context.folder) == [f"weights/{record.key}.safetensors"]
    path = context.folder / "weights" / f"{record.key}.safetensors"
    network = Network(SUBJECT, in_chans=1, num_classes=10)
    network.load_state_dict(load_file(path))
    splits = context.splits
    assert splits
    pool = DeviceSplit(splits.test_x, splits.test_y, splits, 0, torch.device("cpu"))
    nll, accuracy = evaluate(network, pool, job().recipe)
    assert record.metrics["test_nll"] == pytest.approx(nll, rel=1e-5)
    assert record.metrics["test_accuracy"] == pytest.approx(accuracy)
    with safe_open(path, "pt") as stored:
        assert Architecture.from_json(stored.metadata()["subject"]).digest == SUBJECT.digest


@pytest.mark.parametrize(("keep", "count"), [("all", 1), ("front", 1), ("none", 0)])
def test_weights_are_kept_as_the_recipe_says(keep: str, count: int, context: Context) -> None:
    assert context.folder
    run_job(job(keep_weights=keep), context)
    assert len(files(context.folder)) == count


def test_without_a_folder_nothing_is_written(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run_job(job(), replace(context, folder=None))[0].state == "done"
    assert files(tmp_path / "here") == files(tmp_path / "study") == []


def test_threads_and_random_state_are_restored(context: Context) -> None:
    before, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        torch.set_num_threads(3)
        run_job(job(threads=1), context)
        assert torch.get_num_threads() == 3
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_recipe_for_gpus_learns_and_resumes_on_a_cpu(
    optimizer: str, context: Context, tmp_path: Path
) -> None:
    changes = {"batch_size": 16, "optimizer": optimizer, "keep_weights": "none"}
    recipe = Recipe.model_validate(RECIPES["gpu"].model_dump() | changes)
    requested = job().model_copy(update={"recipe": recipe, "fidelity": 4})
    (whole,) = run_job(requested, replace(context, folder=tmp_path / "whole"))
    assert whole.state == "done", whole.reason
    assert whole.metrics["val_nll"] < 0.8 * math.log(10)  # of guessing
    interrupted(context, requested)
    (resumed,) = run_job(requested, context)
    assert timeless(resumed) == timeless(whole)


def test_kernels_are_deterministic_if_the_recipe_says_so(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[bool] = []
    finish = trial_run.Training.finish_epoch

    def finish_epoch(training: trial_run.Training) -> CurveRow:
        modes.append(torch.are_deterministic_algorithms_enabled())
        return finish(training)

    monkeypatch.setattr(trial_run.Training, "finish_epoch", finish_epoch)
    (usual,), (record,) = run_job(job(), context), run_job(job(deterministic=True), context)
    assert modes == [False] * EPOCHS + [True] * EPOCHS
    assert record.metrics == usual.metrics  # a CPU repeats its results anyway
    assert record.key != usual.key


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9}])
def test_a_network_is_freed_as_soon_as_its_trial_has_ended(
    settings: dict[str, float], context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next trial could run out of memory, depending on the garbage collector."""
    networks: list[weakref.ref[nn.Module]] = []
    build = trial_run.build_network

    def build_network(*arguments: Any) -> nn.Module:
        network = build(*arguments)
        networks.append(weakref.ref(network))
        return network

    monkeypatch.setattr(trial_run, "build_network", build_network)
    gc.collect()
    gc.disable()
    try:
        run_job(job(seeds=(0, 1), **settings), context)
        assert [network() for network in networks] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("lanes", [2, 3])
def test_seeds_side_by_side_have_the_results_that_they_have_alone(
    lanes: int, context: Context, tmp_path: Path
) -> None:
    requested = job(seeds=(0, 1, 2), mixup=0.3)
    alone = run_job(requested, replace(context, folder=tmp_path / "alone"))
    reported: list[str] = []
    together = replace(
        context,
        folder=tmp_path / "together",
        lanes=lanes,
        on_epoch=lambda key, _: reported.append(key),
    )
    records = run_job(requested, together)
    assert [timeless(record) for record in records] == [timeless(record) for record in alone]
    keys = [record.key for record in records]
    assert reported[: 2 * lanes] == keys[:lanes] * 2
    assert sorted(reported) == sorted(keys * EPOCHS)
    for record in records:
        weights = [
            load_file(tmp_path / name / "weights" / f"{record.key}.safetensors")
            for name in ("alone", "together")
        ]
        torch.testing.assert_close(*weights, rtol=0, atol=0)
        assert record.seconds >= sum(row["seconds"] for row in record.curve)
    assert not [name for name in files(tmp_path / "together") if "checkpoints" in name]


class Stop(BaseException):
    """Stands for Ctrl-C and kill: no code of the package runs after it."""


def stop_at(epoch: int, calls: int = 1) -> Callable[[str, CurveRow], None]:
    left = [calls]

    def on_epoch(_: str, row: CurveRow) -> None:
        left[0] -= row["epoch"] == epoch
        if left[0] == 0:
            raise Stop

    return on_epoch


@pytest.mark.parametrize("epoch", range(1, EPOCHS + 1))
def test_a_killed_trial_resumes_to_the_same_record(
    epoch: int, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = run_job(job(), replace(context, folder=tmp_path / "whole"))
    halves = replace(context, folder=tmp_path / "halves", on_epoch=stop_at(epoch))
    with pytest.raises(Stop):
        run_job(job(), halves)
    assert files(tmp_path / "halves") == [f"checkpoints/{whole.key}.pt"]

    epochs: list[int] = []
    finish = trial_run.Training.finish_epoch
    monkeypatch.setattr(
        trial_run.Training, "finish_epoch", lambda self: epochs.append(1) or finish(self)
    )
    (continued,) = run_job(job(), replace(context, folder=tmp_path / "halves"))
    assert len(epochs) == EPOCHS - epoch
    assert timeless(continued) == timeless(whole)
    weights = [
        load_file(tmp_path / name / "weights" / f"{whole.key}.safetensors")
        for name in ("whole", "halves")
    ]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    assert files(tmp_path / "halves") == [f"weights/{whole.key}.safetensors"]


@pytest.mark.parametrize("every_s", [0.0, 30.0])
def test_a_job_killed_at_its_second_seed_does_not_train_the_first_again(
    every_s: float, context: Context, tmp_path: Path
) -> None:
    requested = job(seeds=(0, 1))
    whole = run_job(requested, replace(context, folder=tmp_path / "whole"))
    halves = replace(context, folder=tmp_path / "halves", checkpoint_every_s=every_s)
    with pytest.raises(Stop):
        run_job(requested, replace(halves, on_epoch=stop_at(1, calls=2)))
    reported: list[str] = []
    records = run_job(requested, replace(halves, on_epoch=lambda key, _: reported.append(key)))
    left = EPOCHS if every_s else EPOCHS - 1
    assert reported == [requested.trial_keys[1]] * left
    assert [timeless(record) for record in records] == [timeless(record) for record in whole]
    assert not [name for name in files(tmp_path / "halves") if "checkpoints" in name]


@pytest.mark.parametrize(
    ("epoch_s", "saved_epochs"), [(1, []), (12, [2, 4, 6]), (20, [1, 2, 3, 4, 5, 6])]
)
def test_a_killed_trial_loses_at_most_30_seconds_or_an_epoch(
    epoch_s: float,
    saved_epochs: list[int],
    few_digits: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    finish = trial_run.Training.finish_epoch

    def finish_epoch(training: trial_run.Training) -> CurveRow:
        row = finish(training)
        now[0] += epoch_s
        row["seconds"] = epoch_s
        return row

    saved: list[int] = []
    monkeypatch.setattr(trial_run.Training, "finish_epoch", finish_epoch)
    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0])
    monkeypatch.setattr(trial_run, "time", clock)
    monkeypatch.setattr(
        trial_run.checkpoint,
        "save_checkpoint",
        lambda _, state, __: saved.append(len(state["curve"])),
    )
    requested = job(keep_weights="none").model_copy(update={"fidelity": 6})
    run_job(requested, Context(splits=few_digits, folder=tmp_path))
    assert saved == saved_epochs


def test_a_process_with_a_share_of_a_gpu_keeps_no_memory_after_a_job(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(trial, "torch_device", lambda _: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    on_gpu = replace(context, device="cuda", folder=None)
    (alone,) = run_job(job(), on_gpu)
    assert not emptied
    (shared,) = run_job(job(), replace(on_gpu, gpu_share=0.5))
    assert emptied == [True]
    assert shared.environment == {**alone.environment, "gpu_share": "0.5"}


def test_the_peak_of_memory_on_a_gpu_begins_with_the_job(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks: list[int] = []

    def start(*_: object) -> None:
        peaks.append(cuda.peak - cuda.allocated)
        raise KeyboardInterrupt

    cuda = install_fake_cuda(monkeypatch)
    cuda.peak = 1 << 20  # of another job
    monkeypatch.setattr(trial.SPLIT_CACHE, "get", lambda *_: None)
    monkeypatch.setattr(trial_run.TrialRun, "start", start)
    with pytest.raises(KeyboardInterrupt):
        run_job(job(), replace(context, device="cuda"))
    assert peaks == [0]


def test_seeds_side_by_side_continue_where_each_was_saved(context: Context, tmp_path: Path) -> None:
    requested = job(seeds=(0, 1, 2))
    whole = run_job(requested, replace(context, folder=tmp_path / "whole"))
    together = replace(context, folder=tmp_path / "halves", lanes=3)
    with pytest.raises(Stop):  # the first and the second seed have trained one epoch
        run_job(requested, replace(together, on_epoch=stop_at(1, calls=2)))
    reported: list[str] = []
    records = run_job(requested, replace(together, on_epoch=lambda key, _: reported.append(key)))
    first, second, third = requested.trial_keys.values()
    assert reported == [first, second, third, third]
    assert [timeless(record) for record in records] == [timeless(record) for record in whole]


def interrupted(context: Context, requested: Job) -> Path:
    """Return the checkpoint of a trial that was killed after its first epoch."""
    assert context.folder
    with pytest.raises(Stop):
        run_job(requested, replace(context, on_epoch=stop_at(1)))
    return context.folder / "checkpoints" / f"{requested.trial_keys[0]}.pt"


@pytest.mark.parametrize("damage", ["torn", "garbage", "other network", "other content"])
def test_a_damaged_checkpoint_is_ignored(damage: str, context: Context, tmp_path: Path) -> None:
    (whole,) = run_job(job(), replace(context, folder=tmp_path / "whole"))
    path = interrupted(context, job())
    if damage == "torn":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "garbage":
        path.write_bytes(b"no checkpoint")
    elif damage == "other network":
        wide = job(PLAN.model_copy(update={"width": 8}).architecture())
        path.write_bytes(interrupted(context, wide).read_bytes())
    else:
        torch.save({"network": 3}, path)
    (record,) = run_job(job(), context)
    assert timeless(record) == timeless(whole)
    assert not path.exists()
