"""Figures of effects with their tables and captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from partialnas.analysis.ablation import difference_plot, interaction_plot, ladder_plot
from partialnas.analysis.ablation.caption import factorial_caption
from partialnas.analysis.ablation.effects import Effects, effects
from partialnas.analysis.ablation.table import (
    effects_sheet,
    format_p_value,
    format_signed,
    full_table,
)
from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.data_files import frame_to_csv
from partialnas.analysis.formats.text_table import (
    TextTable,
    format_interval,
    table_from_rows,
    to_markdown,
)
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.plotting.artists import Figure
from partialnas.analysis.plotting.style import StyleName, Width, check_suffix, find_style

PlotKind = Literal["effect", "interaction", "ladder"]

_NOTES = {
    "interaction": "Bars in the figure: intervals of single means from the pooled standard "
    "deviation, without the variation that seeds share; each mean is over all arms with the two "
    "levels. Parallel lines: no interaction. For factors of two levels the table gives the "
    "difference of the two lines' differences.",
    "ladder": "Bars in the figure: intervals of single means from the pooled standard deviation, "
    "without the variation that seeds share; numbers beside them: the steps.",
    "effect": "Dots in the figure: differences between a seed of the arm and the same seed of the "
    "baseline.",
}


@dataclass(frozen=True, kw_only=True)
class EffectsFigure:
    """A figure of effects: the effects, the points drawn, and the files written."""

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
    """Draw the effects of an ablation; the same ledger gives the same bytes.

    Beside the figure (PDF, SVG or PNG by suffix), write the full table as CSV and the printed table
    with its caption as Markdown; for factorial designs also main effects and interactions.

    Args:
        folder: folder of the study.
        path: file of the figure.
        kind: `effect` (differences from the baseline), `interaction` (factorial designs) or
            `ladder` (mean of each rung); by default the one that suits the design.
        metric: quantity under comparison, see `effects`.
        against: baseline of all arms, see `effects`.
        margin: largest negligible difference, see `effects`.
        condition: condition to compare, for a study with several.
        factors: factor on the axis and factor of the lines of an interaction plot.
        style: venue that determines width and font size.
        width: `column` or `page`; by default the default width of the venue.

    Raises:
        UserError: there is nothing to draw, the style is unknown, or an option does not suit the
            study.
        MachineError: the ledger cannot be read, or a file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    result, points, artefact = effects_artefact(
        folder, kind=kind, metric=metric, against=against, margin=margin, condition=condition,
        factors=factors, style=style, width=width,
    )  # fmt: skip
    files = artefact.write(path, path.with_suffix(".csv"), path.with_suffix(".md"))
    return EffectsFigure(effects=result, points=points, files=files)


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
    """Return the effects, the points drawn and the files of a figure; see `effects_figure`."""
    find_style(style, width)
    arguments = drop_none(
        kind=kind, metric=metric, against=against, margin=margin, condition=condition,
        factors=None if factors is None else [*factors], style=style, width=width,
    )  # fmt: skip
    result = effects(folder, metric, margin=margin, condition=condition, against=against)
    kind = kind or ("ladder" if result.steps else "effect")
    points, draw = _plot(result, kind, factors)
    markdown = [to_markdown(effects_sheet(result)), f"{_NOTES[kind]}\n"]
    if result.factorial is not None:
        markdown.append(to_markdown(factorial_sheet(result)))
    artefact = Artefact(
        studies=result.rows.studies,
        query=Query(verb="effects", arguments=arguments),
        texts={".csv": frame_to_csv(full_table(result)), ".md": "\n".join(markdown)},
        drawing=Drawing(
            draw=lambda look: draw(result, points, look), plot_data=points, style=style, width=width
        ),
    )
    return result, points, artefact


def _plot(
    result: Effects, kind: PlotKind, factors: Sequence[str] | None
) -> tuple[pd.DataFrame, Callable[..., Figure]]:
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
