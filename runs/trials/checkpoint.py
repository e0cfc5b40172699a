"""Files of a trial: one checkpoint while it runs, and its weights when it is done.

Each file carries the key of its trial, which is compared when the file is read: a file of another
seed has the same tensors, and would give the trial another result.
"""

import io
import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import parse_subject, subject_digest
from partialnas.runs.system.files import TrialWeights, temporary_path, write_file
from partialnas.runs.training.evaluation import evaluate
from partialnas.space.errors import MachineError, UserError
from partialnas.space.nn.network import Network

_LOG = logging.getLogger(__name__)
_TRIAL = "trial"  # name of the key in checkpoints and in the metadata of weights
_TOLERANCE = 1e-4  # of the validation loss in nats
_TOLERANCE_GPU = 2e-3  # with the reduced precision of tensor cores


def save_checkpoint(path: Path, state: dict[str, Any], key: str) -> None:
    """Write or replace a checkpoint atomically.

    Args:
        path: path of the file.
        state: tensors and plain data.
        key: key of the trial, or of the trunk that trials of different lengths share.

    Raises:
        MachineError: It cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({**state, _TRIAL: key}, buffer)
    write_file(path, buffer.getvalue(), is_resumable=True)


def load_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """Return the state in a checkpoint, or None if there is none of this key.

    A file that is damaged, without a key (as older versions wrote it) or of another key is reported
    in one line; its trial then starts anew.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file can raise nearly any error
        state = None
    if not isinstance(state, dict):
        problem = "is damaged"
    elif state.get(_TRIAL) != key:
        owner = state.get(_TRIAL)
        problem = f"belongs to trial {owner}" if owner else "does not name its trial"
    else:
        return {name: value for name, value in state.items() if name != _TRIAL}
    _LOG.warning("%s: the checkpoint %s and is ignored", path, problem)
    return None


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


def save_weights(path: Path, network: nn.Module, job: Job, key: str) -> None:
    """Write weights and running statistics, with the subject, task and key as metadata.

    Args:
        path: path of the file.
        network: trained network.
        job: job of the trial.
        key: key of the trial.

    Raises:
        MachineError: They cannot be written.
    """
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    subject, task = job.subject.model_dump_json(), json.dumps(job.task.identity())
    labels = {"subject": subject, "task": task, _TRIAL: key}
    write_file(path, safetensors_bytes(weights, labels), is_resumable=True)


def load_weights(trained: TrialWeights, network: nn.Module, splits: Splits) -> None:
    """Load the final weights, running statistics and learned ratios of a trial into a network.

    A file without a key, as older versions wrote it, must give the recorded loss on the validation
    split.

    Args:
        trained: the file, and the trial that it must belong to.
        network: network of the trial, on the CPU.
        splits: splits of the trial's task.

    Raises:
        UserError: The file is missing or belongs to another network or another trial.
        MachineError: The file is damaged or cannot be read.
    """
    path = trained.path
    if not path.is_file():
        raise UserError(
            f"no weights at {path}: studies keep them for all trials with recipe.keep_weights: all "
            "and for trials on the front with recipe.keep_weights: front"
        )
    try:
        with safe_open(path, "pt") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            metadata = stored.metadata() or {}
            subject = parse_subject(json.loads(metadata.get("subject", "{}")))
    except (SafetensorError, OSError, ValueError, UserError) as error:
        raise MachineError(
            f"{path}: damaged or unreadable ({error}); restore it from a backup or train again"
        ) from error
    mismatch = UserError(f"{path}: belongs to another network; restore the file of this trial")
    if isinstance(network, Network) and network.architecture.digest != subject_digest(subject):
        raise mismatch
    owner = metadata.get(_TRIAL)
    if owner not in (None, trained.key):
        raise UserError(
            f"{path}: holds the weights of trial {owner}, not of trial {trained.key}; restore the "
            "file of this trial"
        )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # other names or shapes
        raise mismatch from error
    if owner is None:
        _check_loss(trained, network, splits)


def _check_loss(trained: TrialWeights, network: nn.Module, splits: Splits) -> None:
    """Raise an error unless a network has the recorded loss on the validation split."""
    pool = DeviceSplit(splits.val_x, splits.val_y, splits, 0, torch.device("cpu"))
    value, _ = evaluate(network, pool, Recipe())
    tolerance = _TOLERANCE if trained.device == "cpu" else _TOLERANCE_GPU
    if trained.val_nll is None or not abs(value - trained.val_nll) <= tolerance:
        recorded = "records none" if trained.val_nll is None else f"records {trained.val_nll:.6g}"
        raise UserError(
            f"{trained.path}: does not name its trial, and its val_nll is {value:.6g} where trial "
            f"{trained.key} {recorded}; restore the file of this trial or train it again"
        )
