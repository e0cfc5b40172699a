"""Arguments and options that several verbs have."""

from pathlib import Path
from typing import Annotated

import typer

StudyFile = Annotated[
    Path, typer.Argument(help="A study in YAML, such as search/studies/quickstart.yaml.")
]
StudyFolder = Annotated[Path, typer.Argument(help="The folder that `run` wrote.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the results. Default: results/STUDY.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Apply the study's `quick:` settings.")]
Override = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a setting, keys with dots. Repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Metric = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Trained quantity. Default: the study's first objective."),
]
Against = Annotated[
    str | None,
    typer.Option(metavar="ARM", help="Compare with this arm, or none. Default: the baseline."),
]
Margin = Annotated[
    float | None, typer.Option(metavar="X", help="Difference that makes none: tests equivalence.")
]
Condition = Annotated[
    str | None,
    typer.Option("--condition", metavar="NAME", help="Of a study that has several conditions."),
]
OneCondition = Annotated[
    str, typer.Option("--condition", metavar="NAME", help="Of a study that has several.")
]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME", help="A named recipe: short, standard.")
]
Address = Annotated[
    str | None, typer.Option(help="Join a Ray cluster instead of starting one here.")
]
StyleOption = Annotated[str, typer.Option("--style", help="cvpr, neurips or slides.")]
WidthOption = Annotated[
    str | None, typer.Option("--width", help="column or page. Default: what is usual there.")
]
Resolution = Annotated[int, typer.Option(min=1, help="Side of the input in pixels.")]
