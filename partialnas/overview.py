"""What the verbs print: tables for readers, JSON for programs."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from partialnas.space.architecture import Architecture, RealisedBlock
from partialnas.space.budget import uniform_sizes
from partialnas.space.cost import NetworkCost, cost
from partialnas.space.errors import UserError
from partialnas.space.slots import with_sizes

if TYPE_CHECKING:
    import pandas as pd

    from partialnas.runs.ledger import Ledger
    from partialnas.runs.measurement import Measurement

_SHOWN = ("val_accuracy", "params", "macs")
"""Columns that a front on the terminal has beside its two axes."""


def show_architecture(
    architecture: Architecture, resolution: int, in_chans: int, classes: int, *, as_json: bool
) -> None:
    """Print what an architecture costs, per block and in all."""
    shape = (resolution, in_chans, classes)
    counted, mixers = cost(architecture, *shape), _mixers(architecture, *shape)
    if as_json:
        print(json.dumps(_described(architecture, resolution, counted, mixers), indent=2))
        return
    table = plain_table(_title(architecture))
    for column in ("stage.block", "map", "channels and parts", "params", "macs"):
        number = column in ("params", "macs")
        table.add_column(column, justify="right" if number else "left", no_wrap=number)
    for row in counted.rows:
        parts = mixers.get(row.name, str(row.channels))
        size = f"{row.height}x{row.width}"
        name = row.name.removeprefix("stage ").replace(", block ", ".")
        table.add_row(name, size, parts, f"{row.params:,}", f"{row.macs:,}")
    table.add_section()
    total = ("total", f"{resolution}x{resolution}", "", f"{counted.params:,}", f"{counted.macs:,}")
    table.add_row(*total)
    console = Console()
    console.print(table)
    core = f"{counted.macs_core:,} of them in convolutions and matrix products"
    console.print(f"macs: multiply-accumulates as fvcore counts them; {core}", highlight=False)
    if architecture.learned is not None:
        told = "~ learned: shown and counted with one ratio for all layers that spends the budget"
        console.print(told, highlight=False)


def plain_table(title: str) -> Table:
    """A table for the terminal, ruled below its head alone."""
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")


def _title(architecture: Architecture) -> str:
    stem = f"stem stride {architecture.stem_stride}"
    name = architecture.name or "architecture"
    return f"{name} · {architecture.digest} · {stem} · {architecture.activation}"


def _mixers(
    architecture: Architecture, resolution: int, in_chans: int, classes: int
) -> dict[str, str]:
    sizes = uniform_sizes(architecture, resolution, in_chans, classes)
    return {
        f"stage {stage}, block {index}": _mixer(block)
        for stage, blocks in enumerate(with_sizes(architecture, sizes), start=1)
        for index, block in enumerate(blocks, start=1)
    }


def _mixer(block: RealisedBlock) -> str:
    learned = block.learning.parts if block.learning else ()
    parts = [
        f"{part.op} {'~' * (index in learned)}{part.channels}"
        for index, part in enumerate(block.parts)
        if part.channels
    ]
    return " + ".join(parts) + (" · pat_sp" if block.pat_sp else "")


def _described(
    architecture: Architecture, resolution: int, counted: NetworkCost, mixers: dict[str, str]
) -> dict[str, Any]:
    blocks = [asdict(row) | {"parts": mixers.get(row.name, "")} for row in counted.rows]
    totals = {k: v for k, v in asdict(counted).items() if k != "rows"}
    head = {"name": architecture.name, "digest": architecture.digest, "resolution": resolution}
    return {
        **head,
        **totals,
        "blocks": blocks,
        "architecture": architecture.model_dump(mode="json"),
    }


def show_measurements(measurements: Iterable["Measurement"], *, as_json: bool) -> None:
    """Print measurements as they come, the first network being the reference."""
    if as_json:
        print(json.dumps([m.model_dump(mode="json") for m in measurements], indent=2))
        return
    taken = list(measurements)
    first = taken[0]
    table = plain_table(_conditions(first))
    table.add_column("network")
    for column in ("img/s", "ms/batch", "relative", "95 % interval", "rounds", ""):
        table.add_column(column, justify="right")
    for m in taken:
        table.add_row(m.name, f"{m.throughput_img_s:,.1f}", f"{m.latency_ms:.3f}", *_relative(m))
    Console().print(table)


def _relative(m: "Measurement") -> tuple[str, ...]:
    if m.relative_throughput is None:
        return "", "", str(m.rounds), m.marked
    interval = f"{m.relative_low:.3f}-{m.relative_high:.3f}"
    return f"{m.relative_throughput:.3f}", interval, str(m.rounds), m.marked


def _conditions(m: "Measurement") -> str:
    shape = f"batch {m.batch_size} at {m.resolution}x{m.resolution}"
    return f"{place_of(m)} · {shape} · {m.precision} · {m.form} form"


def place_of(m: "Measurement") -> str:
    """Where a network was measured: the processor's or the GPU's model, and the threads."""
    device = m.environment.get("processor", m.device) if m.device_kind == "cpu" else m.device
    return f"{device} · {m.threads} thread" + "s" * (m.threads != 1)


def show_status(folder: Path) -> None:
    """Print a study's trials by state, its front, and what failed and why."""
    from partialnas.analysis import load
    from partialnas.analysis.pareto_table import under
    from partialnas.analysis.ratios import load_warnings
    from partialnas.runs.design import stages_of
    from partialnas.runs.ledger import Ledger
    from partialnas.runs.rehearsal import NOTICE, is_rehearsal

    console = Console()
    with Ledger.open(folder) as ledger:
        counts, replays = ledger.counts(), ledger.replays()
        timed = ledger.timed()
        name = ledger.meta.get("study", folder.name)
        stages, taken = stages_of(ledger.meta), spent_line(ledger)
    states = [f"{n} {state}" for state, n in counts.items() if n] or ["no trials yet"]
    extra = [f"{replays} repeated"] if replays else []
    console.print(f"{name}: " + ", ".join([*states, *extra, f"{timed} networks timed"]))
    console.print(taken, markup=False, highlight=False)
    if is_rehearsal(name):
        console.print(NOTICE, style="yellow")
    frame = load(folder)
    for condition in frame.loc[frame["state"].eq("done"), "condition"].unique():
        trials = under(frame, condition)
        if condition:
            console.print(f"under {condition}:", markup=False)
        try:
            console.print(front_table(trials))
            for line in _hypervolume(trials):
                console.print(line, markup=False, soft_wrap=True)
        except UserError as error:  # trials that have no front yet are no mistake of the reader's
            console.print(f"no front: {error}", markup=False, soft_wrap=True)
    for stage in stages.values():
        fresh = len(load(folder, stage=stage.name))
        console.print(f"stage {stage.name}: {fresh} of the trials; {stage.chosen}", markup=False)
    for line in (*_failures(frame), *warning_lines(load_warnings(folder))):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"ledger: {folder / 'ledger.sqlite'}", soft_wrap=True)


