"""Tables for print: of the effects of an ablation, or of the front of a search."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.ablation.arm_rows import is_search
from partialnas.analysis.ablation.caption import effects_caption
from partialnas.analysis.ablation.effects import Effects, effects, unmatched_arms
from partialnas.analysis.formats import text_table as sheet
from partialnas.analysis.formats.artefact import Artefact
from partialnas.analysis.formats.data_files import frame_to_csv
from partialnas.analysis.formats.latex import to_latex
from partialnas.analysis.formats.text_table import MINUS, PLUS_MINUS, Cell, Column, TextTable
from partialnas.analysis.frames.load import load
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.frames.selection import select_condition
from partialnas.analysis.pareto.caption import front_caption
from partialnas.analysis.pareto.table import pareto_table
from partialnas.runs.config.quantities import QUANTITIES, Quantity
from partialnas.space.errors import UserError

FORMATS = {"latex": ".tex", "markdown": ".md", "csv": ".csv", "html": ".html"}
"""The suffix of each format."""

COLUMNS = (
    *("arm", "levels", "n", "metric", "delta", "p", "effect", "equivalence", "step"),
    *("params", "macs", "throughput", "latency"),
)
"""What `--columns` may name."""

_USUAL = [key for key in COLUMNS if key not in ("arm", "levels", "latency")]
_COSTS = {
    "params": "params",
    "macs": "macs",
    "throughput": "throughput_img_s",
    "latency": "latency_ms",
}
_HEADS = {"params": "Params", "macs": "MACs", "throughput": "img/s", "latency": "ms"}
_SMALLEST_P = 0.001


def table_artefact(
    folders: Sequence[Path | str],
    *,
    metric: str | None = None,
    against: str | None = None,
    margin: float | None = None,
    condition: str | None = None,
    columns: Sequence[str] | None = None,
) -> Artefact:
    """The table of a study in every format: of its arms, or of its front where it searched.

    Args:
        folders: of the study; of several that were trained alike their arms stand together.
        metric: the quantity that decides, see `effects`.
        against: the arm that others are compared with, see `effects`.
        margin: a difference that makes none, see `effects`.
        condition: the one whose trials count, of a study that has several.
        columns: some of `COLUMNS`, in their order; by default those that have something to tell.

    Raises:
        UserError: nothing to tell, an unknown quantity, arm, condition or column, a choice to make,
            or studies that were not trained alike.
        MachineError: a ledger cannot be read.
    """
    asked = drop_none(
        metric=metric, against=against, margin=margin, condition=condition,
        columns=None if columns is None else [*columns],
    )  # fmt: skip
    _require_columns(columns)
    paths = [*map(Path, folders)]
    if any(map(is_search, paths)):
        printed, rows, studies = _front(paths, metric, against or margin, condition, columns)
    else:
        found = effects(paths, metric, margin=margin, condition=condition, against=against)
        printed, rows, studies = (
            effects_sheet(found, columns),
            full_table(found),
            found.rows.studies,
        )
    return Artefact(
        studies=studies,
        query=Query(verb="table", arguments=asked),
        texts={
            ".md": sheet.to_markdown(printed),
            ".tex": to_latex(printed),
            ".html": sheet.to_html(printed),
            ".csv": frame_to_csv(rows),
        },
    )


def effects_sheet(found: Effects, columns: Sequence[str] | None = None) -> TextTable:
    """The effects of a study as a reader wants them."""
    makers: dict[str, Callable[[], Iterable[Column]]] = {
        "arm": lambda: [_arms(found)],
        "levels": lambda: _levels(found),
        "n": lambda: [_column("n", found.table, _seeds)],
        "metric": lambda: [_metric(found)],
        "delta": lambda: [_interval(found, f"Δ [{found.comparison.level:.0%}]", "difference")],
        "p": lambda: [_column("p", found.table, lambda row: format_p_value(row["p"]))],
        "effect": lambda: [
            _column("d", found.table, lambda row: format_signed(row["effect"], ".2f"))
        ],
        "equivalence": lambda: [_equivalence(found)],
        "step": lambda: [_interval(found, "Step", "step")] if found.steps else [],
    }
    makers |= {key: _cost_maker(found, key) for key in _COSTS}
    wanted = columns or [row_label_column(found), *_USUAL]
    made = [column for key in wanted for column in makers[key]()]
    told = made if columns else [c for c in made if any(cell.text for cell in c.cells)]
    name = " and ".join(study.name for study in found.rows.studies)
    return TextTable(name=name, columns=told, caption=effects_caption(found))


def row_label_column(found: Effects) -> str:
    """The column that tells rows apart: levels in a factorial design, else the arm's name."""
    by_levels = found.factorial is not None and not any(
        column.cells[i].text == "" for column in _levels(found) for i in range(len(found.table))
    )
    return "levels" if by_levels else "arm"


