"""Verbs about single networks. Heavy imports stay inside the functions."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from partialnas.verbs import options as shared


def describe(
    architecture: Annotated[
        str, typer.Argument(metavar="ARCH", help="Preset, JSON file, or trial as DIR:7.")
    ],
    resolution: shared.ResolutionOption = None,
    in_chans: Annotated[
        int | None,
        typer.Option(min=1, help="Channels of the input. Default: of the trial's task, or 3."),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=2, help="Classes of the head. Default: of the trial's task, or 1000."),
    ] = None,
    plugin: shared.PluginOption = None,
    json: shared.JsonOption = False,
) -> None:
    """Print an architecture's parameters and MACs by block.

    Costs come from closed formulas; the network is not built. `macs` counts what fvcore counts
    (norms and pooling included), `macs_core` only convolutions and matrix products.

    Example: `partialnas describe results/quickstart:7`
    """
    from partialnas.commands.networks.describe import show_architecture
    from partialnas.commands.networks.names import find_architecture, network_input
    from partialnas.space.plugins import load_plugins

    load_plugins(plugin or (), Path())
    network = find_architecture(architecture)
    input_spec = network_input(architecture, resolution, in_chans, classes)
    show_architecture(architecture, network, input_spec, as_json=json)


def measure(
    architectures: Annotated[
        list[str],
        typer.Argument(metavar="ARCH...", help="Presets, JSON files, trials (DIR:7), timm:NAME."),
    ],
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    resolution: shared.ResolutionOption = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Fold batch norms first, as for deployment.")
    ] = False,
    device: shared.DeviceOption = "cpu",
    precision: Annotated[shared.Precision, typer.Option(help="Type of numbers.")] = "float32",
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Maximum measuring time of each network.")
    ] = 20.0,
    plugin: shared.PluginOption = None,
    json: shared.JsonOption = False,
) -> None:
    """Measure throughput (img/s) and latency (ms per batch).

    The first network is the reference: timings of every other network alternate with it, so that
    drift of the machine cancels in `relative_throughput`. A result is marked noisy if wall-clock
    time and CPU time disagree, or if its interval stayed wide.

    Example: `partialnas measure fasternet_t0 partialnet_t0 --batch-size 8 --deploy`
    """
    from partialnas.commands.networks.describe import measure_networks
    from partialnas.space.plugins import load_plugins

    load_plugins(plugin or (), Path())
    settings = {
        "device": device, "threads": threads, "batch_size": batch_size, "precision": precision,
        "form": "deploy" if deploy else "training", "max_seconds": seconds,
    }  # fmt: skip
    measure_networks(architectures, resolution, settings, as_json=json)


def flops(
    names: Annotated[
        list[str],
        typer.Argument(metavar="DIR|ARCH...", help="Studies, presets, JSON files, DIR:7, timm:X."),
    ],
    resolution: shared.ResolutionOption = None,
    json: shared.JsonOption = False,
) -> None:
    """Compare MAC counters, and MACs with measured speed.

    For each network, or for each kind of network in a study: multiply-accumulates by closed
    formula, by fvcore (with the operators that it skips) and by torch's own counter, in training
    and in deploy form. For a study also how well MACs predict the ranking by measured throughput
    (Kendall's tau with its interval), and the pairs that MACs rank most wrongly.

    Example: `partialnas flops results/quickstart`
    """
    from partialnas.commands.networks.flops import show_flops

    show_flops(names, resolution, as_json=json)


def remeasure(
    folder: shared.StudyFolderArgument,
    top: Annotated[
        str, typer.Option(metavar="front|all|N", help="Networks: the front, all, or the best N.")
    ] = "front",
    condition: shared.ConditionOption = None,
    device: shared.DeviceOption = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a forward pass.")] = None,
    precision: Annotated[shared.Precision | None, typer.Option(help="Type of numbers.")] = None,
    form: Annotated[
        shared.Form | None, typer.Option(help="With batch norms folded, or as trained.")
    ] = None,
    runtime: Annotated[shared.Runtime | None, typer.Option(help="How a network is run.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Maximum measuring time of each network.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure networks that this machine already measured.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write ONNX files and a script: .zip or folder."),
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Import the result of a bundle's script."),
    ] = None,
    json: shared.JsonOption = False,
) -> None:
    """Measure networks of a study on another device or setting.

    Trains nothing. Settings that are not given are those of the study. The measurements go into
    the same ledger, separate from the study's own: figures and tables do not change
    (`pareto --timing` shows the new ones). Prints the relative throughput before and now with 95 %
    intervals, the rank agreement, and how the front changes. The same command measures what is
    still missing.

    For a board that cannot run PyTorch, `--bundle` writes ONNX files and one script that needs
    only numpy and onnxruntime; `--import` reads its result.

    Example: `partialnas remeasure results/quickstart --batch-size 1 --runtime compiled`
    """
    from partialnas.commands.networks.remeasure import bundle_study, import_result, remeasure_study

    options = {
        "device": device, "batch_size": batch_size, "precision": precision, "form": form,
        "runtime": runtime, "threads": threads, "max_seconds": seconds,
    }  # fmt: skip
    settings = {key: value for key, value in options.items() if value is not None}
    condition = condition or ""
    if bundle is not None and import_ is not None:
        raise typer.BadParameter("--bundle and --import cannot be combined")
    if bundle is not None:
        bundle_study(folder, top, condition, settings, bundle)
    elif import_ is not None:
        import_result(folder, import_, condition, as_json=json)
    else:
        remeasure_study(folder, top, condition, settings, again=again, as_json=json)


def export_model(
    trial: Annotated[str, typer.Argument(metavar="DIR:7", help="Trial of a study.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder of the files.")
    ],
    device: Annotated[
        str | None, typer.Option(help="Device to measure on. Default: that of the study.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Maximum measuring time.")] = 20.0,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Write model.onnx too.")] = True,
    dynamic: Annotated[
        Literal["none", "batch", "all"],
        typer.Option(help="Free sizes of model.onnx: none, the batch, or also height and width."),
    ] = "batch",
    license_name: Annotated[
        str, typer.Option("--license", metavar="SPDX", help="License of the weights (model card).")
    ] = "mit",
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of the full training (train.sh).")] = 1,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Batch size of each GPU (train.sh).")
    ] = 256,
) -> None:
    """Write a trial's trained network for timm, ratios frozen.

    Verifies before it writes: the static network computes what the trained one does (on validation
    images, within 1e-5 of the largest logit), its cost agrees between formula, fvcore and record,
    and its speed is compared with that of a hand-specified static network of the same ratios. The
    trial must be done, its weights kept (`status --trials` lists them), and its ratios static or
    learned per layer.

    Writes `architecture.json` (plain ratios), `model.safetensors`, `config.json` (timm's),
    `model.onnx` (deploy form, logits compared; needs the packages of `partialnas[onnx]`),
    `README.md` (the model card: data, recipe, metrics with their deviation over seeds, cost,
    license, limits), `train.sh` (a full training with timm's script and the published recipe, the
    learning rate scaled to the total batch size) and `proof.json`.

    Example: `partialnas export-model results/static-vs-dynamic:7 -o dpconv`
    """
    from partialnas.commands.results.export import export_trained_model

    settings = {
        "device": device, "max_seconds": seconds, "onnx": onnx, "dynamic": dynamic,
        "license_name": license_name, "gpus": gpus, "batch_size": batch_size,
    }  # fmt: skip
    export_trained_model(trial, output, settings)
