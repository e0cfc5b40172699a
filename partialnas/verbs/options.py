"""Arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

FigureKind = Literal[
    "convergence", "attainment", "edf", "parallel", "importance", "axis", "curves", "cost"
]
Width = Literal["column", "page"]
CaptionLength = Literal["full", "short", "none"]
Precision = Literal["float32", "tfloat32", "bfloat16", "float16"]
Form = Literal["deploy", "training"]
Runtime = Literal["eager", "cuda_graph", "compiled"]
RecipeName = Literal["short", "standard", "gpu"]

StudyFileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY", help="Study file (YAML), or the name of a study of `partialnas studies`."
    ),
]
StudyFolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder that `run` wrote.")
]
StudyFoldersArgument = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="Folders that `run` wrote.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of the results. Default: results/STUDY.")
]
QuickOption = Annotated[bool, typer.Option("--quick", help="Apply the study's `quick:` settings.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a setting; KEY is dotted. Repeatable."
    ),
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="Plug-in to import first. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def figure_option(default: str) -> Any:
    """Return the option `--output` of a figure, with its default in words."""
    text = f"Figure: .pdf, .svg or .png. Default: {default}."
    return typer.Option("-o", "--output", help=text)


FigureOption = Annotated[Path | None, figure_option("named after the verb, in DIR")]
MetricOption = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Trained quantity. Default: the first trained objective."),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(metavar="ARM", help="Arm to compare with, or none. Default: the baseline."),
]
MarginOption = Annotated[
    float | None,
    typer.Option(metavar="X", help="Largest negligible difference, for the equivalence test."),
]
ConditionOption = Annotated[
    str | None,
    typer.Option("--condition", metavar="NAME", help="Condition, if the study has several."),
]
RecipeOption = Annotated[
    RecipeName | None, typer.Option("--recipe", help="Named recipe to train with.")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster to join. Default: start Ray here.")
]
StyleOption = Annotated[
    str,
    typer.Option(
        "--style",
        metavar="NAME",
        help="cvpr, eccv, ieee, neurips or slides; a matplotlib style file; or both: ieee,FILE.",
    ),
]
FontOption = Annotated[
    str | None,
    typer.Option(
        "--font", metavar="NAME", help="serif, sans or an installed family. Default: sans."
    ),
]
CaptionOption = Annotated[CaptionLength, typer.Option("--caption", help="Length of the caption.")]
WidthOption = Annotated[
    Width | None, typer.Option("--width", help="Width. Default: that of the style.")
]
ResolutionOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Height and width of the input. Default: of the trial's task, or 224."
    ),
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.")]