def full_table(found: Effects) -> pd.DataFrame:
    """Every figure of every arm, and the value of every seed as `seed.N`.

    Statistics have ten significant digits, beyond which machines differ.
    """
    table = found.table.assign(best=found.table["arm"].eq(found.best or ""))
    for key in ("params", "macs"):
        if table[key].dropna().mod(1).eq(0).all():
            table[key] = table[key].astype("Int64")
    seeds = sorted({seed for values in found.values.values() for seed in values})
    values = {
        f"seed.{seed}": [found.values.get(arm, {}).get(seed, math.nan) for arm in table["arm"]]
        for seed in seeds
    }
    return table.rename(columns=_plain_name(found.quantity)).assign(**values)


def _plain_name(quantity: Quantity) -> Mapping[str, str]:
    return {"mean": quantity.key, "sd": f"{quantity.key}_sd"}


def format_signed(value: float, spec: str) -> str:
    """A number with its sign, a true minus; nothing where there is none."""
    if math.isnan(value):
        return ""
    text = format(value, f"+z{spec}") if spec else f"{value:+z.4g}"
    return text.replace("-", MINUS)


def format_p_value(p: float) -> str:
    """A p-value as papers write it."""
    if math.isnan(p):
        return ""
    return f"<{_SMALLEST_P}" if p < _SMALLEST_P else f"{p:.3f}"


def _require_columns(columns: Sequence[str] | None) -> None:
    unknown = [key for key in columns or () if key not in COLUMNS]
    if unknown:
        raise UserError(f"columns: no {', '.join(unknown)}; there are {', '.join(COLUMNS)}")


def _column(head: str, table: pd.DataFrame, text: Callable[[dict[Any, Any]], str]) -> Column:
    return Column(header=head, cells=[Cell(text(row)) for row in table.to_dict("records")])


def _arms(found: Effects) -> Column:
    names = map(Cell, _marked(found, found.table["arm"]))
    return Column(header="Arm", cells=[*names], is_numeric=False)


def _levels(found: Effects) -> list[Column]:
    keys = [str(key) for key in found.table if str(key).startswith("level.")]
    texts = [[str(level) for level in found.table[key]] for key in keys]
    return [
        Column(
            header=key.removeprefix("level."),
            cells=[*map(Cell, texts[i] if i else _marked(found, texts[i]))],
            is_numeric=False,
        )
        for i, key in enumerate(keys)
    ]


def _marked(found: Effects, names: Iterable[str]) -> list[str]:
    """The names of rows, a mark beside those of arms that could not be matched."""
    unmatched = unmatched_arms(found)
    pairs = zip(names, found.table["arm"], strict=True)
    return [f"{name} †" if name and arm in unmatched else name for name, arm in pairs]


def _seeds(row: dict[Any, Any]) -> str:
    """`3`, or `2 (1 failed)`."""
    amiss = {"failed": row["failed"], "missing": row["missing"]}
    told = ", ".join(f"{number} {what}" for what, number in amiss.items() if number)
    return f"{row['n']} ({told})" if told else f"{row['n']}"


