"""Verbs about single networks. Heavy imports stay inside the verbs."""

from pathlib import Path
from typing import Annotated

import typer

from partialnas.verbs.options import (
    JsonOption,
    ResolutionOption,
    SingleConditionOption,
    StudyFolderArgument,
)


def describe(
    architecture: Annotated[
        str, typer.Argument(metavar="ARCH", help="A preset, a JSON file, or a trial as DIR:7.")
    ],
    resolution: ResolutionOption = 224,
    in_chans: Annotated[int, typer.Option(min=1, help="Channels of the input.")] = 3,
    classes: Annotated[int, typer.Option(min=2, help="Classes of the head.")] = 1000,
    json: JsonOption = False,
) -> None:
    """Print an architecture's parameters and multiply-accumulates, per block and in all.

    By closed formula, without building the network. `macs` is what fvcore counts (norms and
    pooling included), `macs_core` convolutions and matrix products alone.

    Example: `partialnas describe results/quickstart:7 --resolution 28 --in-chans 1 --classes 10`
    """
    from partialnas.commands.describe import show_architecture
    from partialnas.commands.names import find_architecture
    from partialnas.space.arch.input_spec import InputSpec

    found = find_architecture(architecture)
    input_spec = InputSpec.square(resolution, in_chans, classes)
    show_architecture(found, input_spec, as_json=json)


def measure(
    architectures: Annotated[
        list[str],
        typer.Argument(metavar="ARCH...", help="Presets, JSON files, trials (DIR:7), timm:NAME."),
    ],
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one forward pass.")] = 32,
    resolution: ResolutionOption = 224,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Fold the norms first, as for shipping.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest time for each.")] = 20.0,
    json: JsonOption = False,
) -> None:
    """Measure throughput (img/s) and latency (ms per batch) on a device.

    The first network is the reference: every other is timed in turns with it, so that drift of
    the machine cancels in `relative_throughput`. A figure is marked noisy where the wall clock and
    the processor's time disagree, or where its interval stayed wide.

    Example: `partialnas measure fasternet_t0 partialnet_t0 --batch-size 8 --deploy`
    """
    from partialnas.commands.describe import show_measurements
    from partialnas.commands.names import find_subject, measure_subjects
    from partialnas.runs.config.protocol import Protocol
    from partialnas.space.values import validate_as

    protocol = validate_as(
        Protocol,
        {
            "device": device,
            "threads": threads,
            "batch_size": batch_size,
            "precision": precision,
            "form": "deploy" if deploy else "training",
            "max_seconds": seconds,
        },
        "it cannot be measured so",
    )
    subjects = [find_subject(name) for name in architectures]
    show_measurements(measure_subjects(subjects, resolution, protocol), as_json=json)


def flops(
    names: Annotated[
        list[str],
        typer.Argument(metavar="DIR|ARCH...", help="Studies, presets, JSON files, DIR:7, timm:X."),
    ],
    resolution: ResolutionOption = 224,
    json: JsonOption = False,
) -> None:
    """Compare what counters make of networks, and MACs with measured speed.

    For each network, or for each kind of network that a study has: multiply-accumulates by closed
    formula, by fvcore with the operators that it skips, by torch's own counter, in training and in
    deploy form. Of a study also how far MACs and measured throughput rank its networks alike
    (Kendall's tau with its interval), and the pairs that MACs order most wrongly.

    Example: `partialnas flops results/quickstart`
    """
    from partialnas.commands.flops import show_flops

    show_flops(names, resolution, as_json=json)


def remeasure(
    folder: StudyFolderArgument,
    top: Annotated[
        str, typer.Option(metavar="front|all|N", help="Which networks: the front, all, the best N.")
    ] = "front",
    condition: SingleConditionOption = "",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images of one forward pass.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    form: Annotated[str | None, typer.Option(help="deploy or training.")] = None,
    runtime: Annotated[str | None, typer.Option(help="eager, cuda_graph or compiled.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Longest time for each.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Time also what this machine has timed so.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write ONNX files and a script instead: .zip or folder."),
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Read what a bundle's script has written."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Time networks of a study anew, on another device or in another way; trains nothing.

    What is not stated is as in the study. The measurements go into the same ledger, apart from the
    study's own: figures and tables stay as they are (`pareto --timing` shows others). It prints the
    relative throughput before and now with 95 % intervals, the rank agreement, and who leaves the
    front under the new figures. The same command again times what is missing.

    For a board that cannot run PyTorch, `--bundle` writes ONNX files and one script that needs
    numpy and onnxruntime alone; `--import` reads its result back.

    Example: `partialnas remeasure results/quickstart --batch-size 1 --runtime compiled`
    """
    from partialnas.commands.remeasure import bundle_study, import_result, remeasure_study

    given = {
        "device": device,
        "batch_size": batch_size,
        "precision": precision,
        "form": form,
        "runtime": runtime,
        "threads": threads,
        "max_seconds": seconds,
    }
    settings = {key: value for key, value in given.items() if value is not None}
    if bundle is not None and import_ is not None:
        raise typer.BadParameter("--bundle and --import: one at a time")
    if bundle is not None:
        bundle_study(folder, top, condition, settings, bundle)
    elif import_ is not None:
        import_result(folder, import_, condition, as_json=json)
    else:
        remeasure_study(folder, top, condition, settings, again=again, as_json=json)


def export_model(
    trial: Annotated[str, typer.Argument(metavar="DIR:7", help="A trial of a study.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the files go.")
    ],
    device: Annotated[
        str | None, typer.Option(help="Measures on cpu, cuda or cuda:1. Default: the study's.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest time to measure.")] = 20.0,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Write model.onnx too.")] = True,
    licence: Annotated[
        str, typer.Option("--license", metavar="SPDX", help="Of the weights, for the model card.")
    ] = "mit",
    gpus: Annotated[int, typer.Option(min=1, help="Of the full training in train.sh.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step on each of them.")] = 256,
) -> None:
    """Write a trial's trained network, learned ratios frozen, ready for timm.

    Proves before it writes: that the static network computes what the trained one does (validation
    images, at most 1e-5 of the largest logit), that it costs what formula, fvcore and record say,
    and how fast it runs beside a hand-specified static network of the same ratios. The trial must
    be done, its weights kept (`recipe.keep_weights: all`), its ratios static or learned per layer.

    Writes `architecture.json` (plain ratios), `model.safetensors`, `config.json` (timm's),
    `model.onnx` (deploy form, its logits compared; with the packages of `partialnas[onnx]`),
    `README.md` (the model card: data, recipe, metrics with their spread over seeds, cost, licence,
    limits), `train.sh` (a full training with timm's script by the published recipe, the learning
    rate scaled to the images of a step) and `proof.json`.

    Example: `partialnas export-model results/static-vs-dynamic:7 -o dpconv`
    """
    from partialnas.commands.export_model import require_trial, show_export
    from partialnas.runs.export.export_model import export_model

    found = export_model(
        *require_trial(trial), output, device=device, max_seconds=seconds, onnx=onnx,
        licence=licence, gpus=gpus, batch_size=batch_size,
    )  # fmt: skip
    show_export(found, onnx=onnx)
