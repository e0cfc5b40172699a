"""The caption of a figure of learned ratios."""

import pandas as pd

from partialnas.analysis.formats.caption_sentences import (
    compute_sentence,
    pluralize,
    training_description,
)
from partialnas.analysis.ratios.plot import RatioPanels
from partialnas.analysis.ratios.tables import final_ratios, freeze_epoch, overall_ratios

_MOST_NAMED = 8


def ratio_caption(
    frame: pd.DataFrame, table: pd.DataFrame, panels: RatioPanels, warned: pd.DataFrame
) -> str:
    """The caption: what each panel shows, of which trials, and what was left out.

    Args:
        frame: the study's trials with their series.
        table: their ratios, as `ratio_table` gives them.
        panels: what the figure shows of them.
        warned: the warnings, as `load_warnings` gives them.
    """
    rows = frame[frame["series"].isin(table["series"].unique())]
    told = {
        "history": _history(panels.history),
        "final": _final(panels.final),
        "classes": _classes(panels.classes),
        "kinds": _kinds(panels.kinds),
    }
    sentences = [
        f"Learned ratios of {rows['study'].iloc[0]}, trained on {training_description(rows)}; blocks by stage "
        "and number.",
        *(f"({letter}) {told[name]}" for name, letter in panels.letters.items()),
        _left_out(table, panels.final),
        _warned(rows, warned),
        compute_sentence(rows),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _history(history: pd.DataFrame) -> str:
    first = history.iloc[0]
    frozen = freeze_epoch(history)
    told = f", frozen from epoch {frozen} on" if frozen else ""
    cut = "" if first["counts"] else "; the trial did not end well"
    return (
        f"Ratio of each block after every epoch of trial #{first['trial']} "
        f"({first['series']}, seed {first['seed']}){told}{cut}."
    )


def _final(final: pd.DataFrame) -> str:
    if final.empty:
        return ""
    seeds = final.groupby("series")["trial"].nunique()
    static = "dashed: the static ratio that learning starts from."
    if seeds.max() == 1:
        return f"Ratios at the end, one seed each: the spread is not known; {static}"
    number = f"{seeds.max()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    return (
        f"Ratios at the end: means over {number} seeds with one standard deviation (n − 1) to "
        f"either side, dots the seeds; {static}"
    )


def _classes(classes: pd.DataFrame) -> str:
    if classes.empty:
        return ""
    first = classes.iloc[0]
    return (
        "Mean ratio of the validation images of each class, less the mean over the classes, after "
        f"the last epoch of trial #{first['trial']} ({first['series']}, seed {first['seed']})."
    )


def _kinds(kinds: pd.DataFrame) -> str:
    if kinds.empty:
        return ""
    seeds = pluralize(kinds["trial"].nunique(), "seed")
    return (
        f"Mean ratio of the validation images as they are, blurred, with noise, and at half the "
        f"resolution ({kinds['arm'].iloc[0]}, {seeds})."
    )


def _left_out(table: pd.DataFrame, shown: pd.DataFrame) -> str:
    names = [*dict.fromkeys(final_ratios(overall_ratios(table))["series"])]
    absent = [name for name in names if name not in set(shown["series"])]
    if not absent:
        return ""
    more = f" and {len(absent) - _MOST_NAMED} more" if len(absent) > _MOST_NAMED else ""
    listed = ", ".join(absent[:_MOST_NAMED]) + more
    return f"Left out of the ratios at the end: {len(absent)} of {len(names)} arms ({listed})."


def _warned(rows: pd.DataFrame, warned: pd.DataFrame) -> str:
    if warned.empty:
        return ""
    often = warned.drop_duplicates(["trial", "warning"])["warning"].value_counts()
    return (
        f"Warnings: {warned['trial'].nunique()} of {pluralize(len(rows), 'trial')}, most often "
        f"“{often.index[0]}” ({often.iloc[0]})."
    )
