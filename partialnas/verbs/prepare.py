"""Verbs that prepare a study: what is there, a new one, and its data."""

from pathlib import Path
from typing import Annotated

import typer

from partialnas.verbs import options as shared


def studies(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Study to print. Default: list all.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Copy the study to a file instead."),
    ] = None,
) -> None:
    """List the studies that partialnas contains, or print one of them.

    The list has the question of each study, and its number of trials with and without `--quick`.
    `run` and `check` take these names. A file of that name in the current folder, with or without
    `.yaml`, comes first, and their output says which one was taken.

    `-o` copies the file, and the module of a study with a function of its own. It never replaces
    a file.

    Example: `partialnas studies ladder -o my-ladder.yaml`
    """
    from partialnas.commands.studies.shipped import copy_study, list_studies, print_study

    if name is None:
        if output is not None:
            raise typer.BadParameter("-o needs the name of a study")
        list_studies()
    elif output is None:
        print_study(name)
    else:
        copy_study(name, output)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the study.")],
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="search, ablation or function.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH|NAME", help="Data set, as for `data`. Default: mnist5k."),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, metavar="PIXELS", help="Default: that of the data set.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Epochs of a training. Default: 4.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Trainings of a search in all. Default: 40."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Seeds of each network. Default: 1, ablation 5."),
    ] = None,
    objectives: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Quantities to optimize, such as val_nll,macs."),
    ] = None,
    question: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Question that the study answers.")
    ] = None,
) -> None:
    """Write a study file with comments, to be edited.

    Writes `NAME.yaml` into the current folder. It is complete: `check` and `run --quick` accept it
    as it is. The networks of its space suit the resolution of the images. On a terminal, settings
    that no option states are asked for; elsewhere they have their defaults. Nothing is replaced: a
    file of that name is an error.

    Kinds: a `search` proposes networks; an `ablation` compares settings with a baseline at equal
    cost; a `function` is a search in which a function of yours trains the networks. It is written
    beside the study, as plain PyTorch code for the digits of scikit-learn.

    Example: `partialnas new flowers --data photos/flowers --resolution 64 --kind ablation`
    """
    from partialnas.commands.studies.new import new_study

    flags = {
        "kind": kind, "data": data, "resolution": resolution, "epochs": epochs, "trials": trials,
        "seeds": seeds, "objectives": objectives, "question": question,
    }  # fmt: skip
    new_study(name, flags)


def data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH|NAME",
            help="Image folder, archive of CIFAR, or a data set as a study names it.",
        ),
    ],
    resolution: Annotated[
        int | None, typer.Option(min=1, metavar="PIXELS", help="Default: that of the data set.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Contact sheet of the images: .png."),
    ] = None,
    list_: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="List of the images by split: .csv."),
    ] = None,
    plugin: shared.PluginOption = None,
) -> None:
    """Show what a study would read of a data set.

    Prints the number of images of each split and class, their sizes before they are resized, the
    channels, what is left out or converted and why, and the memory that all images take at the
    task's resolution. The images of a folder are not decoded for that.

    `-o` writes a contact sheet: the first training images of each class as the networks see them,
    cropped and resized.

    `--list` writes the split, the class, and the file (or the position in the split) of each image,
    carved splits included.

    Data sets: `mnist5k`, `digits`, `cifar10:PATH`, `cifar100:PATH`, `folder:PATH`, and those that
    plug-ins register. The path of a folder alone means `folder:PATH`. docs/data.md has the layouts.

    Example: `partialnas data photos/flowers --resolution 64 -o flowers.png`
    """
    from partialnas.commands.studies.data import show_data

    show_data(source, resolution, output, plugin or (), listing=list_)
