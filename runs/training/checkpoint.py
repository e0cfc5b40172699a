"""What a trial leaves on disk: one checkpoint while it runs, its weights when it is done."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import nn

from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import parse_subject, subject_digest
from partialnas.runs.system.files import temporary_path, write_file
from partialnas.space.errors import MachineError, UserError
from partialnas.space.nn.network import Network


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
        temporary_path(path).unlink(missing_ok=True)
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


def load_weights(path: Path, network: nn.Module) -> None:
    """Gives a network the weights, running statistics and learned ratios that a trial ended with.

    Raises:
        UserError: there are none, or they belong to another network.
        MachineError: the file is damaged or cannot be read.
    """
    if not path.is_file():
        raise UserError(
            f"there are no weights {path}: only trials of a study with recipe.keep_weights: all, "
            "or with front those on its front, keep them"
        )
    try:
        with safe_open(path, "pt") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            subject = parse_subject(json.loads((stored.metadata() or {}).get("subject", "{}")))
    except (SafetensorError, OSError, ValueError, UserError) as error:
        raise MachineError(
            f"{path}: damaged, or cannot be read ({error}); put a copy in its place, or train again"
        ) from error
    stranger = UserError(f"{path}: belongs to another network; put that of the trial in its place")
    if isinstance(network, Network) and network.architecture.digest != subject_digest(subject):
        raise stranger
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # names or shapes that it has not
        raise stranger from error
