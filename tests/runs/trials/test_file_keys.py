"""Checkpoints and weights of another trial are never taken for those of a trial."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import CurveRow, Record
from partialnas.runs.system.files import TrialWeights, checkpoint_path, trunk_path, weights_path
from partialnas.runs.trials.checkpoint import load_weights
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network

TASK = resolve_task("digits")
SUBJECT = Plan(width=4, depths=(1, 1, 1, 1), stem_stride=1, head_width=16).architecture()


class Stop(BaseException):
    """Stands for kill: no code of the package runs after it."""


def job(*seeds: int, epochs: int = 2, **changes: Any) -> Job:
    recipe = Recipe(batch_size=16, keep_weights="all", schedule="trapezoid")
    return Job(subject=SUBJECT, task=TASK, recipe=recipe, fidelity=epochs, seeds=seeds, **changes)


def key(seed: int) -> str:
    return job(seed).trial_keys[seed]


def kill_after_one_epoch(context: Context, seed: int) -> Path:
    """Return the checkpoint that a killed trial leaves."""

    def stop(_: str, __: CurveRow) -> None:
        raise Stop

    with pytest.raises(Stop):
        run_job(job(seed), replace(context, on_epoch=stop))
    assert context.folder
    return checkpoint_path(context.folder, key(seed))


def without_key(path: Path) -> None:
    """Write a checkpoint as older versions did."""
    state = torch.load(path, weights_only=True)
    del state["trial"]
    torch.save(state, path)


def results(record: Record) -> dict[str, Any]:
    return {**record.metrics, "state": record.state}


@pytest.mark.parametrize("kind", ["other seed", "no key"])
def test_a_checkpoint_of_another_seed_is_ignored_and_reported(
    kind: str, context: Context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (alone,) = run_job(job(0), replace(context, folder=tmp_path / "alone"))
    path = kill_after_one_epoch(context, 0)
    if kind == "other seed":
        shutil.copy(kill_after_one_epoch(context, 1), path)
    else:
        without_key(path)
    with caplog.at_level(logging.WARNING):
        (record,) = run_job(job(0), context)
    assert results(record) == results(alone)
    (message,) = caplog.messages
    problem = f"belongs to trial {key(1)}" if kind == "other seed" else "does not name its trial"
    assert message == f"{path}: the checkpoint {problem} and is ignored"


def test_a_trunk_of_another_seed_is_ignored(
    context: Context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (alone,) = run_job(job(0, epochs=4), replace(context, folder=tmp_path / "alone"))
    run_job(job(0, 1, rung="rung 1 of 2", branches=True), context)
    assert context.folder
    paths = [trunk_path(context.folder, job(s, branches=True).trunk_key(s)) for s in (0, 1)]
    shutil.copy(paths[1], paths[0])
    with caplog.at_level(logging.WARNING):
        (record,) = run_job(job(0, epochs=4, branches=True), context)
    assert results(record) == results(alone)
    assert "belongs to trial" in caplog.text


@pytest.fixture
def trained(context: Context) -> list[TrialWeights]:
    """Return the weights of two seeds."""
    assert context.folder
    files = []
    for record in run_job(job(0, 1), context):
        path = weights_path(context.folder, record.key)
        files.append(TrialWeights(path, record.key, record.metrics["val_nll"], record.device))
    return files


def load(weights: TrialWeights, context: Context) -> Network:
    network = Network(SUBJECT, in_chans=1, num_classes=10)
    assert context.splits
    load_weights(weights, network, context.splits)
    return network


def remove_key(path: Path) -> None:
    """Write weights as older versions did."""
    with safe_open(path, "pt") as stored:
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        metadata = dict(stored.metadata())
    del metadata["trial"]
    save_file(weights, path, metadata)


def test_weights_of_another_seed_are_refused(trained: list[TrialWeights], context: Context) -> None:
    first, second = trained
    load(first, context)
    shutil.copy(second.path, first.path)
    with pytest.raises(UserError, match=f"weights of trial {second.key}, not of trial {first.key}"):
        load(first, context)


def test_weights_without_a_key_must_give_the_recorded_loss(
    trained: list[TrialWeights], context: Context
) -> None:
    first, second = trained
    assert abs((first.val_nll or 0) - (second.val_nll or 0)) > 1e-3
    for weights in trained:
        remove_key(weights.path)
    load(first, context)
    assert first.val_nll is not None
    load(first._replace(val_nll=first.val_nll + 9e-5), context)
    for other in (first.val_nll + 2e-4, None, float("nan")):
        with pytest.raises(UserError, match="does not name its trial, and its val_nll is"):
            load(first._replace(val_nll=other), context)
    shutil.copy(second.path, first.path)
    with pytest.raises(UserError, match="restore the file of this trial or train it again"):
        load(first, context)
