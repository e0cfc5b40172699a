"""Captions of Pareto figures and tables: subject, seeds, error bars, device, compute."""

from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.formats.caption_sentences import (
    compute_sentence,
    pluralize,
    training_description,
)
from partialnas.analysis.frames.feasibility import feasibility_sentence
from partialnas.analysis.frames.seed_means import architecture_codes
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front_probability import front_probability_sentence
from partialnas.analysis.pareto.table import NOISE_NOTE, ParetoTable
from partialnas.analysis.plotting.axes import protocol_label
from partialnas.runs.config.quantities import Quantity

if TYPE_CHECKING:
    from partialnas.analysis.pareto.plot import ParetoPlotOptions


def pareto_caption(trials: Trials, points: ParetoTable, options: "ParetoPlotOptions") -> str:
    """Return the caption of a Pareto figure, with what checklists of conferences ask for.

    Args:
        trials: trials that the figure was made from, reference families included.
        points: their Pareto table.
        options: what the figure shows besides points and fronts.
    """
    table, x, y = points.rows, points.x, points.y
    rows, frame = table[table["folder"].ne("")], trials.frame[trials.frame["folder"].ne("")]
    sources = (x.source, y.source)
    sentences = [
        _subject(rows, x, y) if len(rows) else f"{y.label} against {x.label}.",
        _references(table),
        _seeds(rows, "point") if len(rows) and "trained" in sources else "",
        _marks(rows, measured="measured" in sources) if rows["on_front"].any() else "",
        feasibility_sentence(rows, trials.limits),
        _surfaces(options.surfaces),
        _probability(table, measured="measured" in sources, requested=options.probability),
        _area(table, options.size),
        _bars(table, y, "Vertical"),
        _bars(table, x, "Horizontal"),
        "Arrows on the edge: dominated architectures far from the others." if options.clip else "",
        *(_device(table, q) for q in (x, y)),
        _missing(trials.frame, table),
        compute_sentence(frame) if len(frame) else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def front_caption(trials: Trials, points: ParetoTable) -> str:
    """Return the caption of a table of the front, see `pareto_caption`."""
    table, x, y = points.rows, points.x, points.y
    sources = (x.source, y.source)
    spread = f"{y.key}_sd" in table and table[f"{y.key}_sd"].notna().any()
    sentences = [
        _subject(table, x, y),
        _seeds(table, "row") if "trained" in sources else "",
        "±: one standard deviation (n − 1) over seeds." if spread else "",
        _marks(table, measured=False) if table["on_front"].any() else "",
        feasibility_sentence(table, trials.limits),
        NOISE_NOTE if table["noisy"].any() else "",
        *(_device(table, q) for q in (x, y)),
        _missing(trials.frame, table),
        compute_sentence(trials.frame),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _subject(table: pd.DataFrame, x: Quantity, y: Quantity) -> str:
    studies = " and ".join(table["study"].unique())
    searched = ~table["baseline"].astype(bool)
    subjects = [
        f"{pluralize(int(searched.sum()), 'architecture')} of {studies}",
        pluralize(int((~searched).sum()), "baseline") if not searched.all() else "",
    ]
    what = " and ".join(filter(None, subjects))
    return f"{y.label} against {x.label}: {what}, trained on {training_description(table)}."


def _references(table: pd.DataFrame) -> str:
    """Return the reference families and the sources of their values."""
    rows = table[table["folder"].eq("")]
    if rows.empty:
        return ""
    names = ", ".join(rows["family"].unique())
    sources = "; ".join(filter(None, rows["source"].unique()))
    size = " and ".join(map(str, sorted(rows["resolution"].dropna().unique())))
    return f"Reference families ({names}): ImageNet-1K at {size} px. Sources: {sources}."


def _surfaces(surfaces: pd.DataFrame | None) -> str:
    if surfaces is None:
        return ""
    repeats = surfaces.drop_duplicates("study")["repeats"]
    number = " and ".join(map(str, repeats))
    return (
        f"Line: median attainment of {number} repeated searches; band: first to third quartile "
        "(empirical attainment function). Dots: the fronts of the searches."
    )


def _probability(table: pd.DataFrame, *, measured: bool, requested: bool) -> str:
    if table["front_probability"].notna().any():
        return front_probability_sentence(measured=measured)
    unknown = "Probability of being on the front: unknown, because no architecture has two seeds."
    return unknown if requested else ""


def _area(table: pd.DataFrame, size: Quantity | None) -> str:
    if size is None:
        return ""
    missing = int(table[size.key].isna().sum())
    smallest = f"; unknown for {missing} (smallest markers)" if missing else ""
    return f"Marker area: proportional to {size.name.lower()}{smallest}."


def _seeds(table: pd.DataFrame, item: str) -> str:
    low, high = int(table["n"].min()), int(table["n"].max())
    if high == 1:
        return "One seed per architecture: the spread between seeds is unknown."
    number = f"{high}" if low == high else f"{low} to {high}"
    return f"Each {item} is a mean over {number} seeds."


def _marks(table: pd.DataFrame, *, measured: bool) -> str:
    noisy = int(table["noisy"].sum()) if measured else 0
    numbered = table.loc[table["on_front"], "label"].str.startswith("#").any()
    names = "; #n: number of the first trial" if numbered else ""
    hollow = f" Hollow markers: noisy measurements ({noisy})." if noisy else ""
    return f"Front: architectures that no other one of the study dominates{names}.{hollow}"


def _bars(table: pd.DataFrame, quantity: Quantity, direction: str) -> str:
    if table[f"{quantity.key}_low"].isna().all():
        return ""
    if quantity.source == "measured":
        return f"{direction} bars: 95 % interval of the measurement."
    return f"{direction} bars: ± one standard deviation (n − 1) over seeds."


def _device(table: pd.DataFrame, quantity: Quantity) -> str:
    protocol = protocol_label(table, quantity)
    if not protocol:
        return ""
    names = ", ".join(table["reference_name"].dropna().unique())
    reference = f", timed alternately with {names}" if names else ""
    return f"{quantity.name}: {protocol}{reference}."


def _missing(frame: pd.DataFrame, table: pd.DataFrame) -> str:
    number = architecture_codes(frame).nunique() - len(table)
    return f"Not shown: {pluralize(number, 'architecture')} without both values." if number else ""
