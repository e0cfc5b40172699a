"""The verb `ratios`: draw learned ratios, and print their budget, agreement and warnings."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from partialnas.analysis.formats.caption_sentences import count_seeds
from partialnas.analysis.formats.text_table import format_number
from partialnas.analysis.ratios.agreement import agreement, convergence
from partialnas.analysis.ratios.figure import ratio_figure
from partialnas.analysis.ratios.summary import ratio_summary
from partialnas.analysis.ratios.tables import overall_ratios
from partialnas.commands.networks.names import parse_trial
from partialnas.commands.studies.status import warning_lines
from partialnas.commands.terminal import (
    format_spread,
    make_console,
    plain_table,
    print_files,
    print_lines,
    print_table,
)
from partialnas.space.errors import UserError

_AGREEMENT = {
    **{"pearson": ".2f", "spearman": ".2f", "difference_channels": ".1f"},
    **{"sd_layers": ".3f", "sd_seeds": ".3f"},
}
"""Columns of the table of agreement, and the format of their numbers."""


def draw_ratios(name: str, output: Path | None, table: Path | None, **look: Any) -> None:
    """Draw the learned ratios of a study, print their summary, and name the files written.

    Args:
        name: the study's folder, or a trial of it as DIR:7.
        output: file of the figure; by default in the study's folder.
        table: file of the table (.csv); by default next to the figure.
        look: `style`, `width`, `font` and `caption` of the figure.
    """
    folder, trial = _study_or_trial(name)
    default = "ratios.pdf" if trial is None else f"ratios-{trial}.pdf"
    figure = ratio_figure(folder, output or folder / default, trial=trial, table=table, **look)
    ratios = overall_ratios(figure.table)
    summary = ratio_summary(figure.trials, ratios, figure.warnings)
    console = make_console()
    print_table(console, _summary_table(summary))
    if summary["seconds_ratio"].notna().any():
        print_table(console, _cost_table(summary))
    print_table(console, _agreement_table(agreement(ratios), convergence(ratios)))
    print_lines(console, *warning_lines(figure.warnings))
    print_files(console, figure.files)


def _study_or_trial(name: str) -> tuple[Path, int | None]:
    if trial := parse_trial(name):
        return trial
    folder, colon, _ = name.rpartition(":")
    if colon and not Path(name).is_dir():
        raise UserError(f"{name}: expected a study's folder, or a trial such as {folder}:7")
    return Path(name), None


def _summary_table(summary: pd.DataFrame) -> Table:
    """Return the table of each arm's metrics and of how well it met its budget."""
    table = plain_table(
        "learned ratios: MACs relative to the budget, median and worst seed;\n"
        "gap between the logits of the trained and the frozen form, worst seed",
        *("", "seeds", "budget %", "worst %", "gap", "val_accuracy", "val_nll"),
    )
    for row in summary.to_dict("records"):
        table.add_row(
            row["series"],
            count_seeds(row["seeds"], failed=row["failed"], warned=row["warned"]),
            format_number(row["budget_error_median"], "+.2f", "-"),
            format_number(row["budget_error_worst"], "+.2f", "-"),
            format_number(row["ratio_gap_worst"], ".1e", "-"),
            format_spread(row["val_accuracy"], row["val_accuracy_sd"], ".2f"),
            format_spread(row["val_nll"], row["val_nll_sd"], ".3f"),
        )
    return table


def _cost_table(summary: pd.DataFrame) -> Table:
    """Return the table of each arm's cost relative to the static arms."""
    title = "relative to the static arms with the same seed: median over seeds"
    table = plain_table(title, "", "training time", "throughput of the frozen network")
    for row in summary.to_dict("records"):
        costs = (row["seconds_ratio"], row["throughput_ratio"])
        table.add_row(row["series"], *(format_number(cost, ".2f", "-") for cost in costs))
    return table


def _agreement_table(agreement: pd.DataFrame, courses: pd.DataFrame) -> Table:
    """Return the table of each arm's agreement between seeds and of its convergence."""
    table = plain_table(
        "agreement of pairs of seeds at the end, and the epoch\n"
        "from which all ratios of a trial stay within one grain of their final value",
        *("", "Pearson", "Spearman", "channels\napart", "sd of\nlayers", "sd of\nseeds"),
        *("converged\nfrom", "oscillation"),
    )
    for row in agreement.to_dict("records"):
        course = courses[courses["series"].eq(row["series"])]
        table.add_row(
            row["series"],
            *(format_number(row[key], spec, "-") for key, spec in _AGREEMENT.items()),
            _range(course["convergence_epoch"]),
            format_number(course["oscillation"].median(), ".1f", "-"),
        )
    return table


def _range(epochs: "pd.Series[int]") -> str:
    """Return `12 to 15`, or the only value."""
    low, high = epochs.min(), epochs.max()
    return f"{low}" if low == high else f"{low} to {high}"
