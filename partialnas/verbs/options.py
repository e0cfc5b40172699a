"""Arguments and options that several verbs have."""

from pathlib import Path
from typing import Annotated

import typer

StudyFileArgument = Annotated[
    Path, typer.Argument(help="A study in YAML, such as search/studies/quickstart.yaml.")
]
StudyFolderArgument = Annotated[Path, typer.Argument(help="The folder that `run` wrote.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of the results. Default: results/STUDY.")
]
QuickOption = Annotated[bool, typer.Option("--quick", help="Apply the study's `quick:` settings.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a setting, keys with dots. Repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
MetricOption = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Trained quantity. Default: the study's first objective."),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(metavar="ARM", help="Compare with this arm, or none. Default: the baseline."),
]
MarginOption = Annotated[
    float | None, typer.Option(metavar="X", help="Difference that makes none: tests equivalence.")
]
ConditionOption = Annotated[
    str | None,
    typer.Option("--condition", metavar="NAME", help="Of a study that has several conditions."),
]
SingleConditionOption = Annotated[
    str, typer.Option("--condition", metavar="NAME", help="Of a study that has several.")
]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME", help="A named recipe: short, standard.")
]
AddressOption = Annotated[
    str | None, typer.Option(help="Join a Ray cluster instead of starting one here.")
]
StyleOption = Annotated[str, typer.Option("--style", help="cvpr, neurips or slides.")]
WidthOption = Annotated[
    str | None, typer.Option("--width", help="column or page. Default: what is usual there.")
]
ResolutionOption = Annotated[int, typer.Option(min=1, help="Side of the input in pixels.")]
