"""Verbs about single networks. Heavy imports stay inside the verbs."""

from pathlib import Path
from typing import Annotated

import typer

from partialnas.arguments import AsJson, Resolution


def describe(
    architecture: Annotated[
        str, typer.Argument(metavar="ARCH", help="A preset, a JSON file, or a trial as DIR:7.")
    ],
    resolution: Resolution = 224,
    in_chans: Annotated[int, typer.Option(min=1, help="Channels of the input.")] = 3,
    classes: Annotated[int, typer.Option(min=2, help="Classes of the head.")] = 1000,
    json: AsJson = False,
) -> None:
    """Print an architecture's parameters and multiply-accumulates, per block and in all.

    By closed formula, without building the network. `macs` is what fvcore counts (norms and
    pooling included), `macs_core` convolutions and matrix products alone.

    Example: `partialnas describe results/quickstart:7 --resolution 28 --in-chans 1 --classes 10`
    """
    from partialnas.overview import show_architecture
    from partialnas.subjects import find_architecture

    found = find_architecture(architecture)
    show_architecture(found, resolution, in_chans, classes, as_json=json)


def measure(
    architectures: Annotated[
        list[str],
        typer.Argument(metavar="ARCH...", help="Presets, JSON files, trials (DIR:7), timm:NAME."),
    ],
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one forward pass.")] = 32,
    resolution: Resolution = 224,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Fold the norms first, as for shipping.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest time for each.")] = 20.0,
    json: AsJson = False,
) -> None:
    """Measure throughput (img/s) and latency (ms per batch) on a device.

    The first network is the reference: every other is timed in turns with it, so that drift of
    the machine cancels in `relative_throughput`. A figure is marked noisy where the wall clock and
    the processor's time disagree, or where its interval stayed wide.

    Example: `partialnas measure fasternet_t0 partialnet_t0 --batch-size 8 --deploy`
    """
    from partialnas.overview import show_measurements
    from partialnas.runs.measurement import Protocol
    from partialnas.space.values import checked
    from partialnas.subjects import find_subject, measure_subjects

    protocol = checked(
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


def export_model(
    trial: Annotated[str, typer.Argument(metavar="DIR:7", help="A trial of a study.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the files go.")
    ],
    device: Annotated[
        str | None, typer.Option(help="Measures on cpu, cuda or cuda:1. Default: the study's.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest time to measure.")] = 20.0,
) -> None:
    """Write a trial's trained network, learned ratios frozen, ready for timm.

    Proves before it writes: that the static network computes what the trained one does (validation
    images, at most 1e-5 of the largest logit), that it costs what formula, fvcore and record say,
    and how fast it runs beside a hand-specified static network of the same ratios. The trial must
    be done, its weights kept (`recipe.keep_weights: all`), its ratios static or learned per layer.

    Writes `architecture.json` (plain ratios), `model.safetensors`, `config.json` (timm's),
    `train.sh` (a full training with timm's script) and `proof.json`.

    Example: `partialnas export-model results/static-vs-dynamic:7 -o dpconv`
    """
    from partialnas.export_overview import find_trial, show_export
    from partialnas.runs.export_model import export_model

    found = export_model(*find_trial(trial), output, device=device, max_seconds=seconds)
    show_export(found)
