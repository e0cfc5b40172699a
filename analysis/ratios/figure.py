"""Figures of learned ratios with their tables and captions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.caption_sentences import pluralize
from partialnas.analysis.formats.data_files import frame_to_csv, frame_to_markdown, join_texts
from partialnas.analysis.formats.figure_result import FigureOutput, FigureResult
from partialnas.analysis.formats.look import DEFAULT_LOOK, Look, find_look
from partialnas.analysis.frames.folders import study_folder
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.provenance import Query, drop_none, study_id
from partialnas.analysis.plotting.artists import AnyFigure
from partialnas.analysis.ratios import tables
from partialnas.analysis.ratios.caption import ratio_caption
from partialnas.analysis.ratios.checks import require_ratios
from partialnas.analysis.ratios.plot import SERIES_STYLES, RatioPanels, draw
from partialnas.space.errors import UserError


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RatioFigure(FigureResult):
    """A figure of learned ratios; for its table see `ratio_table`.

    Attributes:
        trials: all trials of the study, see `with_series`.
        warnings: warnings of the trials that learned ratios, see `load_warnings`.
    """

    trials: pd.DataFrame
    warnings: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class RatioTables:
    """Tables and caption of a figure of learned ratios, see `RatioFigure`."""

    trials: pd.DataFrame
    warnings: pd.DataFrame
    table: pd.DataFrame
    caption: str


def ratio_figure(
    folder: Path | str,
    path: Path | str | None = None,
    *,
    figure: AnyFigure | None = None,
    trial: int | None = None,
    table: Path | str | None = None,
    style: str | Path = "cvpr",
    width: str | None = None,
    font: str | None = None,
    caption: str = "full",
) -> RatioFigure:
    """Draw the learned ratios of a study; the same ledger gives the same bytes.

    The panels show the ratios of one trial over its epochs, the final ratios of each arm over its
    seeds and, if every image has its own ratio, the mean of each class and of each kind of input.
    Beside the figure (PDF, SVG or PNG by suffix), write the table as CSV (see `ratio_table`) and
    the final ratios with the caption as Markdown. Without a path, nothing is written.

    Args:
        folder: folder of the study.
        path: file of the figure.
        figure: figure or subfigure of matplotlib to draw into, with the caller's own style.
        trial: number of the trial in the map; by default the first of the arm with most seeds.
        table: file of the CSV; by default beside the figure.
        style: venue that determines width and font size, or a style file of matplotlib, or both
            with a comma between them.
        width: a column or a page of the venue; the default is that of the style.
        font: `serif`, `sans` or the name of an installed family; by default that of the style.
        caption: length of the caption: `full`, `short` or `none`.

    Raises:
        UserError: there is nothing to draw, or the trial, suffix or style is unknown.
        MachineError: the ledger cannot be read, or a file cannot be written.
    """
    output = FigureOutput.of(path, figure=figure)
    if table is not None and Path(table).suffix.lower() != ".csv":
        raise UserError(f"{table}: unknown table format; use a name that ends in .csv")
    look = find_look(style, width, font, caption)
    result, artefact = ratio_artefact(study_folder(folder), trial=trial, look=look)
    beside = [table, output.path.with_suffix(".md")] if table and output.path else []
    return RatioFigure(
        **vars(result), artefact=artefact, files=output.write(artefact, *beside),
        embedded=output.draw(artefact),
    )  # fmt: skip


def ratio_artefact(
    folder: Path, *, trial: int | None = None, look: Look = DEFAULT_LOOK
) -> tuple[RatioTables, Artefact]:
    """Return the tables of a figure of learned ratios and its files; see `ratio_figure`."""
    frame = tables.with_series(load_trials(folder).frame)
    rows, warned = tables.ratio_table(folder, frame), tables.load_warnings(folder, frame)
    require_ratios(folder, frame, rows, trial)
    panels = ratio_panels(rows, trial)
    caption = ratio_caption(frame, rows, panels, warned).text(look.caption)
    shown = [panel.assign(panel=name) for name, panel in vars(panels).items() if len(panel)]
    columns = ["panel", "series", "seed", "trial", "epoch", "boundary", "class", "ratio", "static"]
    drawing = Drawing(
        draw=lambda style: draw(panels, style), plot_data=pd.concat(shown)[columns], look=look,
    )  # fmt: skip
    artefact = Artefact(
        studies=[study_id(folder)],
        query=Query(verb="ratios", arguments=drop_none(trial=trial) | look.arguments()),
        texts={
            ".csv": frame_to_csv(rows),
            ".md": join_texts(frame_to_markdown(format_final_ratios(rows)), caption),
        },
        drawing=drawing,
    )
    return RatioTables(trials=frame, warnings=warned, table=rows, caption=caption), artefact


def ratio_panels(table: pd.DataFrame, trial: int | None = None) -> RatioPanels:
    """Return the data of the panels from a `ratio_table`.

    If there are more series than styles, those with the most seeds are shown. By default the map is
    the first trial of the first series, and classes and kinds are those of the first series with
    ratios per image; if a `trial` is given, map, classes and kinds are its own.
    """
    rows = tables.overall_ratios(table)
    final = tables.final_ratios(rows)
    by_image = final[final["per"].eq("input")]
    selected = set() if trial is None else {*rows[rows["trial"].eq(trial)]["series"]}
    names = sorted(tables.series_by_seed_count(final), key=lambda name: name not in selected)
    mapped, by_image_trial = (trial or _first_trial(table) for table in (final, by_image))
    series = by_image[by_image["trial"].eq(by_image_trial)]["series"]
    kinds = table[table["kind"].ne("") & table["counts"] & table["series"].isin(series)]
    classes = table[table["class"].notna() & table["trial"].eq(by_image_trial)]
    return RatioPanels(
        history=rows[rows["trial"].eq(mapped or int(rows["trial"].min()))],
        final=final[final["series"].isin(names[: len(SERIES_STYLES)])],
        classes=classes.astype({"class": "int64"}),
        kinds=kinds.assign(arm=kinds["series"], series=kinds["kind"]),
    )


def _first_trial(final: pd.DataFrame) -> int:
    """Return the first trial of the series with most seeds, or 0 without any."""
    trials = final[final["series"].isin(tables.series_by_seed_count(final)[:1])]["trial"]
    return 0 if trials.empty else int(trials.min())


def format_final_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return the final ratios as texts, mean ± standard deviation, with one column per series.

    Args:
        table: ratios, as returned by `ratio_table`.
    """
    final = tables.final_ratios(tables.overall_ratios(table))
    boundaries = final.drop_duplicates("boundary").sort_values(["stage", "block", "part"])
    order = boundaries["boundary"].tolist()
    texts: dict[str, list[str]] = {"": order}
    for name in tables.series_by_seed_count(final):
        rows = final[final["series"].eq(name)]
        header = f"{name} ({pluralize(rows['trial'].nunique(), 'seed')})"
        texts[header] = _texts(rows.groupby("boundary")["ratio"], order)
    static = final.groupby("boundary")["static"].unique().reindex(order)
    texts["static"] = [" / ".join(f"{ratio:.3f}" for ratio in ratios) for ratios in static]
    return pd.DataFrame(texts)


def _texts(groups: Any, order: Sequence[str]) -> list[str]:
    values = groups.agg(["mean", "std"]).reindex(order)
    return [_text(mean, sd) for mean, sd in values.itertuples(index=False)]


def _text(mean: float, sd: float) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.3f}" if math.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"
