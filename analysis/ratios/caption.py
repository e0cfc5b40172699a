"""Captions of figures of learned ratios."""

import pandas as pd

from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import (
    compute_sentence,
    enumerate_names,
    evaluation_phrase,
    pluralize,
)
from partialnas.analysis.ratios.plot import RatioPanels
from partialnas.analysis.ratios.tables import final_ratios, freeze_epoch, overall_ratios


def ratio_caption(
    frame: pd.DataFrame, table: pd.DataFrame, panels: RatioPanels, warned: pd.DataFrame
) -> Caption:
    """Return the caption: what each panel shows, of which trials, and what is not shown.

    Args:
        frame: trials of the study, as returned by `with_series`.
        table: ratios of the trials, as returned by `ratio_table`.
        panels: data of the figure.
        warned: warnings, as returned by `load_warnings`.
    """
    rows = frame[frame["series"].isin(table["series"].unique())]
    descriptions = {
        "history": _history(panels.history),
        "final": _final(panels.final),
        "classes": _classes(panels.classes),
        "kinds": _kinds(panels.kinds),
    }
    brief = [
        f"Learned ratios of {rows['study'].iloc[0]}, {evaluation_phrase(rows)}; "
        "blocks by stage and number.",
        *(f"({letter}) {descriptions[name]}" for name, letter in panels.letters.items()),
    ]
    details = [_left_out(table, panels.final), _warned(rows, warned), compute_sentence(rows)]
    return Caption(brief, details)


def _history(history: pd.DataFrame) -> str:
    first = history.iloc[0]
    frozen = freeze_epoch(history)
    freezing = f", frozen from epoch {frozen} on" if frozen else ""
    incomplete = "" if first["counts"] else "; this trial did not complete training"
    return (
        f"Ratio of each block after every epoch of trial #{first['trial']} "
        f"({first['series']}, seed {first['seed']}){freezing}{incomplete}."
    )


def _final(final: pd.DataFrame) -> str:
    if final.empty:
        return ""
    seeds = final.groupby("series")["trial"].nunique()
    static = "dashed: the static ratio that learning starts from."
    if seeds.max() == 1:
        return f"Final ratios, one seed each, so their spread is unknown; {static}"
    number = f"{seeds.max()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    return (
        f"Final ratios: means over {number} seeds with one standard deviation (n − 1) to either "
        f"side; dots: seeds; {static}"
    )


def _classes(classes: pd.DataFrame) -> str:
    if classes.empty:
        return ""
    first = classes.iloc[0]
    return (
        "Mean ratio of the validation images of each class, minus the mean over the classes, after "
        f"the last epoch of trial #{first['trial']} ({first['series']}, seed {first['seed']})."
    )


def _kinds(kinds: pd.DataFrame) -> str:
    if kinds.empty:
        return ""
    seeds = pluralize(kinds["trial"].nunique(), "seed")
    return (
        "Mean ratio of the validation images unchanged, blurred, with noise, and at half the "
        f"resolution ({kinds['arm'].iloc[0]}, {seeds})."
    )


def _left_out(table: pd.DataFrame, shown: pd.DataFrame) -> str:
    names = [*dict.fromkeys(final_ratios(overall_ratios(table))["series"])]
    absent = [name for name in names if name not in set(shown["series"])]
    if not absent:
        return ""
    count = f"{len(absent)} of {len(names)} arms"
    return f"Not shown with the final ratios: {count} ({enumerate_names(absent)})."


def _warned(rows: pd.DataFrame, warned: pd.DataFrame) -> str:
    if warned.empty:
        return ""
    often = warned.drop_duplicates(["trial", "warning"])["warning"].value_counts()
    return (
        f"Warnings in {warned['trial'].nunique()} of {pluralize(len(rows), 'trial')}, most often "
        f"“{often.index[0]}” ({often.iloc[0]})."
    )
