"""Captions of Pareto figures and tables: subject, seeds, error bars, device, compute."""

from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import (
    compute_sentence,
    evaluation_phrase,
    pluralize,
)
from partialnas.analysis.frames.chance import chance_note
from partialnas.analysis.frames.feasibility import feasibility_sentence
from partialnas.analysis.frames.seed_means import architecture_codes, has_failed_seed
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front_probability import front_probability_sentence
from partialnas.analysis.pareto.table import EAGER_NOTE, NOISE_NOTE, ParetoTable
from partialnas.analysis.plotting.axes import protocol_label
from partialnas.analysis.plotting.clipping import clip_outliers
from partialnas.analysis.plotting.limit_lines import limit_marks_sentence
from partialnas.analysis.plotting.names import network_name
from partialnas.runs.config.quantities import Quantity, name_in_sentence
from partialnas.space.validation import join_words

if TYPE_CHECKING:
    from partialnas.analysis.pareto.plot import ParetoPlotOptions


def pareto_caption(trials: Trials, points: ParetoTable, options: "ParetoPlotOptions") -> Caption:
    """Return the caption of a Pareto figure, with what checklists of conferences ask for.

    Args:
        trials: trials that the figure was made from, reference families included.
        points: their Pareto table.
        options: what the figure shows besides points and fronts.
    """
    table, x, y = points.rows, points.x, points.y
    rows, frame = table[table["folder"].ne("")], trials.frame[trials.frame["folder"].ne("")]
    sources = (x.source, y.source)
    repeated = options.surfaces is not None
    brief = [
        _subject(rows, x, y) if len(rows) else f"{y.label} against {x.label}.",
        _references(table),
        _seeds(rows, "point") if len(rows) and "trained" in sources else "",
        _surfaces(options.surfaces),
        "" if repeated else _front(points, rows, measured="measured" in sources),
        "" if repeated else _projection(points),
        limit_marks(points),
        _probability(points) if options.probability else "",
        _area(table, options.size),
        _bars(table, y, "Vertical"),
        _bars(table, x, "Horizontal"),
        _arrows(points, options),
        chance_note(trials),
    ]
    details = [
        feasibility_sentence(rows, trials.limits),
        *(_device(table, q) for q in (x, y)),
        _missing(trials.frame, table),
        compute_sentence(frame) if len(frame) else "",
    ]
    return Caption(brief, details)


def front_caption(trials: Trials, points: ParetoTable) -> Caption:
    """Return the caption of a table of the front, see `pareto_caption`."""
    shown = points.quantities
    table = points.all_rows
    spread = any(f"{q.key}_sd" in table and table[f"{q.key}_sd"].notna().any() for q in shown)
    brief = [
        _subject(table, *shown),
        _seeds(table, "row") if any(q.source == "trained" for q in shown) else "",
        "±: one standard deviation (n − 1) over seeds." if spread else "",
        _front(points, table, measured=False),
        NOISE_NOTE if table["noisy"].any() else "",
        EAGER_NOTE if table["eager"].any() else "",
        chance_note(trials),
    ]
    details = [
        feasibility_sentence(table, trials.limits),
        *(_device(table, q) for q in shown),
        _missing(trials.frame, table),
        compute_sentence(trials.frame),
    ]
    return Caption(brief, details)


def limit_marks(points: ParetoTable) -> str:
    """Return the meaning of the crosses and dashed lines of a figure; empty without any."""
    lines = bool([*points.bounds(points.x), *points.bounds(points.y)])
    return limit_marks_sentence(points.excluded, lines=lines)


def projection_note(points: ParetoTable, *, drawn: bool) -> str:
    """Return which objectives decide the front if the axes are others; else an empty text.

    Args:
        points: Pareto table.
        drawn: whether a figure shows its two axes alone; a printed table shows all objectives.
    """
    if not points.is_projection:
        return ""
    deciding = f"the front is that in {_deciding(points)}"
    if not drawn:
        return deciding
    members = points.rows[points.rows["on_front"]]
    off_line = int((~members["on_projected_front"]).sum())
    absent = f"; {len(points.undrawn)} more lack one of the two" if len(points.undrawn) else ""
    return (
        f"projection on {name_in_sentence(points.x.key)} and {name_in_sentence(points.y.key)}: "
        f"{deciding}; {off_line} of its "
        f"{len(members)} networks shown are dominated in these two alone{absent}"
    )


