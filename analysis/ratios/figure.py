"""The figure of learned ratios: its table first, then the drawing and the caption."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.caption_sentences import pluralize
from partialnas.analysis.formats.data_files import frame_to_csv, frame_to_markdown
from partialnas.analysis.frames.load import load
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.plotting.style import StyleName, Width, check_suffix, find_style
from partialnas.analysis.ratios.caption import ratio_caption
from partialnas.analysis.ratios.checks import require_ratios
from partialnas.analysis.ratios.plot import SERIES_STYLES, RatioPanels, draw
from partialnas.analysis.ratios.tables import (
    final_ratios,
    load_warnings,
    overall_ratios,
    ratio_table,
    series_by_seed_count,
    with_series,
)
from partialnas.space.errors import UserError


@dataclass(frozen=True, kw_only=True)
class RatioFigure:
    """What a figure of learned ratios shows: its table, its caption, and the files written.

    `trials` are all of the study (see `with_series`), `warnings` what those that learned met.
    """

    trials: pd.DataFrame
    warnings: pd.DataFrame
    table: pd.DataFrame
    caption: str
    files: tuple[Path, ...]


def ratio_figure(
    folder: Path | str,
    path: Path | str,
    *,
    trial: int | None = None,
    table: Path | str | None = None,
    style: StyleName = "cvpr",
    width: Width | None = None,
) -> RatioFigure:
    """Draws what a study's networks have learned; the same ledger gives the same bytes.

    Panels: the ratios of one trial over its epochs; those at the end, of each arm over its seeds;
    where every image has its own ratio, the mean of each class and of each kind of input. Beside
    the figure (PDF, SVG or PNG by suffix) stand its table as CSV (see `ratio_table`) and, as
    Markdown, the ratios at the end with the caption.

    Args:
        folder: of the study.
        path: the figure's file.
        trial: number of the trial in the map; without it the first of the arm with most seeds.
        table: the CSV's file; beside the figure without it.
        style: the width and text size of a venue.
        width: a column or a page of it; without one its usual width.

    Raises:
        UserError: nothing to draw, no such trial, or an unknown suffix or style.
        MachineError: the ledger cannot be read, or the place cannot be written.
    """
    path = Path(path)
    table = path.with_suffix(".csv") if table is None else Path(table)
    check_suffix(path)
    if table.suffix.lower() != ".csv":
        raise UserError(f"{table}: the table behind a figure ends in .csv")
    found, artefact = ratio_artefact(Path(folder), trial=trial, style=style, width=width)
    files = artefact.write(path, table, path.with_suffix(".md"))
    return replace(found, files=files)


def ratio_artefact(
    folder: Path,
    *,
    trial: int | None = None,
    style: StyleName = "cvpr",
    width: Width | None = None,
) -> tuple[RatioFigure, Artefact]:
    """What a figure of learned ratios shows, before any file, and its files; see `ratio_figure`."""
    find_style(style, width)
    frame = with_series(load(folder))
    rows, warned = ratio_table(folder, frame), load_warnings(folder, frame)
    require_ratios(folder, frame, rows, trial)
    panels = ratio_panels(rows, trial)
    caption = ratio_caption(frame, rows, panels, warned)
    shown = [panel.assign(panel=name) for name, panel in vars(panels).items() if len(panel)]
    columns = ["panel", "series", "seed", "trial", "epoch", "boundary", "class", "ratio", "static"]
    artefact = Artefact(
        studies=frame.attrs["studies"],
        query=Query(verb="ratios", arguments=drop_none(trial=trial, style=style, width=width)),
        texts={
            ".csv": frame_to_csv(rows),
            ".md": f"{frame_to_markdown(format_final_ratios(rows))}\n{caption}\n",
        },
        drawing=Drawing(
            draw=lambda look: draw(panels, look),
            plot_data=pd.concat(shown)[columns],
            style=style,
            width=width,
        ),
    )
    found = RatioFigure(trials=frame, warnings=warned, table=rows, caption=caption, files=())
    return found, artefact


def ratio_panels(table: pd.DataFrame, trial: int | None = None) -> RatioPanels:
    """What the figure shows of a `ratio_table`.

    Where there are more series than can be told apart, those with most seeds are shown. Without a
    `trial` the map is of the first trial of the first of them, classes and kinds are of the first
    whose ratios depend on the image; with one, map, classes and kinds are the trial's.
    """
    rows = overall_ratios(table)
    final = final_ratios(rows)
    by_image = final[final["per"].eq("input")]
    own = set() if trial is None else {*rows[rows["trial"].eq(trial)]["series"]}
    names = sorted(series_by_seed_count(final), key=lambda name: name not in own)
    mapped, pictured = (trial or _first(of) for of in (final, by_image))
    seeds = by_image[by_image["trial"].eq(pictured)]["series"]
    kinds = table[table["kind"].ne("") & table["counts"] & table["series"].isin(seeds)]
    classes = table[table["class"].notna() & table["trial"].eq(pictured)]
    return RatioPanels(
        history=rows[rows["trial"].eq(mapped or int(rows["trial"].min()))],
        final=final[final["series"].isin(names[: len(SERIES_STYLES)])],
        classes=classes.astype({"class": "int64"}),
        kinds=kinds.assign(arm=kinds["series"], series=kinds["kind"]),
    )


def _first(final: pd.DataFrame) -> int:
    """The first trial of the series with most seeds; 0 where there is none."""
    trials = final[final["series"].isin(series_by_seed_count(final)[:1])]["trial"]
    return 0 if trials.empty else int(trials.min())


def format_final_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """The ratios at the end as texts, mean ± standard deviation: a column per series.

    Args:
        table: as `ratio_table` gives it.
    """
    final = final_ratios(overall_ratios(table))
    places = final.drop_duplicates("boundary").sort_values(["stage", "block", "part"])
    order = places["boundary"].tolist()
    texts: dict[str, list[str]] = {"": order}
    for name in series_by_seed_count(final):
        rows = final[final["series"].eq(name)]
        told = f"{name} ({pluralize(rows['trial'].nunique(), 'seed')})"
        texts[told] = _texts(rows.groupby("boundary")["ratio"], order)
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