def _metric(found: Effects) -> Column:
    cells = [
        Cell(
            row["state"] or spread(found.quantity, row["mean"], row["sd"]),
            bold=row["arm"] == found.best,
        )
        for row in found.table.to_dict("records")
    ]
    return Column(header=found.quantity.label, cells=cells)


def spread(quantity: Quantity, mean: float, sd: float) -> str:
    """Mean and standard deviation of a quantity, the latter where it is known."""
    text = quantity.text(mean).replace("-", MINUS)
    return text if math.isnan(sd) else f"{text} {PLUS_MINUS} {quantity.text(sd)}"


def _interval(found: Effects, head: str, key: str) -> Column:
    ends = ("low", "high") if key == "difference" else (f"{key}_low", f"{key}_high")

    def text(row: dict[Any, Any]) -> str:
        middle, low, high = (format_signed(row[name], found.quantity.spec) for name in (key, *ends))
        return f"{middle} [{low}, {high}]" if low and high else middle

    return _column(head, found.table, text)


def _equivalence(found: Effects) -> Column:
    cells = [Cell(str(verdict)) for verdict in found.table["equivalence"]]
    margin = "" if found.margin is None else f" ±{found.margin:g}"
    return Column(header=f"Within{margin}", cells=cells, is_numeric=False)


def _cost_maker(found: Effects, key: str) -> Callable[[], Iterable[Column]]:
    return lambda: [_cost(found.table, key)]


def _cost(table: pd.DataFrame, key: str) -> Column:
    """A cost in the unit that its largest value is best read in."""
    quantity = QUANTITIES[_COSTS[key]]
    values = table[quantity.key].astype("float64")
    label, factor = quantity.scaled_label(values.abs().max())
    unit = label.rpartition("(")[2].split(",")[0].rstrip(")") if factor != 1 else ""
    spec = replace(quantity, spec=_decimals(values.abs().max() / factor)) if unit else quantity
    cells = [
        Cell(spec.text(value / factor, noisy=bool(noisy)))
        for value, noisy in zip(values, table["noisy"], strict=True)
    ]
    return Column(header=f"{_HEADS[key]} ({unit})" if unit else _HEADS[key], cells=cells)


def _decimals(largest: float) -> str:
    """A format with four significant digits for the largest, the same for all of a column."""
    return f".{3 - int(math.log10(largest))}f"


def _front(
    folders: Sequence[Path],
    metric: str | None,
    compared: object,
    condition: str | None,
    columns: Sequence[str] | None,
) -> tuple[TextTable, pd.DataFrame, Any]:
    """The front of a search and its baselines, as means over seeds without comparisons."""
    if compared:
        raise UserError(
            "against, margin: a search has no arms to compare; `partialnas table` tells its front"
        )
    frame = select_condition(load(folders), condition)
    points = pareto_table(frame, y=metric)
    shown = points[points["on_front"] | points["family"].ne("")]
    across, up = points.attrs["x"], points.attrs["y"]
    makers: dict[str, Callable[[], Column]] = {
        "arm": lambda: Column(header="Network", cells=[*map(Cell, shown["label"])], is_numeric=False),
        "n": lambda: _column("n", shown, lambda row: _seeds({**row, "missing": 0})),
        "metric": lambda: _column(
            up.label, shown, lambda row: spread(up, row[up.key], row.get(f"{up.key}_sd", math.nan))
        ),
    }
    makers |= {key: lambda key=key: _cost(shown, key) for key in _COSTS}  # type: ignore[misc]
    absent = [key for key in columns or () if key not in makers]
    if absent:
        raise UserError(f"columns: the front of a search has no {', '.join(absent)}")
    made = [makers[key]() for key in columns or makers]
    told = made if columns else [c for c in made if any(cell.text for cell in c.cells)]
    caption = front_caption(frame, points, across, up)
    name = " and ".join(points["study"].unique())
    return TextTable(name=name, columns=told, caption=caption), points, frame.attrs["studies"]
