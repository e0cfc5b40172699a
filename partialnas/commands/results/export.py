"""The verbs `export` and `export-model`."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partialnas.commands.networks.names import parse_trial
from partialnas.commands.terminal import make_console, print_files, print_lines
from partialnas.installation import install_command
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from partialnas.runs.export.export_model import ExportResult
    from partialnas.runs.records.measurement import Measurement


def export_trials(folder: Path, output: Path) -> None:
    """Write all trials of a study, one row per trial."""
    from partialnas.analysis import export, load

    trials = load(folder, stage=None)
    export(trials, output)
    print_lines(make_console(), f"wrote {len(trials)} trials to {output}")


def export_trained_model(name: str, output: Path, settings: Mapping[str, Any]) -> None:
    """Export the trained network of a trial, and print what was verified.

    Args:
        name: the trial as DIR:7.
        output: folder of the files.
        settings: keyword arguments of `export_model`.

    Raises:
        UserError: `name` is not a trial, or the trial cannot be exported.
    """
    from partialnas.runs.export.export_model import export_model

    trial = parse_trial(name)
    if trial is None:
        raise UserError(
            f"{name}: expected a trial as DIR:7; `partialnas status DIR --trials` lists the trials"
        )
    result = export_model(*trial, output, **settings)
    console = make_console()
    onnx = _onnx(result) if settings["onnx"] else ()
    print_lines(console, *_verified(result), *onnx, *_usage(output))
    print_files(console, result.files)


def _verified(result: "ExportResult") -> list[str]:
    trial, verification = result.trial, result.verification
    network = f"{verification.digest} · {trial.architecture.summary()}"
    if trial.subject.learned:
        network = f"{verification.trained_digest}, its ratios frozen: {network}"
    outputs, cost = verification.outputs, verification.cost
    return [
        f"{verification.trial}: {network}",
        f"outputs: differ by {outputs.difference:.1e} of the largest logit on {outputs.images} "
        f"validation images (limit {outputs.at_most:g}); accuracy {outputs.val_accuracy:.2f} %",
        f"cost: {cost.macs:,} multiply-accumulates and {cost.params:,} parameters; formula, fvcore "
        "and record agree",
        speed_line(verification.speed, is_learned=bool(trial.subject.learned)),
    ]


def _onnx(result: "ExportResult") -> list[str]:
    check = result.verification.onnx
    if check is None:
        return [f"onnx: not written; install its packages: {install_command('onnx')}"]
    return [
        f"onnx: logits differ by {check.difference:.1e} of the largest one on {check.images} "
        f"validation images (limit {check.at_most:g}); opset {check.opset}"
    ]


def speed_line(speed: "Measurement", *, is_learned: bool) -> str:
    """Return the speed with its marks; relative to the static network for learned ratios."""
    mark, marks = "~" * bool(speed.num_marks), f" ({speed.marks_text})" * bool(speed.marks_text)
    throughput = f"{mark}{speed.throughput_img_s:,.0f} img/s{marks}"
    where = f"{throughput} on {speed.device}, batch {speed.batch_size}"
    if not is_learned:
        return f"speed: {where}, deploy form"
    return (
        f"speed: {speed.relative_throughput:.3f} ({speed.relative_low:.3f}-"
        f"{speed.relative_high:.3f}) times that of the hand-specified static network of the "
        f"same ratios; {where}, deploy form, {speed.rounds} rounds"
    )


def _usage(folder: Path) -> list[str]:
    return [
        "to load it:",
        "  import timm, partialnas.space.timm",
        f"  model = timm.create_model({json.dumps(f'local-dir:{folder}')}, pretrained=True)",
        f"to train it in full: sh {shlex.quote(str(folder / 'train.sh'))} DATA",
    ]
