"""Bundles: ONNX files and one script, for boards that cannot run this stack; and their results."""

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from partialnas.runs.config.protocol import DeviceKind, Form, Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.file import translate_errors
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.measure import board_script as board
from partialnas.runs.measure.prepared_model import convert_to_form
from partialnas.runs.measure.remeasure import TrainedNetwork
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import Subject, subject_digest, subject_name
from partialnas.runs.training.build import build_network
from partialnas.space.deploy.onnx_export import export_onnx
from partialnas.space.errors import UserError
from partialnas.space.values import Value, validate_as

MANIFEST = "manifest.json"
SCRIPT = "measure.py"
LARGEST_DIFFERENCE = 1e-2
"""Of a logit on a board and here, over the largest one: what half precision explains."""

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
    """Writes networks and the reference as ONNX files, with the script that measures them.

    Args:
        output: a file that ends in `.zip`, or a new or empty folder, or an earlier bundle.
        networks: to be measured.
        task: gives the images' size.
        protocol: the script's defaults; its form is the one that is written.
        reference: what they are timed in turns with.
        study: its `name` and `digest`, which results must name.

    Returns:
        Why each network that is left out is, by its label.

    Raises:
        UserError: the reference cannot be exported, precision is not float32, the packages that
            write ONNX are missing, or `output` holds something else.
        MachineError: it cannot be written.
    """
    if protocol.precision != "float32":
        raise UserError(f"--bundle: ONNX files are float32, got --precision {protocol.precision}")
    _check_output(output)
    with translate_errors(output), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        first = _export(reference, subject_name(reference), folder, task, protocol)
        entries, left_out = [], {}
        for network in networks:
            try:
                if network.weights is not None:
                    raise UserError("its ratios depend on the image: no fixed graph computes it")
                entries.append(_export(network.subject, network.label, folder, task, protocol))
            except UserError as error:
                left_out[network.label] = str(error)
        manifest = {
            "partialnas_bundle": board.BUNDLE_FORMAT,
            "study": study,
            "resolution": task.resolution,
            "in_chans": task.channels,
            "form": protocol.form,
            "protocol": protocol.model_dump(mode="json"),
            "reference": first,
            "networks": entries,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        shutil.copyfile(str(board.__file__), folder / SCRIPT)
        _deliver(folder, output)
    return left_out


def _check_output(output: Path) -> None:
    """Refuses a place that holds something else than a bundle."""
    if output.suffix == ".zip":
        if output.is_dir():
            raise UserError(f"{output}: is a folder; name a file that ends in .zip")
        return
    if output.is_file():
        raise UserError(f"{output}: is a file; name a folder, or a file that ends in .zip")
    if output.exists() and any(output.iterdir()) and not (output / MANIFEST).is_file():
        raise UserError(f"{output}: is not empty and no earlier bundle; name a new folder")


def _deliver(folder: Path, output: Path) -> None:
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
    """Writes one network; what the manifest says of it."""
    module, form = bundled_network(subject, task, protocol.form)
    digest = subject_digest(subject)
    path = folder / f"{digest}.onnx"
    if not path.exists():
        try:
            export_onnx(module, path, task.input_spec)
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            told = str(error).strip().splitlines()[0]
            raise UserError(f"it cannot be written as ONNX: {told}") from error
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
    """The network that a bundle holds, with random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = build_network(subject, task)
        images = torch.randn(_IMAGES, task.channels, task.resolution, task.resolution)
        return convert_to_form(network, form, images)


def example_images(task: Task) -> torch.Tensor:
    """The images whose logits a board compares with those of the manifest."""
    shape = (_IMAGES, task.channels, task.resolution, task.resolution)
    images = np.random.RandomState(0).standard_normal(shape)
    return torch.from_numpy(images.astype(np.float32))


class BoardMeasurement(Value):
    """What a board says of one network; see `runs.board`."""

    digest: str
    name: str
    form: Form
    sha256: str
    relative: float = Field(gt=0, allow_inf_nan=False)
    low: float = Field(gt=0, allow_inf_nan=False)
    high: float = Field(gt=0, allow_inf_nan=False)
    reference_seconds: float = Field(gt=0, allow_inf_nan=False)
    seconds: float = Field(gt=0, allow_inf_nan=False)
    rounds: int = Field(ge=1)
    clock_gap: float = Field(ge=0, allow_inf_nan=False)
    noisy: bool
    tainted: bool
    logit_difference: float = Field(ge=0, allow_inf_nan=False)
    taken: str

    @model_validator(mode="after")
    def _the_median_is_within(self) -> Self:
        if not self.low <= self.relative <= self.high:
            raise ValueError("relative: expected a figure within its interval")
        return self


class BoardReference(Value):
    """The reference of a bundle."""

    digest: str
    name: str
    form: Form
    sha256: str


class BoardResult(Value):
    """What the script of a bundle writes; see `runs.board`."""

    partialnas_result: Literal[1]
    study: dict[str, str]
    resolution: int = Field(ge=1)
    in_chans: int = Field(ge=1)
    form: Form
    reference: BoardReference
    device: str
    provider: str
    threads: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    environment: dict[str, str | int]
    measurements: tuple[BoardMeasurement, ...]

    def measured(self, one: BoardMeasurement) -> Measurement:
        """The measurement as a ledger keeps it."""
        itself = one.digest == self.reference.digest
        seconds = one.seconds if itself else one.reference_seconds
        throughput = one.relative * self.batch_size / seconds
        return Measurement(
            digest=one.digest,
            name=one.name,
            device=self.device,
            device_kind=_KINDS.get(self.provider, "other"),
            threads=self.threads,
            batch_size=self.batch_size,
            resolution=self.resolution,
            in_chans=self.in_chans,
            precision="float32",
            form=one.form,
            runtime="onnxruntime",
            throughput_img_s=throughput,
            latency_ms=1000 * self.batch_size / throughput,
            relative_throughput=one.relative,
            relative_low=one.low,
            relative_high=one.high,
            reference_digest=self.reference.digest,
            reference_name=self.reference.name,
            reference_form=self.reference.form,
            reference_throughput_img_s=self.batch_size / seconds,
            rounds=one.rounds,
            wall_cpu_gap=one.clock_gap,
            noisy=one.noisy,
            tainted=one.tainted,
            load=0.0,
            environment={**self.environment, "provider": self.provider},
            taken=one.taken,
        )


def read_result(path: Path, ledger: Ledger) -> list[Measurement]:
    """What a board has measured of the networks of a study; writes nothing.

    Raises:
        UserError: the file cannot be read, is no result of a bundle, holds figures that are none,
            or is about other networks than the study's.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read ({told})") from None
    if not isinstance(data, dict) or "partialnas_result" not in data:
        raise UserError(f"{path}: is not what {SCRIPT} of a bundle writes")
    result = validate_as(BoardResult, data, f"{path}: is not what {SCRIPT} of a bundle writes")
    _check_networks(path, result, ledger)
    for one in result.measurements:
        if one.logit_difference > LARGEST_DIFFERENCE:
            raise UserError(
                f"{path}: {one.name} computes something else on that board: logits differ by "
                f"{one.logit_difference:.2g} of the largest one; try another --provider there"
            )
    return [result.measured(one) for one in result.measurements]


def _check_networks(path: Path, result: BoardResult, ledger: Ledger) -> None:
    study = ledger.study
    if result.study != study.identity:
        raise UserError(
            f"{path}: is of the study {result.study.get('name')}, or of another state of it, not "
            f"of {study.name}; import it where its bundle was made"
        )
    reference = subject_digest(study.reference)
    if result.reference.digest != reference:
        raise UserError(f"{path}: was timed beside another reference than the study's")
    known = {row.digest for row in ledger.trials()} | set(ledger.frozen_digests().values())
    strange = [one.name for one in result.measurements if one.digest not in known | {reference}]
    if strange:
        raise UserError(f"{path}: the study has no network {', '.join(strange)}")
