"""What `partialnas audit` does: choose a sample, train it longer, tell how far to trust proxies."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from partialnas.commands.confirm import load_subjects
from partialnas.commands.terminal import plain_table

if TYPE_CHECKING:
    import pandas as pd

    from partialnas.analysis.audit.figure import AuditFigure

_HEADS = ("n", "τ [95 %]", "best third", "single", "regret")


def audit_study(
    folder: Path, asked: Mapping[str, Any], figure: Mapping[str, Any], *, sample: int
) -> None:
    """Train a sample of a study longer, and show how far its short trainings can be trusted.

    Args:
        folder: the study's.
        asked: `length`, `recipe`, `seeds`, `repeats`, `condition` and `address`.
        figure: `output`, `metric`, `style` and `width`.
        sample: how many networks.
    """
    from partialnas.analysis.audit.sample import choose_sample
    from partialnas.search.followup.audit import LongerTraining, audit

    condition = asked["condition"]
    found = choose_sample(folder, sample, metric=figure["metric"], condition=condition)
    longer = LongerTraining(**{key: asked[key] for key in ("length", "recipe", "seeds", "repeats")})
    stage = audit(
        folder,
        load_subjects(folder, found.digests, "audit"),
        longer=longer,
        selection=found.description,
        condition=condition,
        address=asked["address"],
    )
    show_audit(folder, stage, figure)


def show_audit(folder: Path, stage: str | None, figure: Mapping[str, Any]) -> None:
    """Draw an audit, print its tables, and name the files written."""
    from partialnas.analysis.audit.figure import audit_figure
    from partialnas.analysis.audit.text import format_ranks

    output = figure["output"] or folder / f"{stage or 'audit'}.pdf"
    choices = {key: figure[key] for key in ("metric", "style", "width")}
    drawn = audit_figure(folder, output, stage=stage, **choices)
    console = Console(highlight=False)
    for target in drawn.audit.quantities:
        console.print(_agreement(drawn, target.key))
    console.print(_printed(format_ranks(drawn.ranks, drawn.audit.quantity), "ranks"))
    for text in (drawn.note, drawn.caption):
        console.print(text, markup=False)
    for path in drawn.files:
        console.print(f"wrote {path}", soft_wrap=True, markup=False)


def _agreement(drawn: "AuditFigure", key: str) -> Table:
    """How well each ranking agrees with one quantity of the longer training."""
    from partialnas.analysis.audit.text import format_agreement

    audit = drawn.audit
    target = next(each for each in audit.quantities if each.key == key)
    texts = format_agreement(audit, drawn.agreement, target)
    title = f"{target.label} after {audit.longer_label}: Kendall's τ-b of rankings by"
    short = texts.iloc[:, : len(_HEADS) + 1].set_axis(["", *_HEADS], axis=1)
    return _printed(short, title)


def _printed(texts: "pd.DataFrame", title: str) -> Table:
    table = plain_table(title)
    for position, head in enumerate(texts.columns):
        table.add_column(str(head), justify="right" if position else "left")
    for row in texts.astype(str).to_numpy().tolist():
        table.add_row(*row)
    return table
