"""Files of a trial: one checkpoint while it runs, and its weights when it is done."""

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
    """Write or replace a checkpoint atomically.

    Raises:
        MachineError: It cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_file(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the contents of a checkpoint, or None if it is missing or damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file can raise nearly any error; the trial then starts anew
        return None
    return state if isinstance(state, dict) else None


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint and the leftovers of an interrupted write.

    Raises:
        MachineError: It cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
        temporary_path(path).unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot remove {path}: {error.strerror}") from error


def save_weights(path: Path, network: nn.Module, job: Job) -> None:
    """Write weights and running statistics, with the subject and the task as metadata.

    Raises:
        MachineError: They cannot be written.
    """
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    metadata = {"subject": job.subject.model_dump_json(), "task": json.dumps(job.task.identity())}
    write_file(path, safetensors_bytes(weights, metadata))


def load_weights(path: Path, network: nn.Module) -> None:
    """Load the final weights, running statistics and learned ratios of a trial into a network.

    Raises:
        UserError: The file is missing or belongs to another network.
        MachineError: The file is damaged or cannot be read.
    """
    if not path.is_file():
        raise UserError(
            f"no weights at {path}: studies keep them for all trials with recipe.keep_weights: all "
            "and for trials on the front with recipe.keep_weights: front"
        )
    try:
        with safe_open(path, "pt") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            subject = parse_subject(json.loads((stored.metadata() or {}).get("subject", "{}")))
    except (SafetensorError, OSError, ValueError, UserError) as error:
        raise MachineError(
            f"{path}: damaged or unreadable ({error}); restore it from a backup or train again"
        ) from error
    mismatch = UserError(f"{path}: belongs to another network; restore the file of this trial")
    if isinstance(network, Network) and network.architecture.digest != subject_digest(subject):
        raise mismatch
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # other names or shapes
        raise mismatch from error
