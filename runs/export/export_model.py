"""Exports a trial's trained network: static, proved to be the trained one, ready for timm."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.export.lineage import trace_lineage
from partialnas.runs.export.model_card import model_card
from partialnas.runs.export.timm_files import timm_config, train_script, weights_metadata
from partialnas.runs.export.trained_trial import TrainedTrial, load_trained_trial
from partialnas.runs.export.verification import (
    ExportVerification,
    time_exported,
    verify_cost,
    verify_outputs,
)
from partialnas.runs.export.verify_onnx import export_verified_onnx, missing_packages
from partialnas.runs.system.environment import environment
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.runs.training.build import build_network
from partialnas.runs.training.checkpoint import load_weights
from partialnas.space.arch.architecture import Architecture
from partialnas.space.deploy.freeze import freeze, learned_sizes
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network
from partialnas.space.values import validate_as

_PROOF = "proof.json"
_ONNX = "model.onnx"


@dataclass(frozen=True)
class ExportResult:
    """What was exported.

    Attributes:
        trial: that it comes from.
        verification: what was proved of it.
        files: that were written.
    """

    trial: TrainedTrial
    verification: ExportVerification
    files: tuple[Path, ...]


def export_model(
    folder: Path,
    number: int,
    output: Path,
    *,
    device: str | None = None,
    max_seconds: float = 20.0,
    onnx: bool = True,
    licence: str = "mit",
    gpus: int = 1,
    batch_size: int = 256,
) -> ExportResult:
    """Writes the trained network of a trial into the folder `output`.

    Learned ratios are frozen. Nothing is written unless the network that is read back from the
    files computes what the trained one does and costs what was recorded (see `runs.proof`).

    Args:
        folder: of the study.
        number: of the trial.
        output: a new folder, an empty one, or an earlier export, whose files are replaced.
        device: to measure the speed on; by default the study's.
        max_seconds: that measuring it may take.
        onnx: whether it is also written as an ONNX file, where the packages for it are installed.
        licence: of network and weights, as the model card tells it: an SPDX name.
        gpus: that the script of the full training uses unless told otherwise.
        batch_size: images a step on each of them, likewise.

    Raises:
        UserError: there is no finished network of ours to be had of this trial, or `output` holds
            something else.
        MachineError: the weights are damaged, a proof fails, or the disk or the device does.
    """
    trial = load_trained_trial(folder, number)
    check_output_path(output / _PROOF)
    _check_output(output)
    settings = {"max_seconds": max_seconds} | ({} if device is None else {"device": device})
    protocol = validate_as(
        Protocol, trial.protocol.model_dump() | settings, "it cannot be measured so"
    )
    splits = load_splits(trial.task)
    trained = _trained(trial)
    architecture, weights = trial.architecture.to_json(indent=2), _weights(trial, trained)
    exported = _read_back(architecture, weights, trial)
    as_onnx = (
        export_verified_onnx(trial.name, exported, splits)
        if onnx and not missing_packages()
        else None
    )
    proof = ExportVerification(
        trial=trial.name,
        key=trial.row.key,
        trained_digest=trial.subject.digest,
        digest=exported.architecture.digest,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        outputs=verify_outputs(trial, trained, exported, splits),
        cost=verify_cost(trial, exported),
        speed=time_exported(trial, splits, protocol),
        onnx=as_onnx[1] if as_onnx else None,
        environment=environment(),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    files: dict[str, str | bytes] = {
        # first, because it marks the folder as an export even if the rest cannot be written
        _PROOF: proof.model_dump_json(indent=2) + "\n",
        "architecture.json": architecture + "\n",
        "model.safetensors": weights,
        "config.json": timm_config(trial.architecture, trial.task, splits),
        "train.sh": train_script(trial.architecture, gpus=gpus, batch_size=batch_size),
        "README.md": model_card(trial, trace_lineage(trial), proof, licence=licence),
    }
    if as_onnx:
        files[_ONNX] = as_onnx[0]
    else:
        (output / _ONNX).unlink(missing_ok=True)  # of an earlier export: another network's
    return ExportResult(
        trial, proof, tuple(write_file(output / n, text) for n, text in files.items())
    )


def _check_output(output: Path) -> None:
    """Refuses a place that holds something else than an export."""
    if not output.exists():
        return
    try:
        names = sorted(path.name for path in output.iterdir())
        told = json.loads((output / _PROOF).read_text(encoding="utf-8")) if _PROOF in names else {}
    except (OSError, ValueError):
        names, told = [output.name], {}
    made_by = told.get("made_by") if isinstance(told, dict) else None
    if names and made_by != ExportVerification.model_fields["made_by"].default:
        raise UserError(
            f"{output}: holds {names[0]} and is no earlier export, so that nothing is written "
            "there; name a new folder with -o"
        )


def _trained(trial: TrainedTrial) -> Network:
    """The network as it was trained, in evaluation mode."""
    network = build_network(trial.subject, trial.task)
    assert isinstance(network, Network)  # the subject is an architecture
    load_weights(trial.weights, network)
    if trial.subject.frozen(learned_sizes(network)).digest != trial.architecture.digest:
        raise UserError(
            f"{trial.weights}: holds other ratios than {trial.name} ended with; put the weights of "
            "this trial in its place"
        )
    return network.eval()


def _weights(trial: TrainedTrial, trained: Network) -> bytes:
    static = freeze(trained) if trial.subject.learned else trained
    return bytes_of(static.state_dict(), weights_metadata(trial.architecture))


def _read_back(architecture: str, weights: bytes, trial: TrainedTrial) -> Network:
    """The network that a reader of the files gets."""
    task = trial.task
    network = Network(Architecture.from_json(architecture), task.channels, task.classes)
    network.load_state_dict(tensors_from(weights))
    return network.eval()
