"""Tables for print: the effects of an ablation, or the front of a search."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.ablation.arm_rows import is_search
from partialnas.analysis.ablation.caption import effects_caption
from partialnas.analysis.ablation.effects import Effects, effects, mark_unmatched
from partialnas.analysis.formats.artefact import Artefact
from partialnas.analysis.formats.data_files import frame_to_csv
from partialnas.analysis.formats.latex import to_latex
from partialnas.analysis.formats.text_table import (
    MINUS,
    PLUS_MINUS,
    Cell,
    Column,
    TextTable,
    format_interval,
    to_html,
    to_markdown,
)
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.pareto.caption import front_caption
from partialnas.analysis.pareto.table import ParetoTable, make_pareto_table
from partialnas.runs.config.quantities import QUANTITIES, Quantity
from partialnas.space.errors import UserError

FORMATS = {"latex": ".tex", "markdown": ".md", "csv": ".csv", "html": ".html"}
"""File suffix of each format."""

COLUMNS = (
    *("arm", "levels", "n", "metric", "delta", "p", "effect", "equivalence", "step"),
    *("params", "macs", "throughput", "latency"),
)
"""Values of `--columns`."""

_DEFAULT_COLUMNS = [key for key in COLUMNS if key not in ("arm", "levels", "latency")]
_COSTS = {
    **{"params": ("params", "Params"), "macs": ("macs", "MACs")},
    **{"throughput": ("throughput_img_s", "img/s"), "latency": ("latency_ms", "ms")},
}
"""Quantity and header of each column of costs."""

_MIN_P = 0.001


def table_artefact(
    folders: Sequence[Path | str],
    *,
    metric: str | None = None,
    against: str | None = None,
    margin: float | None = None,
    condition: str | None = None,
    columns: Sequence[str] | None = None,
) -> Artefact:
    """Return the table of the arms of an ablation, or of the front of a search, in every format.

    Args:
        folders: folder of the study; the arms of several studies with the same task and recipe are
            combined.
        metric: quantity under comparison, see `effects`.
        against: baseline of all arms, see `effects`.
        margin: largest negligible difference, see `effects`.
        condition: condition to show, for a study with several.
        columns: columns to show, from `COLUMNS`; by default those with any content.

    Raises:
        UserError: there is nothing to show, a quantity, arm, condition or column is unknown, a
            condition must be chosen, or the studies have different tasks or recipes.
        MachineError: a ledger cannot be read.
    """
    arguments = drop_none(
        metric=metric, against=against, margin=margin, condition=condition,
        columns=None if columns is None else [*columns],
    )  # fmt: skip
    _require_columns(columns)
    paths = [*map(Path, folders)]
    if any(map(is_search, paths)):
        table, rows, studies = _front(paths, metric, against or margin, condition, columns)
    else:
        result = effects(paths, metric, margin=margin, condition=condition, against=against)
        table, rows = effects_sheet(result, columns), full_table(result)
        studies = result.rows.studies
    return Artefact(
        studies=studies,
        query=Query(verb="table", arguments=arguments),
        texts={
            ".md": to_markdown(table),
            ".tex": to_latex(table),
            ".html": to_html(table),
            ".csv": frame_to_csv(rows),
        },
    )


def effects_sheet(result: Effects, columns: Sequence[str] | None = None) -> TextTable:
    """Return the printed table of the effects of a study."""
    table, level = result.table, result.comparison.level
    steps = _interval(result, "Step", "step", ends=("step_low", "step_high"))
    available = {
        "arm": [_arms(result)],
        "levels": _levels(result),
        "n": [_column("n", table, _seed_counts)],
        "metric": [_metric(result)],
        "delta": [_interval(result, f"Δ [{level:.0%}]", "difference", ends=("low", "high"))],
        "p": [_column("p", table, lambda row: format_p_value(row["p"]))],
        "effect": [_column("d", table, lambda row: format_signed(row["effect"], ".2f"))],
        "equivalence": [_equivalence(result)],
        "step": [steps] if result.steps else [],
        **{key: [_cost(table, key)] for key in _COSTS},
    }
    selected = columns or [row_label_column(result), *_DEFAULT_COLUMNS]
    return TextTable(
        name=" and ".join(study.name for study in result.rows.studies),
        columns=_non_empty([c for key in selected for c in available[key]], keep=bool(columns)),
        caption=effects_caption(result),
    )


def _non_empty(columns: Sequence[Column], *, keep: bool) -> Sequence[Column]:
    """Return the columns with any content, or all of them to `keep` a user's selection."""
    return columns if keep else [c for c in columns if any(cell.text for cell in c.cells)]


