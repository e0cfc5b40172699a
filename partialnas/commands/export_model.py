"""What the verb `export-model` prints."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from partialnas.commands.names import parse_trial
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from partialnas.runs.export.export_model import ExportResult


def require_trial(name: str) -> tuple[Path, int]:
    """The folder and the number that `DIR:7` names.

    Raises:
        UserError: it names no trial.
    """
    trial = parse_trial(name)
    if trial is None:
        raise UserError(
            f"{name}: expected a trial as DIR:7; `partialnas status DIR` shows a study's trials"
        )
    return trial


def show_export(export: "ExportResult", *, onnx: bool) -> None:
    """Print what was exported, what was proved of it, and how to load it.

    Args:
        export: what was exported.
        onnx: whether an ONNX file was asked for.
    """
    console = Console(highlight=False)
    for line in (*_proved(export), *(_onnx(export) if onnx else ()), *_loading(export)):
        console.print(line, markup=False, soft_wrap=True)


def _proved(export: "ExportResult") -> list[str]:
    trial, proof = export.trial, export.verification
    became = f"{proof.digest} · {trial.architecture.summary()}"
    if trial.subject.learned:
        became = f"{proof.trained_digest}, its ratios frozen: {became}"
    outputs, cost = proof.outputs, proof.cost
    return [
        f"{proof.trial}: {became}",
        f"outputs: differ by {outputs.difference:.1e} of the largest logit on {outputs.images} "
        f"validation images (at most {outputs.at_most:g}); accuracy {outputs.val_accuracy:.2f} %",
        f"cost: {cost.macs:,} multiply-accumulates, {cost.params:,} parameters: by formula, as "
        "counted by fvcore, and as recorded",
        _speed(export),
    ]


def _onnx(export: "ExportResult") -> list[str]:
    proof = export.verification.onnx
    if proof is None:
        return ["onnx: left out, its packages are missing: pip install 'partialnas[onnx]'"]
    return [
        f"onnx: logits differ by {proof.difference:.1e} of the largest one on {proof.images} "
        f"validation images (at most {proof.at_most:g}); opset {proof.opset}"
    ]


def _speed(export: "ExportResult") -> str:
    speed = export.verification.speed
    where = f"{speed.throughput_img_s:,.0f} img/s on {speed.device}, batch {speed.batch_size}"
    if not export.trial.subject.learned:
        return f"speed: {where}, deploy form"
    noisy = f", {speed.marks_text}" if speed.num_marks else ""
    return (
        f"speed: {speed.relative_throughput:.3f} ({speed.relative_low:.3f}-"
        f"{speed.relative_high:.3f}{noisy}) times as fast as the static network of the same "
        f"ratios; {where}, deploy form, {speed.rounds} rounds"
    )


def _loading(export: "ExportResult") -> list[str]:
    folder = export.files[0].parent
    return [
        "load it:",
        "  import timm, partialnas.space.timm",
        f'  model = timm.create_model("local-dir:{folder}", pretrained=True)',
        f"train it in full: sh {folder / 'train.sh'} DATA",
        *(f"wrote {path}" for path in export.files),
    ]
