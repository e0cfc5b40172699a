"""What the verb `ratios` prints: a table of what learning came to, its agreement, its warnings."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from partialnas.commands.names import parse_trial
from partialnas.commands.status import warning_lines
from partialnas.commands.terminal import plain_table
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from partialnas.analysis.plotting.style import StyleName, Width


def draw_ratios(
    name: str, output: Path | None, table: Path | None, *, style: str, width: str | None
) -> None:
    """Draw the learned ratios of a study, print what they came to, and name the files written.

    Args:
        name: the study's folder, or a trial of it as DIR:7.
        output: the figure's file; in the study's folder without it.
        table: the CSV's file; beside the figure without it.
        style: the venue that the figure is for.
        width: of the figure; what is usual there without it.
    """
    from partialnas.analysis.ratios.agreement import agreement, convergence
    from partialnas.analysis.ratios.figure import ratio_figure
    from partialnas.analysis.ratios.summary import ratio_summary
    from partialnas.analysis.ratios.tables import overall_ratios

    folder, trial = _study_or_trial(name)
    default = "ratios.pdf" if trial is None else f"ratios-{trial}.pdf"
    drawn = ratio_figure(
        folder,
        output or folder / default,
        trial=trial,
        table=table,
        style=cast("StyleName", style),
        width=cast("Width | None", width),
    )
    rows = overall_ratios(drawn.table)
    summary = ratio_summary(drawn.trials, rows, drawn.warnings)
    console = Console(highlight=False)
    console.print(_came_to(summary))
    if summary["seconds_ratio"].notna().any():
        console.print(_cost(summary))
    console.print(_agreed(agreement(rows), convergence(rows)))
    for line in warning_lines(drawn.warnings):
        console.print(line, markup=False, soft_wrap=True)
    for path in drawn.files:
        console.print(f"wrote {path}", soft_wrap=True, markup=False)


def _study_or_trial(name: str) -> tuple[Path, int | None]:
    if trial := parse_trial(name):
        return trial
    folder, colon, _ = name.rpartition(":")
    if colon and not Path(name).is_dir():
        raise UserError(f"{name}: expected a study's folder, or a trial of it such as {folder}:7")
    return Path(name), None


def _came_to(summary: "pd.DataFrame") -> Table:
    """Of each arm what it reached, and how well it kept to its budget."""
    table = plain_table(
        "learned ratios: MACs beyond the budget, median and worst seed;\n"
        "gap between the logits of the trained and the frozen form, worst seed"
    )
    table.add_column("")
    heads = ("seeds", "budget %", "worst %", "gap", "val_accuracy", "val_nll")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=head != "seeds")
    for row in summary.to_dict("records"):
        table.add_row(
            escape(row["series"]),
            _seeds({"failed": row["failed"], "warned": row["warned"]}, row["seeds"]),
            _number(row["budget_error_median"], "+.2f"),
            _number(row["budget_error_worst"], "+.2f"),
            _number(row["ratio_gap_worst"], ".1e"),
            _spread(row["val_accuracy"], row["val_accuracy_sd"], ".2f"),
            _spread(row["val_nll"], row["val_nll_sd"], ".3f"),
        )
    return table


def _cost(summary: "pd.DataFrame") -> Table:
    """Of each arm what it costs beside the static arms."""
    table = plain_table("beside the static arms with the same seed: median of the seeds")
    for head in ("", "time of training", "throughput of what came of it"):
        table.add_column(head, justify="right" if head else "left")
    for row in summary.to_dict("records"):
        values = (_number(row[key], ".2f") for key in ("seconds_ratio", "throughput_ratio"))
        table.add_row(escape(row["series"]), *values)
    return table


def _agreed(agreement: "pd.DataFrame", courses: "pd.DataFrame") -> Table:
    """Of each arm how far its seeds agree, and how its ratios came to rest."""
    table = plain_table(
        "agreement of pairs of seeds at the end, and the epoch\n"
        "from which all ratios of a trial stay within a grain of their end"
    )
    table.add_column("")
    spread = ("sd of\nlayers", "sd of\nseeds")
    heads = ("Pearson", "Spearman", "channels\napart", *spread, "rest\nfrom", "oscillation")
    for head in heads:
        table.add_column(head, justify="right")
    for row in agreement.to_dict("records"):
        course = courses[courses["series"].eq(row["series"])]
        table.add_row(
            escape(row["series"]),
            _number(row["pearson"], ".2f"),
            _number(row["spearman"], ".2f"),
            _number(row["difference_channels"], ".1f"),
            _number(row["sd_layers"], ".3f"),
            _number(row["sd_seeds"], ".3f"),
            _range(course["convergence_epoch"]),
            _number(course["oscillation"].median(), ".1f"),
        )
    return table


def _seeds(amiss: dict[str, int], seeds: int) -> str:
    """`3`, or `3 (1 failed, 2 warned)`."""
    told = ", ".join(f"{number} {what}" for what, number in amiss.items() if number)
    return f"{seeds} ({told})" if told else f"{seeds}"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"


def _spread(mean: float, sd: float, form: str) -> str:
    return _number(mean, form) if math.isnan(sd) else f"{mean:{form}} ± {sd:{form}}"


def _range(epochs: "pd.Series[int]") -> str:
    """`12 to 15`, or the only value there is."""
    low, high = epochs.min(), epochs.max()
    return f"{low}" if low == high else f"{low} to {high}"
