"""Arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated, Any

import typer

StudyFileArgument = Annotated[
    Path, typer.Argument(help="Study file (YAML), such as search/studies/quickstart.yaml.")
]
StudyFolderArgument = Annotated[Path, typer.Argument(help="Folder that `run` wrote.")]
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
    str | None, typer.Option("--recipe", metavar="NAME", help="Named recipe: short or standard.")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster to join. Default: start Ray here.")
]
StyleOption = Annotated[
    str, typer.Option("--style", help="Style of the figure: cvpr, neurips or slides.")
]
WidthOption = Annotated[
    str | None, typer.Option("--width", help="Width: column or page. Default: that of the style.")
]
ResolutionOption = Annotated[
    int, typer.Option(min=1, help="Height and width of the input in pixels.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1.")]