def _deciding(points: ParetoTable) -> str:
    """Return the objectives that decide the fronts, by study if they differ."""
    rows = points.all_rows
    names = dict(zip(rows["folder"], rows["study"], strict=True))
    texts = {
        names[folder]: join_words([*map(name_in_sentence, objectives)])
        for folder, objectives in points.deciding.items()
        if folder and folder in names
    }
    if len({*texts.values()}) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{text} for {study}" for study, text in texts.items())


def _subject(table: pd.DataFrame, x: Quantity, y: Quantity, *others: Quantity) -> str:
    studies = " and ".join(table["study"].unique())
    searched = ~table["baseline"].astype(bool)
    subjects = [
        f"{pluralize(int(searched.sum()), 'architecture')} of {studies}",
        pluralize(int((~searched).sum()), "baseline") if not searched.all() else "",
    ]
    what = " and ".join(filter(None, subjects))
    shown = ", ".join([f"{y.label} against {x.label}", *(other.label for other in others)])
    return f"{shown}: {what}, {evaluation_phrase(table)}."


def _references(table: pd.DataFrame) -> str:
    """Return the reference families and the sources of their values."""
    rows = table[table["folder"].eq("")]
    if rows.empty:
        return ""
    names = ", ".join(map(network_name, rows["family"].unique()))
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


def _probability(points: ParetoTable) -> str:
    if points.rows["front_probability"].notna().any():
        measured = any(
            q.source == "measured" for q in points.quantities if q.key in points.objectives
        )
        return front_probability_sentence(measured=measured)
    return "Probability of being on the front: unknown, because no architecture has two seeds."


def _arrows(points: ParetoTable, options: "ParetoPlotOptions") -> str:
    """Return the meaning of arrows on the edge, if there are any."""
    rows = points.rows
    movable = (rows["family"].eq("") & ~rows["on_front"]).to_numpy(bool)
    sides = [
        clip_outliers(
            rows[q.key].to_numpy(float), movable, log=q.logarithmic if log is None else log
        )[1]
        for q, log in zip((points.x, points.y), options.log, strict=True)
    ]
    if not options.clip or not any(side.any() for side in sides):
        return ""
    return "Arrows on the edge: dominated architectures far from the others."


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
    return f"Each {item} is a mean over {number} seeds.{failed_seeds_note(table)}"


def failed_seeds_note(table: pd.DataFrame) -> str:
    """Return how networks with failed seeds count, after a space; empty if there are none."""
    count = int((table["n"].gt(0) & has_failed_seed(table)).sum())
    if not count:
        return ""
    return (
        f" Of {pluralize(count, 'architecture')} a seed failed: the mean is over the others, which "
        "favors networks that fail, so they are not on the front."
    )


def _front(points: ParetoTable, table: pd.DataFrame, *, measured: bool) -> str:
    """Return what the front is, and the marks of labels and of noisy measurements."""
    if not table["on_front"].any():
        return ""
    noisy = int(table["noisy"].sum()) if measured else 0
    numbered = table.loc[table["on_front"], "label"].str.startswith("#").any()
    names = "; #n: number of the first trial" if numbered else ""
    eager = int(table["eager"].sum()) if measured else 0
    kinds = [f"noisy measurements ({noisy})"] * bool(noisy) + [f"eager ({eager})"] * bool(eager)
    hollow = f" Hollow markers: {', '.join(kinds)}." if kinds else ""
    decided = f" in {_deciding(points)}" if points.is_projection else ""
    return f"Front: architectures that no other one of the study dominates{decided}{names}.{hollow}"


def _projection(points: ParetoTable) -> str:
    """Return what a figure of other quantities than the objectives of its studies shows."""
    if not points.is_projection:
        return ""
    rows = points.rows
    off_line = int((rows["on_front"] & ~rows["on_projected_front"]).sum())
    passed = int((~rows["on_front"] & rows["on_projected_front"]).sum())
    sentences = [
        "Projection: the figure shows two quantities, but all objectives of the study decide what "
        "is on the front. Line: edge of what the architectures of the study dominate in these two "
        "alone.",
        f"Off the line (diamonds): {off_line} of {int(rows['on_front'].sum())} members of the "
        "front, which others dominate in these two.",
        f"Gray on the line: {pluralize(passed, 'architecture')} that others dominate in the "
        "objectives." if passed else "",
        f"Not shown: {pluralize(len(points.undrawn), 'member')} of the front without both values."
        if len(points.undrawn) else "",
    ]  # fmt: skip
    return " ".join(filter(None, sentences))


def _bars(table: pd.DataFrame, quantity: Quantity, direction: str) -> str:
    drawn = table["on_front"] | table["family"].ne("")
    if table.loc[drawn, f"{quantity.key}_low"].isna().all():
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