def row_label_column(result: Effects) -> str:
    """Return the key of the column that names the rows: `levels` in factorial designs, or `arm`."""
    by_levels = result.factorial is not None and not any(
        column.cells[i].text == "" for column in _levels(result) for i in range(len(result.table))
    )
    return "levels" if by_levels else "arm"


def full_table(result: Effects) -> pd.DataFrame:
    """Return all statistics of every arm, and the value of every seed as `seed.N`.

    Statistics are rounded to ten significant digits, since further digits depend on the machine.
    """
    table = result.table.assign(best=result.table["arm"].eq(result.best or ""))
    for key in ("params", "macs"):
        if table[key].dropna().mod(1).eq(0).all():
            table[key] = table[key].astype("Int64")
    seeds = sorted({seed for values in result.values.values() for seed in values})
    values = {
        f"seed.{seed}": [result.values.get(arm, {}).get(seed, math.nan) for arm in table["arm"]]
        for seed in seeds
    }
    key = result.quantity.key
    table = table.rename(columns={"mean": key, "sd": f"{key}_sd"})
    return pd.concat([table, pd.DataFrame(values, index=table.index)], axis=1)


def format_signed(value: float, spec: str) -> str:
    """Return a number with its sign, using a true minus, or "" for NaN."""
    if math.isnan(value):
        return ""
    text = format(value, f"+z{spec}") if spec else f"{value:+z.4g}"
    return text.replace("-", MINUS)


def format_p_value(p: float) -> str:
    """Return a p-value with three decimals, or "" for NaN."""
    if math.isnan(p):
        return ""
    return f"<{_MIN_P}" if p < _MIN_P else f"{p:.3f}"


def _require_columns(columns: Sequence[str] | None) -> None:
    unknown = [key for key in columns or () if key not in COLUMNS]
    if unknown:
        raise UserError(f"unknown columns {', '.join(unknown)}: choose {', '.join(COLUMNS)}")


def _column(header: str, table: pd.DataFrame, text: Callable[[dict[Any, Any]], str]) -> Column:
    return Column(header=header, cells=[Cell(text(row)) for row in table.to_dict("records")])


def _arms(result: Effects) -> Column:
    arms = result.table["arm"]
    cells = [*map(Cell, mark_unmatched(result, arms, arms))]
    return Column(header="Arm", cells=cells, is_numeric=False)


def _levels(result: Effects) -> list[Column]:
    keys = [str(key) for key in result.table if str(key).startswith("level.")]
    texts = [[str(level) for level in result.table[key]] for key in keys]
    if texts:
        texts[0] = mark_unmatched(result, texts[0], result.table["arm"])
    return [
        Column(header=key.removeprefix("level."), cells=[*map(Cell, column)], is_numeric=False)
        for key, column in zip(keys, texts, strict=True)
    ]


def _seed_counts(row: dict[Any, Any]) -> str:
    """Return the number of seeds, such as `3` or `2 (1 failed)`."""
    others = ", ".join(f"{row[state]} {state}" for state in ("failed", "missing") if row[state])
    return f"{row['n']} ({others})" if others else f"{row['n']}"


def _metric(result: Effects) -> Column:
    quantity = result.quantity
    cells = [
        Cell(row["state"] or spread(quantity, row["mean"], row["sd"]), row["arm"] == result.best)
        for row in result.table.to_dict("records")
    ]
    return Column(header=quantity.label, cells=cells)


