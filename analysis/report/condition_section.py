"""The report's sections of each condition: its front, and the effects of its arms."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.ablation.effects import Effects, effects
from partialnas.analysis.ablation.figure import factorial_sheet
from partialnas.analysis.ablation.table import effects_sheet
from partialnas.analysis.formats.text_table import TextTable, one_line
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.caption import pareto_caption
from partialnas.analysis.pareto.plot import ParetoPlotOptions
from partialnas.analysis.pareto.table import make_pareto_table
from partialnas.analysis.report.audit_section import ProxyRanks
from partialnas.analysis.report.effects_section import MAX_ARMS, forest_plots
from partialnas.analysis.report.front_section import front_figures, front_legend
from partialnas.analysis.report.interaction_panels import interaction_panels
from partialnas.analysis.report.network_section import NetworkDetails
from partialnas.analysis.report.points import OTHER, detailed_points
from partialnas.analysis.report.tables import front_sheet, networks_sheet
from partialnas.space.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FrontSection:
    """The front under one condition: figure, table, and details of its networks.

    Attributes:
        id: id of the section.
        condition: the study's condition, or empty.
        heading: heading of the section.
        message: why there is no figure, or empty.
        title: title of the figure.
        x: key of the quantity on the x axis.
        y: key of the quantity on the y axis.
        figures: the figure in every size.
        legend: legend of the figure.
        caption: caption of the figure.
        crowd: note on the networks that are not described in detail, or empty.
        sheet: the figure as a table.
        architectures: architectures of the table's networks, or None if unavailable.
        networks: details of each network, by the id of its point.
        on_front: number of networks on the front.
        noisy: number of networks with noisy timings.
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
        id: id of the section.
        condition: the study's condition, or empty.
        heading: heading of the section.
        message: why there are no effects, or empty.
        figures: the figure in every size.
        figcaption: caption of the figure.
        interactions: interaction plots of a factorial design, one for each pair of factors.
        sheets: table of the effects; for factorial designs also main effects and interactions.
        factorial: whether the design is factorial.
    """

    id: str
    condition: str
    heading: str
    message: str = ""
    figures: list[dict[str, Any]] = field(default_factory=list)
    figcaption: str = ""
    interactions: list[dict[str, Any]] = field(default_factory=list)
    sheets: list[TextTable] = field(default_factory=list)
    factorial: bool = False


def front_sections(
    trials: Trials, details: NetworkDetails, ranks: Mapping[str, ProxyRanks]
) -> list[FrontSection]:
    """Return the front under every condition.

    Args:
        trials: the study's own trials.
        details: details of its networks.
        ranks: ranks by short training from audits, by condition.
    """
    return [
        _front(trials, condition, f"front{index or ''}", details, ranks.get(condition))
        for index, condition in enumerate(_conditions(trials.frame))
    ]


def effects_sections(folder: Path, frame: pd.DataFrame) -> list[EffectsSection]:
    """Return the effects under every condition.

    Args:
        folder: the study's folder.
        frame: the study's own trials.
    """
    return [
        _effects(folder, condition, f"effects{index or ''}")
        for index, condition in enumerate(_conditions(frame))
    ]


def _conditions(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame["condition"].unique()] or [""]


def _heading(title: str, condition: str) -> str:
    return one_line(f"{title} under {condition}" if condition else title)


def _front(
    trials: Trials,
    condition: str,
    section_id: str,
    details: NetworkDetails,
    ranks: ProxyRanks | None,
) -> FrontSection:
    heading = _heading("Front", condition)
    try:
        under = trials.under(condition or None)
        table = make_pareto_table(under)
        caption = pareto_caption(under, table, ParetoPlotOptions()).text()
    except UserError as error:  # the study has no front yet
        message = str(error)
        return FrontSection(id=section_id, condition=condition, heading=heading, message=message)
    points = detailed_points(table, f"{section_id}-")
    networks = details.describe(replace(table, rows=points))
    texts = ranks.texts(points["label"]) if ranks else [""] * len(points)
    for point, text in zip(points["id"], texts, strict=True):
        if ranks and text:
            networks[point]["facts"].append([ranks.header, text])
    return FrontSection(
        id=section_id,
        condition=condition,
        heading=heading,
        title=f"{table.y.name} against {table.x.name}",
        x=table.x.key,
        y=table.y.key,
        figures=front_figures(table, points),
        legend=front_legend(table, points),
        caption=caption,
        crowd=_crowd_note(len(table.rows), points),
        sheet=front_sheet(replace(table, rows=points), ranks),
        architectures=networks_sheet(points, networks),
        networks=networks,
        on_front=int(points["on_front"].sum()) + len(table.undrawn),
        noisy=int(table.rows["noisy"].sum()),
    )


def _crowd_note(number: int, points: pd.DataFrame) -> str:
    """Return the note on networks that are drawn as background dots only."""
    if number == len(points):
        return ""
    others = int(points["kind"].eq(OTHER).sum())
    return (
        f"The {others:,} dominated networks nearest to the front can be selected; the other "
        f"{number - len(points):,} are background dots, where overlapping dots are drawn once."
    )


def _effects(folder: Path, condition: str, section_id: str) -> EffectsSection:
    heading = _heading("Effects", condition)
    try:
        result = effects(folder, condition=condition or None)
        figures = forest_plots(result)
        sheets = [effects_sheet(result)]
    except UserError as error:
        message = str(error)
        return EffectsSection(id=section_id, condition=condition, heading=heading, message=message)
    if result.factorial is not None:
        sheets.append(factorial_sheet(result))
    return EffectsSection(
        id=section_id,
        condition=condition,
        heading=heading,
        figures=figures,
        figcaption=_figcaption(result),
        interactions=interaction_panels(result),
        sheets=[replace(sheet, name=name) for name, sheet in zip(_TITLES, sheets, strict=False)],
        factorial=result.factorial is not None,
    )


_TITLES = ("Arms and their baseline", "Main effects and two-factor interactions")


def _figcaption(result: Effects) -> str:
    better = "lower" if result.quantity.better == "min" else "higher"
    margin = "" if result.margin is None else f" Band: differences within ±{result.margin:g}."
    hidden = len(result.comparison.contrasts) - MAX_ARMS
    more = f" Only the first {MAX_ARMS} arms are drawn; the table holds all." if hidden > 0 else ""
    return (
        f"Difference of each arm from its baseline in {result.quantity.label} ({better} is better)."
        f" Circles and bars: mean and simultaneous {result.comparison.level:.0%} interval, filled "
        "in blue if the interval excludes zero. Dots: differences of single seeds."
        f"{margin}{more}"
    )
