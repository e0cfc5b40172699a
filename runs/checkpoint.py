"""What a trial leaves on disk: one checkpoint while it runs, its weights when it is done."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import nn

from partialnas.runs.files import unfinished, write_file
from partialnas.runs.job import Job
from partialnas.space.errors import MachineError


def checkpoint_path(folder: Path, key: str) -> Path:
    """The checkpoint of the trial `key` of a study in `folder`."""
    return folder / "checkpoints" / f"{key}.pt"


def weights_path(folder: Path, key: str) -> Path:
    """The final weights of the trial `key` of a study in `folder`."""
    return folder / "weights" / f"{key}.safetensors"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replaces the checkpoint, whole or not at all.

    Raises:
        MachineError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_file(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What the checkpoint holds; None where there is none or it is broken."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a broken file can raise nearly anything, and then the trial starts anew
        return None
    return state if isinstance(state, dict) else None


def remove_checkpoint(path: Path) -> None:
    """Removes the checkpoint, and what an interrupted write of it left.

    Raises:
        MachineError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
        unfinished(path).unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot remove {path}: {error.strerror}") from error


def save_weights(path: Path, network: nn.Module, job: Job) -> None:
    """Writes weights and running statistics, and what they belong to as metadata.

    Raises:
        MachineError: they cannot be written.
    """
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    metadata = {
        "subject": job.subject.model_dump_json(),
        "task": json.dumps(job.task.identity()),
    }
    write_file(path, safetensors_bytes(weights, metadata))
