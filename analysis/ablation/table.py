"""Tables for print: the effects of an ablation, or the front of a search."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from partialnas.analysis.ablation.arm_rows import is_search
from partialnas.analysis.ablation.caption import table_caption
from partialnas.analysis.ablation.effects import Effects, effects, mark_arms
from partialnas.analysis.formats.artefact import Artefact
from partialnas.analysis.formats.caption import CaptionLength, check_caption_length
from partialnas.analysis.formats.data_files import frame_to_csv
from partialnas.analysis.formats.latex import NARROW_PAGE, estimated_width, to_latex
from partialnas.analysis.formats.table_columns import (
    cost_column,
    format_signed,
    format_spread,
    seed_counts,
    text_column,
)
from partialnas.analysis.formats.text_table import (
    Cell,
    Column,
    TextTable,
    format_interval,
    to_html,
    to_markdown,
)
from partialnas.analysis.frames.folders import Paths, study_folders
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.provenance import Query, StudyId, drop_none
from partialnas.analysis.frames.timings import eager_rows
from partialnas.analysis.pareto.front_table import front_table
from partialnas.space.errors import UserError
from partialnas.space.validation import suggest

FORMATS = {"latex": ".tex", "markdown": ".md", "csv": ".csv", "html": ".html"}
"""File suffix of each format."""

_TESTED = ("metric", "delta", "p", "effect", "equivalence", "step")
"""Columns that each quantity has for itself."""

COLUMNS = ("arm", "levels", "n", *_TESTED, "params", "macs", "throughput", "latency")
"""Values of `--columns`."""

_DISPENSABLE = ("effect", "p", "latency", "throughput", "macs", "params", "n")
"""Columns that a table without room loses, the first ones first."""

_DEFAULT_COLUMNS = [key for key in COLUMNS if key not in ("arm", "levels", "latency")]
_MIN_P = 0.001


def table_artefact(
    folders: Paths,
    *,
    metric: str | Sequence[str] | None = None,
    against: str | None = None,
    margin: float | None = None,
    condition: str | None = None,
    columns: Sequence[str] | None = None,
    caption: CaptionLength = "full",
) -> Artefact:
    """Return the table of the arms of an ablation, or of the front of a search, in every format.

    Args:
        folders: folder of the study; the arms of several studies with the same task and recipe are
            combined.
        metric: quantity under comparison, see `effects`; each of several has a group of columns.
        against: baseline of all arms, see `effects`.
        margin: largest negligible difference, see `effects`; for a single quantity.
        condition: condition to show, for a study with several.
        columns: columns to show, from `COLUMNS`; by default those with any content.
        caption: length of the caption; `none` gives LaTeX without a table environment.

    Raises:
        UserError: there is nothing to show, a quantity, arm, condition or column is unknown, a
            condition must be chosen, or the studies have different tasks or recipes.
        MachineError: a ledger cannot be read.
    """
    metrics = [metric] if isinstance(metric, str) else [*dict.fromkeys(metric or ())]
    arguments = drop_none(
        metric=metrics[0] if len(metrics) == 1 else metrics or None, against=against,
        margin=margin, condition=condition, columns=None if columns is None else [*columns],
        caption=None if caption == "full" else caption,
    )  # fmt: skip
    _require_columns(columns)
    check_caption_length(caption)
    if margin is not None and len(metrics) > 1:
        raise UserError("margin: a difference in one quantity; make a table with one metric")
    paths = study_folders(folders)
    look: dict[str, Any] = {"label": _label(arguments), "caption": caption}
    narrower: Sequence[str] = ()
    if any(map(is_search, paths)):
        if against or margin:
            raise UserError(
                "against, margin: a search has no arms to compare; without these options "
                "`partialnas table` shows its front"
            )
        trials = load_trials(paths).under(condition)
        studies: Sequence[StudyId] = trials.studies
        table, rows = front_table(trials, metrics, columns, **look)
    else:
        options: dict[str, Any] = {"margin": margin, "condition": condition, "against": against}
        results = [effects(paths, name, **options) for name in metrics or (None,)]
        studies = results[0].rows.studies
        table, rows = effects_sheet(results, columns, **look), full_table(*results)
        if estimated_width(table) > NARROW_PAGE:
            narrower = _narrower_columns(results, columns)
    return Artefact(
        studies=studies,
        query=Query(verb="table", arguments=arguments),
        texts={
            ".md": to_markdown(table),
            ".tex": to_latex(table),
            ".html": to_html(table),
            ".csv": frame_to_csv(rows),
        },
        width=estimated_width(table),
        narrower=narrower,
    )


def _label(arguments: dict[str, Any]) -> str:
    """Return what distinguishes the tables of one study in their LaTeX labels."""
    words = (value for key, value in arguments.items() if key != "caption")
    parts = [word if isinstance(word, list) else [word] for word in words]
    return "-".join(str(word) for part in parts for word in part)


def effects_sheet(
    results: Effects | Sequence[Effects],
    columns: Sequence[str] | None = None,
    *,
    label: str = "",
    caption: CaptionLength = "full",
) -> TextTable:
    """Return the printed table of the effects of a study on one quantity or on several.

    Args:
        results: effects on each quantity; several have a group of columns each.
        columns: columns to show, from `COLUMNS`; by default those with any content.
        label: label of the table in LaTeX, after the names of the studies.
        caption: length of the caption.
    """
    results = [results] if isinstance(results, Effects) else results
    pairs = _shown_columns(results, columns)
    name = " and ".join(study.name for study in results[0].rows.studies)
    return TextTable(
        name=name,
        columns=[column for _, column in pairs],
        caption=table_caption(results, {key for key, _ in pairs}).text(caption),
        label=f"{name}-{label}",
    )


def _narrower_columns(results: Sequence[Effects], columns: Sequence[str] | None) -> Sequence[str]:
    """Return those of the columns that fit a page of one column, or nothing if too few would."""
    kept = [*dict.fromkeys(key for key, _ in _shown_columns(results, columns))]
    for dispensable in _DISPENSABLE:
        kept = [key for key in kept if key != dispensable]
        if kept and estimated_width(effects_sheet(results, kept)) <= NARROW_PAGE:
            return kept
    return ()


def _shown_columns(
    results: Sequence[Effects], columns: Sequence[str] | None
) -> list[tuple[str, Column]]:
    """Return the columns of a table with their keys; by default those with any content."""
    selected = columns or [row_label_column(results[0]), *_DEFAULT_COLUMNS]
    return [
        (key, column)
        for key, column in _selected_columns(results, selected)
        if columns or any(cell.text for cell in column.cells)
    ]


def _selected_columns(
    results: Sequence[Effects], selected: Sequence[str]
) -> list[tuple[str, Column]]:
    """Return the selected columns with their keys; those of a quantity stay together."""
    of_quantity = {*_TESTED} if _same_seeds(results) else {*_TESTED, "n"}
    tested = [key for key in selected if key in of_quantity]
    pairs: list[tuple[str, Column]] = []
    for key in selected:
        if key not in of_quantity:
            pairs += [(key, column) for column in _shared_columns(results[0], key)]
        elif key == tested[0]:
            pairs += [
                (k, _tested_column(result, k, grouped=len(results) > 1))
                for result in results
                for k in tested
                if k != "step" or result.steps
            ]
    return pairs


def _same_seeds(results: Sequence[Effects]) -> bool:
    counts = [[*map(seed_counts, result.table.to_dict("records"))] for result in results]
    return all(of == counts[0] for of in counts)


def _shared_columns(result: Effects, key: str) -> list[Column]:
    if key == "levels":
        return _levels(result)
    if key == "arm":
        return [_arms(result)]
    if key == "n":
        return [text_column("n", result.table, seed_counts)]
    frame = result.rows.frame
    eager = result.table["arm"].isin(frame.loc[eager_rows(frame), "arm"])
    return [cost_column(result.table, key, eager)]


def _tested_column(result: Effects, key: str, *, grouped: bool) -> Column:
    """Return a column of one quantity, under its name if the table has several quantities."""
    table, level = result.table, result.comparison.level
    group = result.quantity.label if grouped else ""
    if key == "n":
        return text_column("n", table, seed_counts, group)
    if key == "metric":
        return _metric(result, group)
    if key == "delta":
        return _interval(result, f"Δ [{level:.0%}]", "difference", ("low", "high"), group)
    if key == "step":
        ends = ("step_low", "step_high")
        return _interval(result, f"Step [{level:.0%}]", "step", ends, group)
    if key == "p":
        return text_column("p", table, lambda row: format_p_value(row["p"]), group)
    if key == "effect":
        return text_column("d", table, lambda row: format_signed(row["effect"], ".2f"), group)
    return _equivalence(result, group)


def row_label_column(result: Effects) -> str:
    """Return the key of the column that names the rows: `levels` in factorial designs, or `arm`."""
    by_levels = result.factorial is not None and not any(
        column.cells[i].text == "" for column in _levels(result) for i in range(len(result.table))
    )
    return "levels" if by_levels else "arm"


def full_table(*results: Effects) -> pd.DataFrame:
    """Return all statistics of every arm, and the value of every seed as `seed.N`.

    Statistics are rounded to ten significant digits, since further digits depend on the machine.
    Of several quantities, the columns that differ begin with the key of their quantity.
    """
    tables = [_full_table(result) for result in results]
    if len(tables) == 1:
        return tables[0]
    first, *others = tables
    shared = [c for c in first if all(c in other and first[c].equals(other[c]) for other in others)]
    parts = [
        _prefixed(table.drop(columns=shared), result.quantity.key)
        for result, table in zip(results, tables, strict=True)
    ]
    return pd.concat([first[shared], *parts], axis=1)


def _prefixed(table: pd.DataFrame, key: str) -> pd.DataFrame:
    kept = (key, f"{key}_sd")
    return table.rename(columns=lambda name: name if name in kept else f"{key}.{name}")


def _full_table(result: Effects) -> pd.DataFrame:
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


def format_p_value(p: float) -> str:
    """Return a p-value with three decimals, or "" for NaN."""
    if math.isnan(p):
        return ""
    return f"<{_MIN_P}" if p < _MIN_P else f"{p:.3f}"


def _require_columns(columns: Sequence[str] | None) -> None:
    unknown = [key for key in columns or () if key not in COLUMNS]
    if unknown:
        hints = "; ".join(f"{key}: {suggest(key, COLUMNS)}" for key in unknown)
        raise UserError(f"unknown columns: {hints}")


def _arms(result: Effects) -> Column:
    arms = result.table["arm"]
    cells = [*map(Cell, mark_arms(result, arms, arms))]
    return Column(header="Arm", cells=cells, is_numeric=False)


def _levels(result: Effects) -> list[Column]:
    keys = [str(key) for key in result.table if str(key).startswith("level.")]
    texts = [[str(level) for level in result.table[key]] for key in keys]
    if texts:
        texts[0] = mark_arms(result, texts[0], result.table["arm"])
    return [
        Column(header=key.removeprefix("level."), cells=[*map(Cell, column)], is_numeric=False)
        for key, column in zip(keys, texts, strict=True)
    ]


def _metric(result: Effects, group: str) -> Column:
    quantity = result.quantity
    cells = [
        Cell(
            row["state"] or format_spread(quantity, row["mean"], row["sd"]),
            row["arm"] == result.best,
        )
        for row in result.table.to_dict("records")
    ]
    return Column(header="Mean" if group else quantity.label, cells=cells, group=group)


def _interval(result: Effects, header: str, key: str, ends: tuple[str, str], group: str) -> Column:
    spec = result.quantity.spec

    def text(row: dict[Any, Any]) -> str:
        return format_interval(*(format_signed(row.get(k, math.nan), spec) for k in (key, *ends)))

    return text_column(header, result.table, text, group)


def _equivalence(result: Effects, group: str) -> Column:
    cells = [Cell(str(verdict)) for verdict in result.table["equivalence"]]
    margin = "" if result.margin is None else f" ±{result.margin:g}"
    return Column(header=f"Equivalence{margin}", cells=cells, is_numeric=False, group=group)
