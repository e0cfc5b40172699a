"""Show what an architecture costs, and how fast networks are."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from partialnas.commands.terminal import plain_table
from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.cost.cost import cost
from partialnas.space.cost.formulas import NetworkCost
from partialnas.space.cost.learned_blocks import blocks_with_sizes
from partialnas.space.cost.mac_budget import uniform_sizes

if TYPE_CHECKING:
    from partialnas.runs.records.measurement import Measurement


def show_architecture(architecture: Architecture, input_spec: InputSpec, *, as_json: bool) -> None:
    """Print what an architecture costs, per block and in all."""
    counted, mixers = cost(architecture, input_spec), _mixers(architecture, input_spec)
    if as_json:
        print(json.dumps(_described(architecture, input_spec, counted, mixers), indent=2))
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
    size = f"{input_spec.height}x{input_spec.width}"
    table.add_row("total", size, "", f"{counted.params:,}", f"{counted.macs:,}")
    console = Console()
    console.print(table)
    core = f"{counted.macs_core:,} of them in convolutions and matrix products"
    console.print(f"macs: multiply-accumulates as fvcore counts them; {core}", highlight=False)
    if architecture.learned is not None:
        told = "~ learned: shown and counted with one ratio for all layers that spends the budget"
        console.print(told, highlight=False)


def _title(architecture: Architecture) -> str:
    stem = f"stem stride {architecture.stem_stride}"
    name = architecture.name or "architecture"
    return f"{name} · {architecture.digest} · {stem} · {architecture.activation}"


def _mixers(architecture: Architecture, input_spec: InputSpec) -> dict[str, str]:
    sizes = uniform_sizes(architecture, input_spec)
    return {
        f"stage {stage}, block {index}": _mixer(block)
        for stage, blocks in enumerate(blocks_with_sizes(architecture, sizes), start=1)
        for index, block in enumerate(blocks, start=1)
    }


def _mixer(block: RealizedBlock) -> str:
    learned = block.learning.parts if block.learning else ()
    parts = [
        f"{part.op} {'~' * (index in learned)}{part.channels}"
        for index, part in enumerate(block.parts)
        if part.channels
    ]
    return " + ".join(parts) + (" · pat_sp" if block.pat_sp else "")


def _described(
    architecture: Architecture, input_spec: InputSpec, counted: NetworkCost, mixers: dict[str, str]
) -> dict[str, Any]:
    blocks = [asdict(row) | {"parts": mixers.get(row.name, "")} for row in counted.rows]
    totals = {k: v for k, v in asdict(counted).items() if k != "rows"}
    return {
        "name": architecture.name,
        "digest": architecture.digest,
        "resolution": input_spec.height,
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
        return "", "", str(m.rounds), m.marks_text
    interval = f"{m.relative_low:.3f}-{m.relative_high:.3f}"
    return f"{m.relative_throughput:.3f}", interval, str(m.rounds), m.marks_text


def _conditions(m: "Measurement") -> str:
    shape = f"batch {m.batch_size} at {m.resolution}x{m.resolution}"
    return f"{device_description(m)} · {shape} · {m.precision} · {m.form} form"


def device_description(m: "Measurement") -> str:
    """Where a network was measured: the processor's or the GPU's model, and the threads."""
    device = m.environment.get("processor", m.device) if m.device_kind == "cpu" else m.device
    return f"{device} · {m.threads} thread" + "s" * (m.threads != 1)
