"""Figures of effects with their tables and captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from partialnas.analysis.ablation import difference_plot, interaction_plot, ladder_plot
from partialnas.analysis.ablation.caption import factorial_caption, figure_caption
from partialnas.analysis.ablation.effects import Effects, effects
from partialnas.analysis.ablation.table import (
    effects_sheet,
    format_p_value,
    full_table,
)
from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.data_files import frame_to_csv, join_texts
from partialnas.analysis.formats.figure_result import FigureOutput, FigureResult
from partialnas.analysis.formats.look import DEFAULT_LOOK, Look, find_look
from partialnas.analysis.formats.table_columns import format_signed
from partialnas.analysis.formats.text_table import (
    TextTable,
    format_interval,
    table_from_rows,
    to_markdown,
)
from partialnas.analysis.frames.folders import Paths
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.plotting.artists import AnyFigure, Axes

PlotKind = Literal["effect", "interaction", "ladder"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EffectsFigure(FigureResult):
    """A figure of effects; its table has one row per arm.

    Attributes:
        effects: effects of the study.
        points: points drawn.
    """

    effects: Effects
    points: pd.DataFrame


def effects_figure(
    folder: Paths,
    path: Path | str | None = None,
    *,
    ax: Axes | None = None,
    figure: AnyFigure | None = None,
    kind: PlotKind | None = None,
    metric: str | None = None,
    against: str | None = None,
    margin: float | None = None,
    condition: str | None = None,
    factors: Sequence[str] | None = None,
    style: str | Path = "cvpr",
    width: str | None = None,
    font: str | None = None,
    caption: str = "full",
) -> EffectsFigure:
    """Draw the effects of an ablation; the same ledger gives the same bytes.

    Beside the figure (PDF, SVG or PNG by suffix), write the full table as CSV and the printed table
    with its caption as Markdown; for factorial designs also main effects and interactions. Without
    a path, nothing is written.

    Args:
        folder: folder of the study; several studies are combined, see `effects`.
        path: file of the figure.
        ax: axes of matplotlib to draw into, with the caller's own style; for a figure of one panel.
        figure: figure or subfigure of matplotlib to draw into, with the caller's own style.
        kind: `effect` (differences from the baseline), `interaction` (factorial designs) or
            `ladder` (mean of each rung); by default the one that suits the design.
        metric: quantity under comparison, see `effects`.
        against: baseline of all arms, see `effects`.
        margin: largest negligible difference, see `effects`.
        condition: condition to compare, for a study with several.
        factors: factor on the axis and factor of the lines of an interaction plot.
        style: venue that determines width and font size, or a style file of matplotlib, or both
            with a comma between them.
        width: a column or a page of the venue; the default is that of the style.
        font: `serif`, `sans` or the name of an installed family; by default that of the style.
        caption: length of the caption: `full`, `short` or `none`.

    Raises:
        UserError: there is nothing to draw, the style is unknown, or an option does not suit the
            study.
        MachineError: the ledger cannot be read, or a file cannot be written.
    """
    output = FigureOutput.of(path, ax, figure)
    look = find_look(style, width, font, caption)
    result, points, artefact = effects_artefact(
        folder, kind=kind, metric=metric, against=against, margin=margin, condition=condition,
        factors=factors, look=look,
    )  # fmt: skip
    kind = kind or _default_kind(result)
    return EffectsFigure(
        effects=result, points=points, table=result.table, artefact=artefact,
        caption=figure_caption(result, kind, points).text(look.caption),
        files=output.write(artefact), embedded=output.draw(artefact),
    )  # fmt: skip


def effects_artefact(
    folder: Paths,
    *,
    kind: PlotKind | None = None,
    metric: str | None = None,
    against: str | None = None,
    margin: float | None = None,
    condition: str | None = None,
    factors: Sequence[str] | None = None,
    look: Look = DEFAULT_LOOK,
) -> tuple[Effects, pd.DataFrame, Artefact]:
    """Return the effects, the points drawn and the files of a figure; see `effects_figure`."""
    arguments = drop_none(
        kind=kind, metric=metric, against=against, margin=margin, condition=condition,
        factors=None if factors is None else [*factors],
    ) | look.arguments()  # fmt: skip
    result = effects(folder, metric, margin=margin, condition=condition, against=against)
    kind = kind or _default_kind(result)
    points, draw = _plot(result, kind, factors)
    texts = [
        figure_caption(result, kind, points).text(look.caption),
        to_markdown(effects_sheet(result, caption=look.caption)),
    ]
    if result.factorial is not None:
        sheet = factorial_sheet(result)
        texts.append(to_markdown(sheet if look.caption == "full" else replace(sheet, caption="")))
    artefact = Artefact(
        studies=result.rows.studies,
        query=Query(verb="effects", arguments=arguments),
        texts={".csv": frame_to_csv(full_table(result)), ".md": join_texts(*texts)},
        drawing=Drawing(draw=lambda look: draw(result, points, look), plot_data=points, look=look),
    )
    return result, points, artefact


def _default_kind(result: Effects) -> PlotKind:
    return "ladder" if result.steps else "effect"


def _plot(
    result: Effects, kind: PlotKind, factors: Sequence[str] | None
) -> tuple[pd.DataFrame, Callable[..., AnyFigure]]:
    if kind == "interaction":
        return interaction_plot.interaction_points(result, factors), interaction_plot.draw
    if kind == "ladder":
        return ladder_plot.ladder_points(result), ladder_plot.draw
    return difference_plot.effect_points(result), difference_plot.draw


def factorial_sheet(result: Effects) -> TextTable:
    """Return the printed table of main effects and interactions of a factorial design."""
    assert result.factorial is not None
    ends = ("effect", "low", "high")
    rows = [
        (
            f"{row['term']} = {row['also']}" if row["also"] else row["term"],
            str(row["degrees"]),
            _format_number(row["f"]),
            _format_number(row["partial_eta_squared"]),
            format_p_value(row["p"]),
            format_interval(*(format_signed(row[key], result.quantity.spec) for key in ends)),
        )
        for row in result.factorial.to_dict("records")
    ]
    heads = ["Term", "df", "F", "partial η²", "p", f"Effect [{result.comparison.level:.0%}]"]
    return table_from_rows("factors", heads, rows, "tnnnnn", factorial_caption(result))


def _format_number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"
