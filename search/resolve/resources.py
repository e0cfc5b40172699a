"""Where a study's trials run: device, workers and their shares."""

import os
from dataclasses import dataclass

from partialnas.search.study.study import Study
from partialnas.space.errors import MachineError, UserError


@dataclass(frozen=True)
class Resources:
    """Where trials run.

    Attributes:
        device: that each trial trains on: `cpu` or `cuda`.
        workers: trials at once.
        cpus_per_trial: threads of each.
        gpus_per_trial: share of a GPU of each; 0 on a CPU.
        address: of a Ray cluster to join.
    """

    device: str
    workers: int
    cpus_per_trial: int
    gpus_per_trial: float
    address: str | None = None


def resolve_resources(study: Study, address: str | None = None) -> Resources:
    """Where the trials of a study run on this machine, or on the cluster at `address`.

    Raises:
        UserError: an address, for a study that runs in this process; a GPU to measure on that
            Ray's workers do not see.
        MachineError: the study asks for a GPU that is not there.
    """
    alone = study.executor.kind == "in-process"
    if alone and address is not None:
        raise UserError(
            "--address joins a Ray cluster, but executor.kind is in-process: leave --address out, "
            "or --set executor.kind=ray"
        )

    gpus = _gpus(study)
    spec = study.executor
    device = ("cuda" if gpus else "cpu") if spec.device == "auto" else spec.device
    for place, wanted in (("executor", device), ("measure", study.measure.device)):
        if wanted.startswith("cuda") and not gpus and address is None:
            raise MachineError(
                f"{place}.device is {wanted}, but this machine has no GPU that PyTorch can use; "
                f"--set {place}.device=cpu runs on the processor"
            )
    _check_measuring(study, device)
    share = spec.gpus_per_trial if device == "cuda" else 0.0
    threads = study.recipe.threads
    fitting = int(gpus / share) if share else (os.cpu_count() or 1) // threads
    workers = max(1, fitting) if spec.workers == "auto" else spec.workers
    return Resources(device, 1 if alone else workers, threads, share, address)


def _gpus(study: Study) -> int:
    """How many PyTorch can use here; it is not asked where all is to run on the processor."""
    if {study.executor.device, study.measure.device} == {"cpu"}:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _check_measuring(study: Study, device: str) -> None:
    """Refuses a GPU to measure on that a worker of Ray does not see: it sees those it trains on."""
    wanted = study.measure.device
    seen = ("cpu", "cuda", "cuda:0") if device == "cuda" else ("cpu",)
    if study.executor.kind == "ray" and study.trial is None and wanted not in seen:
        raise UserError(
            f"measure.device: {wanted} is not what workers of Ray train on, and they see no other "
            f"GPU; --set executor.kind=in-process does, or measure on {seen[-1]} and time the "
            f"front afterwards with `partialnas remeasure DIR --device {wanted}`"
        )
