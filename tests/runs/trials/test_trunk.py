"""Trials of different lengths that share a trunk, and trials on lower rungs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import Record
from partialnas.runs.trials import trial_run
from partialnas.runs.trials.build import subject_cost
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.space.arch.plan import Plan

TASK = resolve_task("digits")
PLAN = Plan(width=4, depths=(1, 1, 1, 1), stem_stride=1, head_width=16)
LENGTHS = (2, 4, 6)  # trunks of 1, 3 and 4 epochs


def job(epochs: int, rung: str = "", plan: Plan = PLAN, **settings: Any) -> Job:
    usual = {"schedule": "trapezoid", "ema": 0.9, "drop_path": 0.1, "keep_weights": "all"}
    recipe = Recipe.model_validate(usual | settings)
    return Job(
        subject=plan.architecture(),
        task=TASK,
        recipe=recipe,
        fidelity=epochs,
        seeds=(0,),
        rung=rung,
        branches=True,
    )


def timeless(record: Record) -> dict[str, Any]:
    data = record.model_dump(include={"key", "metrics", "curve", "ratios", "cost", "state"})
    return {**data, "curve": [{**row, "seconds": 0} for row in data["curve"]]}


def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that the number of each trained epoch is added to."""
    epochs: list[int] = []
    begin = trial_run.Training.begin_epoch

    def counted(training: trial_run.Training, limit_s: float) -> None:
        epochs.append(len(training.curve) + 1)
        begin(training, limit_s)

    monkeypatch.setattr(trial_run.Training, "begin_epoch", counted)
    return epochs


@pytest.mark.parametrize(
    "settings",
    [
        {"cool_down": 0.3, "warmup_steps": 30},
        pytest.param({"optimizer": "sgd", "precision": "bfloat16"}, marks=pytest.mark.slow),
    ],
)
def test_a_longer_training_continues_from_a_trunk_to_the_same_result(
    settings: dict[str, Any],
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = [
        run_job(job(n, **settings), replace(context, folder=tmp_path / "alone"))[0] for n in LENGTHS
    ]
    epochs = trained(monkeypatch)
    shared_context = replace(context, folder=tmp_path / "shared")
    rungs = ("rung 1 of 3", "rung 2 of 3", "")
    trunks = [job(n, **settings).trunk_epochs for n in LENGTHS]
    assert 0 < trunks[0] < trunks[1]
    finished = 0
    for n, rung, whole in zip(LENGTHS, rungs, alone, strict=True):
        del epochs[:]
        (shared,) = run_job(job(n, rung, **settings), shared_context)
        assert epochs == [*range(finished + 1, n + 1)]
        assert (shared.state, shared.reason) == ("early" if rung else "done", rung or None)
        assert timeless(shared) | {"state": "done"} == timeless(whole)
        # the time of the trunk counts in the record of the shorter training
        seconds = sum(row["seconds"] for row in shared.curve[finished:])
        assert seconds <= shared.seconds < seconds + 5 * max(row["seconds"] for row in shared.curve)
        finished = job(n, **settings).trunk_epochs
    left = [
        str(file.relative_to(shared_context.folder)) for file in shared_context.folder.rglob("*.*")
    ]  # type: ignore[union-attr]
    assert left == [f"weights/{alone[-1].key}.safetensors"]
    weights = [
        load_file(tmp_path / name / "weights" / f"{alone[-1].key}.safetensors")
        for name in ("alone", "shared")
    ]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_a_shorter_training_does_not_continue_from_the_trunk_of_a_longer_one(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_context = replace(context, folder=tmp_path)
    run_job(job(4, "rung 2 of 3"), shared_context)
    epochs = trained(monkeypatch)
    (short,) = run_job(job(2, "rung 1 of 3"), shared_context)
    assert epochs == [1, 2]
    assert timeless(short)["metrics"] == run_job(job(2), context)[0].metrics


def test_a_damaged_trunk_is_ignored(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_context = replace(context, folder=tmp_path)
    run_job(job(2, "rung 1 of 2"), shared_context)
    (trunk,) = tmp_path.rglob("*.trunk")
    trunk.write_bytes(trunk.read_bytes()[:100])
    epochs = trained(monkeypatch)
    run_job(job(4), shared_context)
    assert epochs == [1, 2, 3, 4]


def test_learned_ratios_have_no_trunk() -> None:
    learned = Plan.model_validate({**PLAN.model_dump(), "ratio": [{"learned": {"budget": "1/4"}}]})
    assert job(4).trunk_epochs == 3
    assert job(4, plan=learned).trunk_epochs == 0
    assert job(4, schedule="one_cycle").trunk_epochs == 0


def test_trunk_keys_do_not_depend_on_length_and_rung() -> None:
    assert len({job(n, rung).trunk_key(0) for n in LENGTHS for rung in ("", "rung 1 of 2")}) == 1
    assert job(4).trial_keys == job(4, "rung 1 of 2").trial_keys
    assert job(4).trunk_key(0) != job(4).trunk_key(1)
    assert job(4).trunk_key(0) != job(4, lr=0.1).trunk_key(0)


def test_a_narrow_network_has_the_cost_of_the_full_one_and_keeps_no_weights(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    built = trial_run.build_network
    monkeypatch.setattr(
        trial_run,
        "build_network",
        lambda subject, *a: widths.append(subject.widths[0]) or built(subject, *a),
    )
    wide = PLAN.model_copy(update={"width": 8})
    narrow = job(1, "rung 1 of 2", wide, width_share="1/2")
    (record,) = run_job(narrow, replace(context, folder=tmp_path))
    assert widths == [4]
    assert (record.state, record.digest) == ("early", wide.architecture().digest)
    assert record.cost == subject_cost(wide.architecture(), TASK)
    assert record.key not in (job(1).trial_keys[0], job(1, plan=wide).trial_keys[0])
    assert not [*tmp_path.rglob("*.safetensors")]


def test_a_share_of_the_images_shortens_epochs(context: Context) -> None:
    whole = job(1).recipe
    share = job(1, data_share="1/4").recipe
    assert context.splits is not None
    pools = [
        trial_run.DeviceSplits.from_splits(context.splits, r, torch.device("cpu"))
        for r in (whole, share)
    ]
    assert len(pools[1].train) == pytest.approx(len(pools[0].train) / 4, abs=10)
    assert len(pools[1].val) == len(pools[0].val)
    assert job(1, data_share="1/4").trial_keys != job(1).trial_keys
