"""The verb `audit`: train a sample of networks longer, and report the trust in proxies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from partialnas.analysis.audit.figure import AuditFigure, audit_figure
from partialnas.analysis.audit.sample import choose_sample
from partialnas.analysis.audit.text import format_agreement, format_ranks
from partialnas.commands.studies.confirm import load_subjects
from partialnas.commands.terminal import frame_table, make_console, print_files, print_table
from partialnas.runs.config.quantities import Quantity

_HEADS = ("n", "τ [95 %]", "best third", "single", "regret")


def audit_study(
    folder: Path, settings: Mapping[str, Any], figure: Mapping[str, Any], *, sample: int
) -> None:
    """Train a sample of a study's networks longer, and show how far proxies can be trusted.

    Args:
        folder: the study's folder.
        settings: `length`, `recipe`, `seeds`, `repeats`, `condition` and `address`.
        figure: `output`, `metric`, `style`, `width`, `font` and `caption`.
        sample: number of networks.
    """
    from partialnas.search.followup.audit import LongerTraining, audit

    condition = settings["condition"]
    chosen = choose_sample(folder, sample, metric=figure["metric"], condition=condition)
    keys = ("length", "recipe", "seeds", "repeats")
    stage = audit(
        folder,
        load_subjects(folder, chosen.digests, "audit"),
        longer=LongerTraining(**{key: settings[key] for key in keys}),
        selection=chosen.description,
        condition=condition,
        address=settings["address"],
    )
    show_audit(folder, stage, figure)


def show_audit(folder: Path, stage: str | None, figure: Mapping[str, Any]) -> None:
    """Draw an audit, print its tables, and name the files written."""
    output = figure["output"] or folder / f"{stage or 'audit'}.pdf"
    options = {key: value for key, value in figure.items() if key != "output"}
    result = audit_figure(folder, output, stage=stage, **options)
    console = make_console()
    for target in result.audit.quantities:
        print_table(console, _agreement(result, target))
    print_table(console, frame_table("ranks", format_ranks(result.ranks, result.audit.quantity)))
    for text in filter(None, (result.note, result.caption)):
        console.print(text)
    print_files(console, result.files)


def _agreement(figure: AuditFigure, target: Quantity) -> Table:
    """Return the table of how well each ranking agrees with one quantity of longer training."""
    texts = format_agreement(figure.audit, figure.agreement, target)
    title = f"{target.label} after {figure.audit.longer_label}: Kendall's τ-b of rankings by"
    return frame_table(title, texts.iloc[:, : len(_HEADS) + 1].set_axis(["", *_HEADS], axis=1))
