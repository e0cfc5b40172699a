"""Caption texts: what varies, how many seeds, how bars are made, the device, the compute."""

from typing import TYPE_CHECKING

import pandas as pd

from partialnas.analysis.axes import protocol
from partialnas.analysis.front import FAILED, groups
from partialnas.analysis.front_probability import model_text
from partialnas.analysis.limits import limits_text
from partialnas.analysis.pareto_table import NOISE
from partialnas.analysis.quantities import Quantity
from partialnas.runs.rehearsal import NOTICE, is_rehearsal

if TYPE_CHECKING:
    from partialnas.analysis.pareto_plot import Extras

_SECONDS_PER_HOUR = 3600


def pareto_caption(
    frame: pd.DataFrame, table: pd.DataFrame, x: Quantity, y: Quantity, extras: "Extras"
) -> str:
    """The caption of a Pareto figure: everything that a paper's checklist asks of it.

    Args:
        frame: the trials that the figure was made from, reference families included.
        table: their Pareto table.
        x: the quantity across.
        y: the quantity upwards.
        extras: what else the figure shows.
    """
    own, trials = table[table["folder"].ne("")], frame[frame["folder"].ne("")]
    sources = (x.source, y.source)
    sentences = [
        _subject(own, x, y) if len(own) else f"{y.label} against {x.label}.",
        _references(table),
        _seeds(own, "point") if len(own) and "trained" in sources else "",
        _marks(own, measured="measured" in sources) if own["on_front"].any() else "",
        limits_text(own, frame.attrs.get("limits", {})),
        _surfaces(extras.surfaces),
        _chances(table, measured="measured" in sources, asked=extras.probability),
        _area(table, extras.size),
        *(_bars(table, q, way) for q, way in ((y, "Vertical"), (x, "Horizontal"))),
        "Arrows on the edge: dominated architectures far off the rest." if extras.clip else "",
        *(_device(table, q) for q in (x, y)),
        _absent(frame, table),
        compute_used(trials) if len(trials) else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def front_caption(frame: pd.DataFrame, table: pd.DataFrame, x: Quantity, y: Quantity) -> str:
    """The caption of a table of the front, see `pareto_caption`: it has rows, and no bars."""
    sources = (x.source, y.source)
    spread = f"{y.key}_sd" in table and table[f"{y.key}_sd"].notna().any()
    sentences = [
        _subject(table, x, y),
        _seeds(table, "row") if "trained" in sources else "",
        "±: one standard deviation (n − 1) over seeds." if spread else "",
        _marks(table, measured=False) if table["on_front"].any() else "",
        limits_text(table, frame.attrs.get("limits", {})),
        NOISE if table["noisy"].any() else "",
        *(_device(table, q) for q in (x, y)),
        _absent(frame, table),
        compute_used(frame),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def compute_used(frame: pd.DataFrame) -> str:
    """How much training the trials took, failed ones included; of a rehearsal a notice."""
    if any(map(is_rehearsal, frame["study"].unique())):
        return NOTICE
    failed = frame["state"].isin(FAILED)
    hours = frame["seconds"].sum() / _SECONDS_PER_HOUR
    lost = frame.loc[failed, "seconds"].sum() / _SECONDS_PER_HOUR
    devices = ", ".join(sorted(filter(None, frame["trained_on"].dropna().unique())))
    place = f" on {devices}" if devices else ""
    part = f", of which {failed.sum()} failed ({lost:.2g} h)" if failed.any() else "; none failed"
    return f"Compute: {count(len(frame), 'trial')}, {hours:.2g} h of training{place}{part}."


def training(table: pd.DataFrame) -> str:
    """On what, and for how long, the networks of a table were trained."""
    settings = table[["data", "full_fidelity"]].drop_duplicates().to_dict("records")
    return " and ".join(
        f"{without_path(str(s['data']))} for {count(s['full_fidelity'], 'epoch')}" for s in settings
    )


def without_path(data: str) -> str:
    """A data set without where it lies: `folder:/home/me/birds` as `folder:…/birds`."""
    kind, colon, path = data.partition(":")
    return f"{kind}:…/{path.rstrip('/').rpartition('/')[2]}" if colon else data


def count(number: int, noun: str) -> str:
    """A number of things, as `1 trial` or `1,200 trials`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _subject(table: pd.DataFrame, x: Quantity, y: Quantity) -> str:
    studies = " and ".join(table["study"].unique())
    searched = ~table["baseline"].astype(bool)
    told = [
        f"{count(int(searched.sum()), 'architecture')} of {studies}",
        count(int((~searched).sum()), "baseline") if not searched.all() else "",
    ]
    what = " and ".join(filter(None, told))
    return f"{y.label} against {x.label}: {what}, trained on {training(table)}."


def _references(table: pd.DataFrame) -> str:
    """What reference families are, and where their figures come from."""
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
        f"Line: what the median of {number} repeated searches attains; band: from the first to "
        "the third quartile (empirical attainment function). Dots: their fronts."
    )


def _chances(table: pd.DataFrame, *, measured: bool, asked: bool) -> str:
    if table["front_probability"].notna().any():
        return model_text(measured=measured)
    unknown = "Probability of being on the front: not known, for no architecture has two seeds."
    return unknown if asked else ""


def _area(table: pd.DataFrame, size: Quantity | None) -> str:
    if size is None:
        return ""
    absent = int(table[size.key].isna().sum())
    told = f"; smallest where it is not known ({absent})" if absent else ""
    return f"Area of the markers: in proportion to {size.name.lower()}{told}."


def _seeds(table: pd.DataFrame, each: str) -> str:
    low, high = int(table["n"].min()), int(table["n"].max())
    if high == 1:
        return "One seed each: the spread between seeds is not known."
    number = f"{high}" if low == high else f"{low} to {high}"
    return f"Each {each} is a mean over {number} seeds."


def _marks(table: pd.DataFrame, *, measured: bool) -> str:
    noisy = int(table["noisy"].sum()) if measured else 0
    numbered = table.loc[table["on_front"], "label"].str.startswith("#").any()
    names = "; #n is the number of its first trial" if numbered else ""
    hollow = f" Hollow: the measurement is marked as noisy ({noisy})." if noisy else ""
    return f"Front: what no other architecture of the study dominates{names}.{hollow}"


def _bars(table: pd.DataFrame, quantity: Quantity, way: str) -> str:
    if table[f"{quantity.key}_low"].isna().all():
        return ""
    if quantity.source == "measured":
        return f"{way} bars: 95 % interval of the measurement."
    return f"{way} bars: one standard deviation (n − 1) over seeds to either side."


def _device(table: pd.DataFrame, quantity: Quantity) -> str:
    way = protocol(table, quantity)
    if not way:
        return ""
    names = ", ".join(table["reference_name"].dropna().unique())
    reference = f", timed in turns with {names}" if names else ""
    return f"{quantity.name}: {way}{reference}."


def _absent(frame: pd.DataFrame, table: pd.DataFrame) -> str:
    number = groups(frame).nunique() - len(table)
    return f"Not shown: {count(number, 'architecture')} without both values." if number else ""
