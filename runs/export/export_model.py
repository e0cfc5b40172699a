"""Export of a trial's trained network as a verified static network for timm."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.loaders import Splits, load_splits
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
from partialnas.runs.trials.build import build_network
from partialnas.runs.trials.checkpoint import load_weights
from partialnas.space.arch.architecture import Architecture
from partialnas.space.deploy.freeze import freeze, learned_sizes
from partialnas.space.deploy.onnx_export import Dynamic, check_dynamic
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network
from partialnas.space.values import validate_as

_PROOF = "proof.json"
_ONNX = "model.onnx"


@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Attributes:
        trial: the exported trial.
        verification: checks of the exported network.
        files: written files.
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
    dynamic: Dynamic = "batch",
    license_name: str = "mit",
    gpus: int = 1,
    batch_size: int = 256,
) -> ExportResult:
    """Write the trained network of a trial into the folder `output`.

    Learned ratios are frozen. Nothing is written unless the network as read back from the files
    computes what the trained one does and has the recorded cost (see `verification`).

    Args:
        folder: folder of the study.
        number: number of the trial.
        output: folder that is new, empty or holds an earlier export, which is replaced.
        device: device of the speed measurement; by default the study's.
        max_seconds: time limit of the speed measurement in seconds.
        onnx: whether to write an ONNX file too, if the packages for it are installed.
        dynamic: free sizes of the ONNX file's input; see `export_onnx`.
        license_name: SPDX name of the license of network and weights, for the model card.
        gpus: default number of GPUs in the script for full training.
        batch_size: default images per step on each GPU in that script.

    Raises:
        UserError: the trial has no finished network that can be exported, or `output` holds
            something else.
        MachineError: the weights are damaged, a check fails, or the disk or the device does.
    """
    check_dynamic(dynamic)
    check_output_path(output / _PROOF)
    _check_output(output)
    trial = load_trained_trial(folder, number)
    settings = {"max_seconds": max_seconds} | ({} if device is None else {"device": device})
    protocol = validate_as(
        Protocol, trial.protocol.model_dump() | settings, "invalid settings of the measurement"
    )
    splits = load_splits(trial.task)
    trained = _load_trained(trial, splits)
    architecture, weights = trial.architecture.to_json(indent=2), _static_weights(trial, trained)
    exported = _read_back(architecture, weights, trial)
    onnx_export = None
    if onnx and not missing_packages():
        onnx_export = export_verified_onnx(trial.name, exported, splits, dynamic)
    verification = ExportVerification(
        trial=trial.name,
        key=trial.row.key,
        trained_digest=trial.subject.digest,
        digest=exported.architecture.digest,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        outputs=verify_outputs(trial, trained, exported, splits),
        cost=verify_cost(trial, exported),
        speed=time_exported(trial, splits, protocol),
        onnx=onnx_export[1] if onnx_export else None,
        environment=environment(),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    lineage = trace_lineage(trial)
    files: dict[str, str | bytes] = {
        # first, because it marks the folder as an export even if writing the others fails
        _PROOF: verification.model_dump_json(indent=2) + "\n",
        "architecture.json": architecture + "\n",
        "model.safetensors": weights,
        "config.json": timm_config(trial.architecture, trial.task, splits),
        "train.sh": train_script(trial.architecture, gpus=gpus, batch_size=batch_size),
        "README.md": model_card(trial, lineage, verification, license_name=license_name),
    }
    if onnx_export:
        files[_ONNX] = onnx_export[0]
    else:
        (output / _ONNX).unlink(missing_ok=True)  # a file of an earlier export of another network
    written = tuple(write_file(output / name, content) for name, content in files.items())
    return ExportResult(trial, verification, written)


def _check_output(output: Path) -> None:
    """Raise an error if the output holds something other than an export."""
    if not output.exists():
        return
    try:
        names = sorted(path.name for path in output.iterdir())
        proof = json.loads((output / _PROOF).read_text(encoding="utf-8")) if _PROOF in names else {}
    except (OSError, ValueError):
        names, proof = [output.name], {}
    made_by = proof.get("made_by") if isinstance(proof, dict) else None
    if names and made_by != ExportVerification.model_fields["made_by"].default:
        raise UserError(
            f"{output}: holds {names[0]} and is not an earlier export; name a new folder with -o"
        )


def _load_trained(trial: TrainedTrial, splits: Splits) -> Network:
    """Return the network as it was trained, in evaluation mode."""
    network = build_network(trial.subject, trial.task)
    assert isinstance(network, Network)  # the subject is an architecture
    load_weights(trial.weights, network, splits)
    if trial.subject.frozen(learned_sizes(network)).digest != trial.architecture.digest:
        raise UserError(
            f"{trial.weights.path}: its ratios differ from the final ratios of {trial.name}; "
            "restore the weights of this trial"
        )
    return network.eval()


def _static_weights(trial: TrainedTrial, trained: Network) -> bytes:
    static = freeze(trained) if trial.subject.learned else trained
    return save_tensors(static.state_dict(), weights_metadata(trial.architecture))


def _read_back(architecture: str, weights: bytes, trial: TrainedTrial) -> Network:
    """Return the network that readers of the files get."""
    task = trial.task
    network = Network(Architecture.from_json(architecture), task.channels, task.classes)
    network.load_state_dict(load_tensors(weights))
    return network.eval()