def spread(quantity: Quantity, mean: float, sd: float) -> str:
    """Return the mean of a quantity, with its standard deviation if available."""
    text = quantity.text(mean).replace("-", MINUS)
    return text if math.isnan(sd) else f"{text} {PLUS_MINUS} {quantity.text(sd)}"


def _interval(result: Effects, header: str, key: str, ends: tuple[str, str]) -> Column:
    spec = result.quantity.spec

    def text(row: dict[Any, Any]) -> str:
        return format_interval(*(format_signed(row.get(k, math.nan), spec) for k in (key, *ends)))

    return _column(header, result.table, text)


def _equivalence(result: Effects) -> Column:
    cells = [Cell(str(verdict)) for verdict in result.table["equivalence"]]
    margin = "" if result.margin is None else f" ±{result.margin:g}"
    return Column(header=f"Equivalence{margin}", cells=cells, is_numeric=False)


def _cost(table: pd.DataFrame, key: str) -> Column:
    """Return a column of costs, scaled by a unit prefix that suits the largest one."""
    quantity_key, header = _COSTS[key]
    quantity = QUANTITIES[quantity_key]
    values = table[quantity.key].astype("float64")
    label, factor = quantity.scaled_label(values.abs().max())
    unit = label.rpartition("(")[2].split(",")[0].rstrip(")") if factor != 1 else ""
    spec = replace(quantity, spec=_decimals(values.abs().max() / factor)) if unit else quantity
    cells = [
        Cell(spec.text(value / factor, noisy=bool(noisy)))
        for value, noisy in zip(values, table["noisy"], strict=True)
    ]
    return Column(header=f"{header} ({unit})" if unit else header, cells=cells)


def _decimals(largest: float) -> str:
    """Return a format specification with four significant digits for the largest value."""
    return f".{3 - int(math.log10(largest))}f"


def _front(
    folders: Sequence[Path],
    metric: str | None,
    compared: object,
    condition: str | None,
    columns: Sequence[str] | None,
) -> tuple[TextTable, pd.DataFrame, Any]:
    """Return the front of a search and its baselines as means over seeds, without comparisons."""
    if compared:
        raise UserError(
            "against, margin: a search has no arms to compare; without these options `partialnas "
            "table` shows its front"
        )
    trials = load_trials(folders).under(condition)
    table = make_pareto_table(trials, y=metric)
    points = table.all_rows
    shown = points[points["on_front"] | points["family"].ne("")]
    available = {
        "arm": [Column(header="Network", cells=[*map(Cell, shown["label"])], is_numeric=False)],
        "n": [_column("n", shown, lambda row: _seed_counts({**row, "missing": 0}))],
        "metric": [_front_metric(shown, q) for q in _front_metrics(table, metric)],
        **{key: [_cost(shown, key)] for key in _COSTS},
    }
    unavailable = [key for key in columns or () if key not in available]
    if unavailable:
        raise UserError(
            f"columns: the front of a search has no {', '.join(unavailable)}; choose "
            f"{', '.join(available)}"
        )
    text_table = TextTable(
        name=" and ".join(points["study"].unique()),
        columns=_non_empty(
            [column for key in columns or available for column in available[key]],
            keep=bool(columns),
        ),
        caption=front_caption(trials, table),
    )
    return text_table, points, trials.studies


def _front_metrics(table: ParetoTable, metric: str | None) -> list[Quantity]:
    """Return the requested quantity, or the one that decides, and all objectives that are no costs.

    Every objective has a column: here, or among the costs.
    """
    costs = {quantity for quantity, _ in _COSTS.values()}
    first = [table.y] if metric or table.y.key not in costs else []
    others = [q for q in table.quantities if q.key in table.objectives and q.key not in costs]
    return [*first, *(quantity for quantity in others if quantity not in first)]


def _front_metric(shown: pd.DataFrame, quantity: Quantity) -> Column:
    """Return the column of an objective, with its deviation between seeds if there are several."""
    key = quantity.key
    return _column(
        quantity.label,
        shown,
        lambda row: spread(quantity, row[key], row.get(f"{key}_sd", math.nan)),
    )
