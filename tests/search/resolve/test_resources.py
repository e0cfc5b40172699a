"""Devices and workers of a study, on machines with and without GPUs."""

from pathlib import Path
from typing import Any

import pytest
import torch

from partialnas.search.check.check_study import check_study
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resources import Hardware, check_precision, resolve_resources
from partialnas.search.session.run_study import run_study
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


TF32 = {"recipe.precision": "tfloat32"}


def check_precision_of(device: str = "cpu", **settings: Any) -> None:
    plain = study().frozen() | settings
    check_precision(resolve_study(Study.model_validate(plain), Path()), device)


@pytest.mark.parametrize(
    ("settings", "trials"),
    [
        ({"recipe": {"precision": "tfloat32"}}, " of arm resnet"),
        ({"conditions": {"plain": {}, "fast": TF32}}, " of arm resnet under fast"),
        (
            {
                "arms": {},
                "ablation": {
                    "design": "one-factor",
                    "baseline": {"width": 8},
                    "factors": {"fast": {"yes": TF32}},
                    "match": "none",
                },
            },
            " of arm fast=yes",
        ),
        (
            {
                "arms": {},
                "recipe": {"precision": "tfloat32"},
                "space": {"axes": {"width": [8, 12]}},
                "search": {},
                "budget": {"trials": 2},
            },
            "",
        ),
    ],
)
def test_tfloat32_is_refused_wherever_trials_on_a_cpu_would_use_it(
    settings: dict[str, Any], trials: str
) -> None:
    message = f"recipe.precision: tfloat32 needs a GPU, but trials{trials} run on the cpu"
    with pytest.raises(UserError, match=f"^{message}"):
        check_precision_of(**settings)
    check_precision_of("cuda", **settings)


def test_a_function_in_place_of_training_may_have_any_precision() -> None:
    check_precision_of(trial="module:function", recipe={"precision": "tfloat32"})


def test_a_run_and_its_check_refuse_tfloat32_on_a_cpu(tmp_path: Path) -> None:
    plain = study(device="cpu").frozen() | {"recipe": {"precision": "tfloat32"}}
    refused = Study.model_validate(plain)
    for call in (
        lambda: run_study(refused, tmp_path / "out"),
        lambda: check_study(refused, base_dir=Path(), show=print),
    ):
        with pytest.raises(UserError, match="tfloat32 needs a GPU"):
            call()
    assert not (tmp_path / "out").exists()


def test_mistakes_are_reported_before_a_cluster_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[str] = []
    monkeypatch.setattr("partialnas.search.executors.ray_tune.cluster_hardware", joined.append)
    plain = study().frozen() | {"arms": {"missing": "missing.json"}}
    with pytest.raises(UserError, match=r"missing\.json"):
        run_study(Study.model_validate(plain), tmp_path / "out", address=ADDRESS)
    assert not joined
