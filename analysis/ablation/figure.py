"""Figures of effects: their table first, then the drawing and the caption."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from partialnas.analysis.ablation import (
    difference_plot as effect_plot,
)
from partialnas.analysis.ablation import (
    interaction_plot,
    ladder_plot,
)
from partialnas.analysis.ablation.caption import factorial_caption
from partialnas.analysis.ablation.effects import Effects, effects
from partialnas.analysis.ablation.table import (
    effects_sheet,
    format_p_value,
    format_signed,
    full_table,
)
from partialnas.analysis.formats import text_table as sheet
from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.data_files import frame_to_csv
from partialnas.analysis.formats.text_table import Cell, Column, TextTable
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.plotting.style import StyleName, Width, check_suffix, find_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PlotKind = Literal["effect", "interaction", "ladder"]

_INTERVALS = {
    "interaction": "Bars in the figure: intervals of single means from the pooled deviation, what "
    "seeds have in common taken out; each mean is over all arms with the two levels.",
    "ladder": "Bars in the figure: intervals of single means from the pooled deviation, what seeds "
    "have in common taken out; beside them what each step adds.",
    "effect": "Dots in the figure: differences of single seeds from the baseline's same seed.",
}


@dataclass(frozen=True, kw_only=True)
class EffectsFigure:
    """What a figure of effects shows: the effects, the points drawn, and the files written."""

    effects: Effects
    points: pd.DataFrame
    files: tuple[Path, ...]


def effects_figure(
    folder: Path | str | Sequence[Path | str],
    path: Path | str,
    *,
    kind: PlotKind | None = None,
    metric: str | None = None,
    against: str | None = None,
    margin: float | None = None,
    condition: str | None = None,
    factors: Sequence[str] | None = None,
    style: StyleName = "cvpr",
    width: Width | None = None,
) -> EffectsFigure:
    """Draws the effects of an ablation; the same ledger gives the same bytes.

    Beside the figure (PDF, SVG or PNG by suffix) stand the full table as CSV and, as Markdown, the
    readable one with its caption, of factorial designs also main effects and interactions.

    Args:
        folder: of the study.
        path: the figure's file.
        kind: `effect` (differences from the baseline), `interaction` (factorial designs) or
            `ladder` (the value of each rung); by default what fits the design.
        metric: the quantity that is compared, see `effects`.
        against: the arm that others are compared with, see `effects`.
        margin: a difference that makes none, see `effects`.
        condition: the one whose trials are compared, of a study that has several.
        factors: of an interaction plot the factor across and the one with lines.
        style: the width and text size of a venue.
        width: a column or a page of it; without one its usual width.

    Raises:
        UserError: nothing to draw, an unknown style, or a choice that does not fit the study.
        MachineError: the ledger cannot be read, or the place cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    found, points, artefact = effects_artefact(
        folder, kind=kind, metric=metric, against=against, margin=margin, condition=condition,
        factors=factors, style=style, width=width,
    )  # fmt: skip
    files = artefact.write(path, path.with_suffix(".csv"), path.with_suffix(".md"))
    return EffectsFigure(effects=found, points=points, files=files)


def effects_artefact(
    folder: Path | str | Sequence[Path | str],
    *,
    kind: PlotKind | None = None,
    metric: str | None = None,
    against: str | None = None,
    margin: float | None = None,
    condition: str | None = None,
    factors: Sequence[str] | None = None,
    style: StyleName = "cvpr",
    width: Width | None = None,
) -> tuple[Effects, pd.DataFrame, Artefact]:
    """The effects, the points drawn and the files of a figure; see `effects_figure`."""
    find_style(style, width)
    arguments = drop_none(
        kind=kind, metric=metric, against=against, margin=margin, condition=condition,
        factors=None if factors is None else [*factors], style=style, width=width,
    )  # fmt: skip
    found = effects(folder, metric, margin=margin, condition=condition, against=against)
    drawn = kind or ("ladder" if found.steps else "effect")
    points, draw = _drawn(found, drawn, factors)
    printed = effects_sheet(found)
    told = [sheet.to_markdown(printed), f"{_INTERVALS[drawn]}\n"]
    if found.factorial is not None:
        told.append(sheet.to_markdown(factorial_sheet(found)))
    artefact = Artefact(
        studies=found.rows.studies,
        query=Query(verb="effects", arguments=arguments),
        texts={".csv": frame_to_csv(full_table(found)), ".md": "\n".join(told)},
        drawing=Drawing(
            draw=lambda look: draw(found, points, look), plot_data=points, style=style, width=width
        ),
    )
    return found, points, artefact


def _drawn(
    found: Effects, kind: PlotKind, factors: Sequence[str] | None
) -> tuple[pd.DataFrame, "Callable[..., Figure]"]:
    if kind == "interaction":
        return interaction_plot.interaction_points(found, factors), interaction_plot.draw
    if kind == "ladder":
        return ladder_plot.ladder_points(found), ladder_plot.draw
    return effect_plot.effect_points(found), effect_plot.draw


def factorial_sheet(found: Effects) -> TextTable:
    """Main effects and interactions as a reader wants them."""
    assert found.factorial is not None  # asked for of factorial designs alone
    rows = found.factorial.to_dict("records")
    spec = found.quantity.spec
    plain = {"F": ("f", ".2f"), "partial η²": ("partial_eta_squared", ".2f")}
    terms = [f"{row['term']} = {row['also']}" if row["also"] else row["term"] for row in rows]
    columns = [
        Column(header="Term", cells=[*map(Cell, terms)], is_numeric=False),
        Column(header="df", cells=[Cell(str(row["degrees"])) for row in rows]),
        *(
            Column(header=h, cells=[Cell(_number(r[k], s)) for r in rows])
            for h, (k, s) in plain.items()
        ),
        Column(header="p", cells=[Cell(format_p_value(row["p"])) for row in rows]),
        Column(
            header=f"Effect [{found.comparison.level:.0%}]",
            cells=[
                Cell(_interval([format_signed(row[k], spec) for k in ("effect", "low", "high")]))
                for row in rows
            ],
        ),
    ]
    return TextTable(name="factors", columns=columns, caption=factorial_caption(found))


def _number(value: float, spec: str) -> str:
    return "" if pd.isna(value) else format(value, spec)


def _interval(texts: Sequence[str]) -> str:
    middle, low, high = texts
    return f"{middle} [{low}, {high}]" if low and high else middle
