"""The printed table of the front of a search and its baselines, as means over seeds."""

import math
from collections.abc import Sequence

import pandas as pd

from partialnas.analysis.formats.caption import CaptionLength
from partialnas.analysis.formats.table_columns import (
    COSTS,
    cost_column,
    drop_empty,
    format_spread,
    seed_counts,
    text_column,
)
from partialnas.analysis.formats.text_table import Cell, Column, TextTable
from partialnas.analysis.frames.feasibility import infeasible_message
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.caption import front_caption
from partialnas.analysis.pareto.table import ParetoTable, make_pareto_table
from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError


def front_table(
    trials: Trials,
    metrics: Sequence[str],
    columns: Sequence[str] | None,
    *,
    label: str = "",
    caption: CaptionLength = "full",
) -> tuple[TextTable, pd.DataFrame]:
    """Return the front of a search and its baselines as a printed table, and all its points.

    Args:
        trials: trials of the search, under one condition.
        metrics: requested quantities; the study's objectives have columns besides.
        columns: columns to show; by default those with any content.
        label: label of the table in LaTeX, after the names of the studies.
        caption: length of the caption.

    Raises:
        UserError: there is no front, or an unknown quantity or column.
    """
    table = make_pareto_table(trials, y=metrics[0] if metrics else None)
    others = [trials.quantity(metric) for metric in metrics[1:]]
    points = table.all_rows
    shown = points[points["on_front"] | points["family"].ne("")]
    if shown.empty:
        reason = infeasible_message(points, trials.limits) or "no network has all objectives"
        raise UserError(f"the front is empty: {reason}")
    available = {
        "arm": [Column(header="Network", cells=[*map(Cell, shown["label"])], is_numeric=False)],
        "n": [text_column("n", shown, seed_counts)],
        "metric": [_metric_column(shown, q) for q in _metrics(table, metrics, others)],
        **{key: [cost_column(shown, key, shown["eager"])] for key in COSTS},
    }
    unavailable = [key for key in columns or () if key not in available]
    if unavailable:
        raise UserError(
            f"columns: the front of a search has no {', '.join(unavailable)}; choose "
            f"{', '.join(available)}"
        )
    chosen = [column for key in columns or available for column in available[key]]
    name = " and ".join(points["study"].unique())
    text_table = TextTable(
        name=name,
        columns=drop_empty(chosen, keep=bool(columns)),
        caption=front_caption(trials, table).text(caption),
        label=f"{name}-{label}",
    )
    return text_table, points


def _metrics(
    table: ParetoTable, metrics: Sequence[str], others: Sequence[Quantity]
) -> list[Quantity]:
    """Return the requested quantities, or the one that decides, and all objectives but costs.

    Every objective has a column: here, or among the costs.
    """
    costs = {quantity for quantity, _ in COSTS.values()}
    first = [table.y] if metrics or table.y.key not in costs else []
    objectives = [q for q in table.quantities if q.key in table.objectives and q.key not in costs]
    return [*{quantity.key: quantity for quantity in (*first, *others, *objectives)}.values()]


def _metric_column(shown: pd.DataFrame, quantity: Quantity) -> Column:
    """Return the column of a quantity, with its deviation between seeds if there are several."""
    key = quantity.key
    return text_column(
        quantity.label,
        shown,
        lambda row: format_spread(quantity, row[key], row.get(f"{key}_sd", math.nan)),
    )
