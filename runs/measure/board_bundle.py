"""Bundles of ONNX files and a script for boards that cannot run PyTorch, and import of results."""

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from pydantic_core import from_json
from torch import nn

from partialnas.runs.config.protocol import DeviceKind, Form, Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.file import translate_errors
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.measure import board_script
from partialnas.runs.measure.prepared_model import convert_to_form
from partialnas.runs.measure.remeasure import TrainedNetwork
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import Subject, subject_digest, subject_name
from partialnas.runs.system.files import check_output_path
from partialnas.runs.trials.build import build_network
from partialnas.space.deploy.onnx_export import export_onnx
from partialnas.space.errors import UserError
from partialnas.space.values import Value, validate_as

MANIFEST = "manifest.json"
SCRIPT = "measure.py"
MAX_LOGIT_DIFFERENCE = 1e-2
"""Largest allowed difference of logits between a board and this machine, as a share of the largest
logit; half precision explains a difference of this size."""

_IMAGES = 2
_KINDS: dict[str, DeviceKind] = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
}


def write_bundle(
    output: Path,
    networks: Sequence[TrainedNetwork],
    task: Task,
    protocol: Protocol,
    reference: Subject,
    study: dict[str, str],
) -> dict[str, str]:
    """Write networks and the reference as ONNX files, with the script that measures them.

    Args:
        output: a file name that ends in `.zip`, or a folder that is new, empty or a bundle.
        networks: networks to measure.
        task: gives the shape of the images.
        protocol: form of the networks, and defaults of the script.
        reference: network that they are interleaved with.
        study: `name` and `digest` of the study, which are checked on import.

    Returns:
        By label, the reasons why networks were left out.

    Raises:
        UserError: the reference cannot be exported, precision is not float32, the packages that
            write ONNX are missing, or `output` holds something else.
        MachineError: the bundle cannot be written.
    """
    if protocol.precision != "float32":
        raise UserError(f"--bundle: ONNX files are float32, got --precision {protocol.precision}")
    _check_output(output)
    with translate_errors(output), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        reference_entry = _export(reference, subject_name(reference), folder, task, protocol)
        entries, left_out = [], {}
        for network in networks:
            try:
                if network.weights is not None:
                    raise UserError("its ratios depend on the image, so it has no static graph")
                entries.append(_export(network.subject, network.label, folder, task, protocol))
            except UserError as error:
                left_out[network.label] = str(error)
        manifest = {
            "partialnas_bundle": board_script.BUNDLE_FORMAT,
            "study": study,
            "resolution": task.resolution,
            "in_chans": task.channels,
            "form": protocol.form,
            "protocol": protocol.model_dump(mode="json"),
            "reference": reference_entry,
            "networks": entries,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        shutil.copyfile(str(board_script.__file__), folder / SCRIPT)
        _move_to_output(folder, output)
    return left_out


def _check_output(output: Path) -> None:
    """Raise an error if the output cannot be written, or is something other than a bundle."""
    if output.suffix == ".zip":
        if output.is_dir():
            raise UserError(f"{output}: is a folder; name a file that ends in .zip")
        check_output_path(output)
        return
    if output.is_file():
        raise UserError(f"{output}: is a file; name a folder, or a file that ends in .zip")
    check_output_path(output / MANIFEST)
    if output.exists() and any(output.iterdir()) and not (output / MANIFEST).is_file():
        raise UserError(f"{output}: is neither empty nor a bundle; name a new folder")


def _move_to_output(folder: Path, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix != ".zip":
        output.mkdir(exist_ok=True)
        for old in output.glob("*.onnx"):
            old.unlink()
        shutil.copytree(folder, output, dirs_exist_ok=True)
        return
    draft = output.with_name(f".{output.name}.part")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{output.stem}/{path.name}")
    draft.replace(output)


def _export(
    subject: Subject, label: str, folder: Path, task: Task, protocol: Protocol
) -> dict[str, Any]:
    """Write one network as an ONNX file, and return its entry in the manifest."""
    module, form = bundled_network(subject, task, protocol.form)
    digest = subject_digest(subject)
    path = folder / f"{digest}.onnx"
    if not path.exists():
        try:
            export_onnx(module, path, task.input_spec)
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"it cannot be written as ONNX: {reason}") from error
    with torch.inference_mode():
        logits = module(example_images(task))
    return {
        "digest": digest,
        "name": label,
        "form": form,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "logits": logits.double().tolist(),
    }


def bundled_network(subject: Subject, task: Task, form: Form) -> tuple[nn.Module, Form]:
    """Return the network of a bundle and its form; its random weights are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = build_network(subject, task)
        images = torch.randn(_IMAGES, task.channels, task.resolution, task.resolution)
        return convert_to_form(network, form, images)


def example_images(task: Task) -> torch.Tensor:
    """Return the images for comparing a board's logits with those of the manifest."""
    shape = (_IMAGES, task.channels, task.resolution, task.resolution)
    images = np.random.RandomState(0).standard_normal(shape)
    return torch.from_numpy(images.astype(np.float32))


_Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
_Positive = Annotated[float, Field(ge=1e-15, le=1e15)]
"""A number of seconds or a relative throughput; products of three of them are finite."""


class BoardMeasurement(Value):
    """A measurement of one network by a bundle's script; see `board_script`."""

    digest: str
    name: str
    form: Form
    sha256: str
    relative: _Positive
    low: _Positive
    high: _Positive
    reference_seconds: _Positive
    seconds: _Positive
    rounds: _Count
    clock_gap: float = Field(ge=0, allow_inf_nan=False)
    noisy: bool
    tainted: bool | None
    logit_difference: float = Field(ge=0, allow_inf_nan=False)
    taken: str

    @model_validator(mode="after")
    def _check_interval(self) -> Self:
        if not self.low <= self.relative <= self.high:
            raise ValueError("relative: expected a value within its interval")
        return self


class BoardReference(Value):
    """The reference of a bundle."""

    digest: str
    name: str
    form: Form
    sha256: str


class BoardResult(Value):
    """The file that a bundle's script writes; see `board_script`."""

    partialnas_result: Literal[1]
    study: dict[str, str]
    resolution: _Count
    in_chans: _Count
    form: Form
    reference: BoardReference
    device: str
    provider: str
    threads: _Count
    batch_size: _Count
    environment: dict[str, str | int]
    measurements: tuple[BoardMeasurement, ...]

    def to_measurement(self, entry: BoardMeasurement) -> Measurement:
        """Convert an entry to a measurement of a ledger."""
        is_reference = entry.digest == self.reference.digest
        seconds = entry.seconds if is_reference else entry.reference_seconds
        throughput = entry.relative * self.batch_size / seconds
        return Measurement(
            digest=entry.digest,
            name=entry.name,
            device=self.device,
            device_kind=_KINDS.get(self.provider, "other"),
            threads=self.threads,
            batch_size=self.batch_size,
            resolution=self.resolution,
            in_chans=self.in_chans,
            precision="float32",
            form=entry.form,
            runtime="onnxruntime",
            throughput_img_s=throughput,
            latency_ms=1000 * self.batch_size / throughput,
            relative_throughput=entry.relative,
            relative_low=entry.low,
            relative_high=entry.high,
            reference_digest=self.reference.digest,
            reference_name=self.reference.name,
            reference_form=self.reference.form,
            reference_throughput_img_s=self.batch_size / seconds,
            rounds=entry.rounds,
            wall_cpu_gap=entry.clock_gap,
            noisy=entry.noisy,
            tainted=entry.tainted,
            load=0.0,
            environment={**self.environment, "provider": self.provider},
            taken=entry.taken,
        )


def read_result(path: Path, ledger: Ledger) -> list[Measurement]:
    """Read a board's measurements of a study's networks; the ledger is not changed.

    Raises:
        UserError: the file cannot be read, is not the result of a bundle, holds invalid values, or
            belongs to another study.
    """
    try:
        data = from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read ({reason})") from None
    context = f"{path}: is not a result of a bundle's {SCRIPT}"
    if not isinstance(data, dict) or "partialnas_result" not in data:
        raise UserError(context)
    result = validate_as(BoardResult, data, context)
    _check_networks(path, result, ledger)
    for entry in result.measurements:
        if entry.logit_difference > MAX_LOGIT_DIFFERENCE:
            raise UserError(
                f"{path}: the outputs of {entry.name} are wrong on the board: logits differ by "
                f"{entry.logit_difference:.2g} of the largest logit; try another --provider there"
            )
    return [result.to_measurement(entry) for entry in result.measurements]


def _check_networks(path: Path, result: BoardResult, ledger: Ledger) -> None:
    study = ledger.study
    if result.study != study.identity:
        raise UserError(
            f"{path}: belongs to study {result.study.get('name')} or another version of it, not "
            f"to {study.name}; import it into the study that the bundle was written from"
        )
    reference = subject_digest(study.reference)
    if result.reference.digest != reference:
        raise UserError(f"{path}: its reference is not that of the study; write a new --bundle")
    digests = {reference, *(row.digest for row in ledger.trials())}
    digests |= set(ledger.frozen_digests().values())
    unknown = [entry.name for entry in result.measurements if entry.digest not in digests]
    if unknown:
        raise UserError(f"{path}: the study has no network {', '.join(unknown)}")
