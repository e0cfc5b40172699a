"""Choose the device, the number of workers and their resources."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.study.study import Study
from partialnas.space.errors import MachineError, UserError


@dataclass(frozen=True)
class Hardware:
    """What trials may use on this machine, or on all machines of a cluster.

    Attributes:
        cpus: number of CPU cores.
        gpus: number of GPUs.
    """

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Resources:
    """Devices and workers that trials run on.

    Attributes:
        device: device of each trial: `cpu` or `cuda`.
        workers: number of trials that run in parallel.
        cpus_per_trial: CPU threads of each trial.
        gpus_per_trial: share of a GPU that each trial reserves; 0 on a CPU.
        gpus: number of GPUs on this machine or in the cluster; 0 if the study uses the CPU only.
        address: address of a Ray cluster to join, if any.
    """

    device: str
    workers: int
    cpus_per_trial: int
    gpus_per_trial: float
    gpus: int = 0
    address: str | None = None


def resolve_resources(
    study: Study,
    address: str | None = None,
    query_cluster: Callable[[str], Hardware] | None = None,
) -> Resources:
    """Return the resources for a study on this machine, or on the cluster at `address`.

    Args:
        study: the study.
        address: address of a Ray cluster to join, if any.
        query_cluster: returns the hardware of the cluster at an address.

    Raises:
        UserError: an address was given for a study that runs in-process, or Ray's workers cannot
            see the GPU to measure on.
        MachineError: the study needs a GPU, and there is none.
    """
    in_process = study.executor.kind == "in-process"
    if in_process and address is not None:
        raise UserError(
            "--address joins a Ray cluster, but executor.kind is in-process; remove --address or "
            "use --set executor.kind=ray"
        )
    if address is None:
        hardware = Hardware(os.cpu_count() or 1, _count_gpus(study))
        missing = "PyTorch finds no GPU on this machine"
    else:
        assert query_cluster is not None, "a cluster is asked for its hardware"
        hardware = query_cluster(address)
        missing = f"Ray finds no GPU in the cluster at {address}"
    spec, gpus = study.executor, hardware.gpus
    device = ("cuda" if gpus else "cpu") if spec.device == "auto" else spec.device
    measured_on = study.measure.device if study.times_networks else "cpu"
    for section, wanted in (("executor", device), ("measure", measured_on)):
        if wanted.startswith("cuda") and not gpus:
            raise MachineError(
                f"{section}.device is {wanted}, but {missing}; use --set {section}.device=cpu to "
                "run on the CPU"
            )
    _check_measure_device(study, device)
    share = spec.gpus_per_trial if device == "cuda" else 0.0
    threads = study.recipe.threads
    # a worker uses a part of one GPU, never parts of two
    fitting = gpus * int(1 / share) if share else hardware.cpus // threads
    workers = max(1, fitting) if spec.workers == "auto" else spec.workers
    return Resources(device, 1 if in_process else workers, threads, share, gpus, address)


def check_precision(resolved: ResolvedStudy, device: str) -> None:
    """Check that the device of trials has the precision of all recipes.

    Raises:
        UserError: it has not.
    """
    if device != "cpu" or resolved.study.trial is not None:
        return
    for condition in resolved.conditions:
        for name, recipe in resolved.recipes(condition).items():
            if recipe.precision == "tfloat32":
                place = f" of arm {name}" * bool(name)
                place += f" under {condition.name}" * bool(condition.name)
                raise UserError(
                    f"recipe.precision: tfloat32 needs a GPU, but trials{place} run on the cpu; "
                    "choose float32"
                )


def _count_gpus(study: Study) -> int:
    """Return the number of GPUs, without importing torch if the study uses the CPU only."""
    if {study.executor.device, study.measure.device} == {"cpu"}:
        return 0
    from partialnas.runs.devices.device import count_gpus  # imports torch

    return count_gpus()


def _check_measure_device(study: Study, device: str) -> None:
    """Check that Ray's workers see the GPU to measure on: they only see those they train on."""
    wanted = study.measure.device
    visible = ("cpu", "cuda", "cuda:0") if device == "cuda" else ("cpu",)
    if study.executor.kind == "ray" and study.times_networks and wanted not in visible:
        raise UserError(
            f"measure.device: Ray workers train on {device} and cannot see {wanted}; use --set "
            f"executor.kind=in-process, or measure on {visible[-1]} and time the front afterwards "
            f"with `partialnas remeasure DIR --device {wanted}`"
        )