def spent_line(ledger: "Ledger") -> str:
    """What a study has spent, by what became of it, and what of its device-hours."""
    from partialnas.runs.spent import Shares, spent

    frozen = json.loads(ledger.meta.get("frozen", "{}"))
    line = spent(ledger.work(), Shares.of(frozen)).line()
    limit = frozen.get("budget", {}).get("device_hours")
    return line if limit is None else f"{line} of {limit:g}"


def front_table(frame: "pd.DataFrame", x: str | None = None, y: str | None = None) -> Table:
    """The front of a study, and its baselines below it, as a table for the terminal."""
    from partialnas.analysis.limits import beyond
    from partialnas.analysis.pareto_table import NOISE, pareto_table
    from partialnas.analysis.quantities import QUANTITIES

    points = pareto_table(frame, x, y)
    shown = points[points["on_front"] | points["arm"].ne("")]
    axes = {quantity.key: quantity for quantity in (points.attrs["x"], points.attrs["y"])}
    arms_alone = points["arm"].ne("").all() and not points["baseline"].any()
    table = plain_table(
        "arms, those on the front first" if arms_alone else "front, and baselines below it"
    )
    table.add_column("")
    keys = [key for key in dict.fromkeys((*axes, *_SHOWN)) if key in shown]
    limited = ["feasible"] if "feasible" in shown else []
    for key in (*keys, "seeds", *limited):
        table.add_column(key, justify="right")
    quantities = [axes.get(key) or QUANTITIES[key] for key in keys]
    for _, row in shown.iterrows():
        texts = [each.text(row[each.key], noisy=row["noisy"]) for each in quantities]
        marks = ["yes" if row[key] else "no" for key in limited]
        table.add_row(row["label"], *texts, str(row["n"]), *marks)
    told = [beyond(points, frame.attrs.get("limits", {}))]
    if shown["noisy"].any() and any(each.timed for each in quantities):
        told.append(NOISE)
    table.caption, table.caption_justify = "\n".join(filter(None, told)) or None, "left"
    return table


def _hypervolume(frame: "pd.DataFrame") -> list[str]:
    """How much the front of a search covers; nothing of arms alone, which look for no front."""
    from partialnas.analysis import front, hypervolume
    from partialnas.analysis.quantities import significant

    objectives = frame.attrs["objectives"]
    searched = frame[~frame["baseline"] & frame["state"].ne("early")]
    if len(objectives) < 2 or searched.empty or searched["arm"].ne("").all():
        return []
    corner = front(searched, objectives).attrs["reference_point"]
    told = ", ".join(f"{key} {significant(value)}" for key, value in corner.items())
    covered = significant(hypervolume(searched, objectives))
    return [f"hypervolume of the front: {covered}, up to {told}"]


def _failures(frame: "pd.DataFrame") -> list[str]:
    """One line per reason, the most frequent first, with the trials it struck."""
    struck = frame[frame["state"].isin(["failed", "timeout"])]
    told = struck["state"] + ": " + struck["reason"].fillna("no reason known")
    return _by_reason(struck["trial"], told)


def warning_lines(warned: "pd.DataFrame") -> list[str]:
    """One line per warning of learned ratios, the most frequent first, with the trials it is of.

    Args:
        warned: as `load_warnings` gives them.
    """
    once = warned.drop_duplicates(["trial", "warning"])
    return _by_reason(once["trial"], "warn: " + once["warning"])


def _by_reason(trials: "pd.Series[int]", told: "pd.Series[str]") -> list[str]:
    reasons = trials.groupby(told, sort=False).agg(list)
    ordered = sorted(reasons.items(), key=lambda pair: -len(pair[1]))
    return [f"{len(struck)} {what} (trials {_few(struck)})" for what, struck in ordered]


def _few(trials: list[int]) -> str:
    listed = ", ".join(f"#{number}" for number in trials[:5])
    return listed + (", ..." if len(trials) > 5 else "")
