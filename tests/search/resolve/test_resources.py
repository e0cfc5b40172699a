"""Devices and workers of a study, on machines with and without GPUs."""

from typing import Any

import pytest
import torch

from partialnas.runs.config.recipe import Recipe
from partialnas.search.resolve.resources import Hardware, resolve_resources
from partialnas.search.study.study import Study
from partialnas.space.errors import MachineError, UserError

ADDRESS = "10.0.0.10:6379"


def study(measure: Any = "none", **executor: Any) -> Study:
    return Study.model_validate(
        {
            "study": "resources",
            "task": {"data": "digits"},
            "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
            "arms": {"resnet": "timm:test_resnet"},
            "objectives": {"val_nll": "min"},
            "measure": measure,
            "executor": executor,
        }
    )


def count_gpus_as(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let torch count this number of GPUs on this machine."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize("share", [1.5, 2, 8])
def test_a_trial_uses_one_gpu_at_most(share: float) -> None:
    with pytest.raises(ValueError, match=f"at most 1, because a trial uses one GPU, got {share:g}"):
        study(gpus_per_trial=share)


@pytest.mark.parametrize(
    ("share", "workers"),
    [
        (1, 4),
        (0.5, 8),
        (0.1, 40),
        (0.4, 8),
        (0.6, 4),
    ],
)
def test_workers_fit_on_single_gpus(
    monkeypatch: pytest.MonkeyPatch, share: float, workers: int
) -> None:
    count_gpus_as(monkeypatch, 4)
    resources = resolve_resources(study(gpus_per_trial=share))
    assert (resources.device, resources.workers) == ("cuda", workers)


def test_a_cluster_with_gpus_is_driven_from_a_machine_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count_gpus_as(monkeypatch, 0)
    resources = resolve_resources(study(), ADDRESS, lambda _: Hardware(cpus=64, gpus=8))
    assert (resources.device, resources.workers, resources.gpus) == ("cuda", 8, 8)
    assert resources.address == ADDRESS


def test_the_gpus_of_the_driver_are_not_those_of_its_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count_gpus_as(monkeypatch, 2)

    def query(_: str) -> Hardware:
        return Hardware(cpus=12, gpus=0)

    resources = resolve_resources(study(), ADDRESS, query)
    assert (resources.device, resources.workers, resources.gpus) == ("cpu", 12, 0)
    with pytest.raises(MachineError, match=f"no GPU in the cluster at {ADDRESS}"):
        resolve_resources(study(device="cuda"), ADDRESS, query)


@pytest.mark.parametrize("section", ["executor", "measure"])
def test_a_missing_gpu_is_reported(monkeypatch: pytest.MonkeyPatch, section: str) -> None:
    count_gpus_as(monkeypatch, 0)
    device = {"device": "cuda"}
    plan = study(**device) if section == "executor" else study(device, kind="in-process")
    with pytest.raises(MachineError, match=rf"{section}\.device is cuda, but .* no GPU on this"):
        resolve_resources(plan)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_tfloat32_is_refused_on_a_cpu(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    count_gpus_as(monkeypatch, 0)
    recipe = {"recipe": Recipe(precision="tfloat32")}
    with pytest.raises(UserError, match=r"recipe.precision: tfloat32 needs a GPU.*cpu"):
        resolve_resources(study(device=device).model_copy(update=recipe))
    count_gpus_as(monkeypatch, 1)
    assert resolve_resources(study(device="cuda").model_copy(update=recipe)).device == "cuda"
