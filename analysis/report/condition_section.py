"""What the report shows of each condition of a study: its front, and the effects of its arms."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.ablation.effects import Effects, effects
from partialnas.analysis.ablation.figure import factorial_sheet
from partialnas.analysis.ablation.table import effects_sheet
from partialnas.analysis.formats.text_table import TextTable, one_line
from partialnas.analysis.frames.selection import select_condition
from partialnas.analysis.pareto.caption import pareto_caption
from partialnas.analysis.pareto.plot import ParetoPlotOptions
from partialnas.analysis.pareto.table import pareto_table
from partialnas.analysis.report.audit_section import ProxyRanks
from partialnas.analysis.report.effects_section import MAX_ARMS, forest_plots
from partialnas.analysis.report.front_section import front_figures, front_legend
from partialnas.analysis.report.network_section import NetworkDetails
from partialnas.analysis.report.points import OTHER, detailed_points
from partialnas.analysis.report.tables import front_sheet, networks_sheet
from partialnas.space.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FrontSection:
    """The front under one condition: figure, table, and what each network is.

    Attributes:
        id: of the section.
        condition: of the study; empty where it has none.
        heading: of the section.
        message: why there is no figure; empty where there is one.
        title: of the figure.
        x: the quantity across, by its key.
        y: the quantity upwards.
        figures: in every size.
        legend: of the figure.
        caption: of the figure.
        crowd: what the figure does not tell of every network.
        sheet: the figure as a table.
        architectures: of what the table names; None where they are not known.
        networks: what is told of each, by the point's id.
        on_front: how many networks are.
        noisy: how many were timed with noise.
    """

    id: str
    condition: str
    heading: str
    message: str = ""
    title: str = ""
    x: str = ""
    y: str = ""
    figures: list[dict[str, Any]] = field(default_factory=list)
    legend: list[dict[str, str]] = field(default_factory=list)
    caption: str = ""
    crowd: str = ""
    sheet: TextTable | None = None
    architectures: TextTable | None = None
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    on_front: int = 0
    noisy: int = 0


@dataclass(frozen=True, kw_only=True)
class EffectsSection:
    """The effects of a study's arms under one condition.

    Attributes:
        id: of the section.
        condition: of the study; empty where it has none.
        heading: of the section.
        message: why there is nothing to show; empty where there is.
        figures: in every size.
        figcaption: of the figure.
        sheets: of the effects, and of factorial designs the main effects and interactions.
    """

    id: str
    condition: str
    heading: str
    message: str = ""
    figures: list[dict[str, Any]] = field(default_factory=list)
    figcaption: str = ""
    sheets: list[TextTable] = field(default_factory=list)
    factorial: bool = False


def front_sections(
    frame: pd.DataFrame, details: NetworkDetails, ranks: Mapping[str, ProxyRanks]
) -> list[FrontSection]:
    """The front under every condition.

    Args:
        frame: the study's own trials, as `load` gives them.
        details: what is known of its networks.
        ranks: what audits tell of ranks by short training, by condition.
    """
    return [
        _front(frame, condition, f"front{place or ''}", details, ranks.get(condition))
        for place, condition in enumerate(_conditions(frame))
    ]


def effects_sections(folder: Path, frame: pd.DataFrame) -> list[EffectsSection]:
    """The effects under every condition.

    Args:
        folder: of the study.
        frame: its own trials, as `load` gives them.
    """
    return [
        _effects(folder, condition, f"effects{place or ''}")
        for place, condition in enumerate(_conditions(frame))
    ]


def _conditions(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame["condition"].unique()] or [""]


def _heading(what: str, condition: str) -> str:
    return one_line(f"{what} under {condition}" if condition else what)


def _front(
    frame: pd.DataFrame,
    condition: str,
    name: str,
    details: NetworkDetails,
    ranks: ProxyRanks | None,
) -> FrontSection:
    heading = _heading("Front", condition)
    try:
        trials = select_condition(frame, condition) if condition else frame
        table = pareto_table(trials)
        x, y = table.attrs["x"], table.attrs["y"]
        caption = pareto_caption(trials, table, x, y, ParetoPlotOptions())
    except UserError as error:  # a study that has no front yet is no mistake of the reader's
        return FrontSection(id=name, condition=condition, heading=heading, message=str(error))
    points = detailed_points(table, f"{name}-")
    networks = details.describe(points)
    for place, text in zip(points["id"], _ranked(points, ranks), strict=True):
        networks[place]["facts"] += text
    return FrontSection(
        id=name,
        condition=condition,
        heading=heading,
        title=f"{y.name} against {x.name}",
        x=x.key,
        y=y.key,
        figures=front_figures(table, points),
        legend=front_legend(table, points),
        caption=caption,
        crowd=_crowd(len(table), points),
        sheet=front_sheet(points, ranks),
        architectures=networks_sheet(points, networks),
        networks=networks,
        on_front=int(points["on_front"].sum()),
        noisy=int(table["noisy"].sum()),
    )


def _ranked(points: pd.DataFrame, ranks: ProxyRanks | None) -> list[list[list[str]]]:
    """What is told of the rank of each point: name and text, or nothing."""
    texts = ranks.texts(points["label"]) if ranks else [""] * len(points)
    return [[[ranks.header, text]] if ranks and text else [] for text in texts]


def _crowd(number: int, points: pd.DataFrame) -> str:
    """What a reader must know of the points that are drawn as a crowd."""
    if number == len(points):
        return ""
    others = int(points["kind"].eq(OTHER).sum())
    return (
        f"Of the dominated networks the {others:,} nearest to the front can be chosen; the other "
        f"{number - len(points):,} are drawn as a crowd, those that would cover one another once."
    )


def _effects(folder: Path, condition: str, name: str) -> EffectsSection:
    heading = _heading("Effects", condition)
    try:
        found = effects(folder, condition=condition or None)
        figures = forest_plots(found)
        sheets = [effects_sheet(found)]
    except UserError as error:
        return EffectsSection(id=name, condition=condition, heading=heading, message=str(error))
    if found.factorial is not None:
        sheets.append(factorial_sheet(found))
    return EffectsSection(
        id=name,
        condition=condition,
        heading=heading,
        figures=figures,
        figcaption=_figcaption(found),
        sheets=[_named(sheet, title) for sheet, title in zip(sheets, _TITLES, strict=False)],
        factorial=found.factorial is not None,
    )


_TITLES = ("Arms beside their baseline", "Main effects and two-factor interactions")


def _named(sheet: TextTable, title: str) -> TextTable:
    return TextTable(name=title, columns=sheet.columns, caption=sheet.caption)


def _figcaption(found: Effects) -> str:
    better = "lower" if found.quantity.better == "min" else "higher"
    margin = "" if found.margin is None else f" Band: differences of at most ±{found.margin:g}."
    rest = len(found.comparison.contrasts) - MAX_ARMS
    more = f" The first {MAX_ARMS} arms are drawn; the table has all." if rest > 0 else ""
    return (
        f"Difference of each arm from its baseline in {found.quantity.label} ({better} is better): "
        f"circle and bar, mean with its simultaneous {found.comparison.level:.0%} interval, blue "
        "and filled where that excludes zero; "
        f"dots, differences of single seeds.{margin}{more}"
    )
