"""The verbs `describe` and `measure`: cost and speed of networks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from partialnas.commands.networks.names import (
    common_input,
    find_subject,
    network_labels,
    random_task,
)
from partialnas.commands.terminal import (
    add_column,
    make_console,
    plain_table,
    print_json,
    print_table,
)
from partialnas.space.arch.architecture import Architecture, RealizedBlock
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.cost.cost import compute_cost, realized_blocks
from partialnas.space.cost.formulas import NetworkCost

if TYPE_CHECKING:
    from partialnas.runs.records.measurement import Measurement


def show_architecture(
    name: str, architecture: Architecture, input_spec: InputSpec, *, as_json: bool
) -> None:
    """Print the cost of an architecture, by block and in total.

    Args:
        name: the architecture as the user named it.
        architecture: the architecture.
        input_spec: shape of its input, and number of classes.
        as_json: whether to print JSON instead of a table.
    """
    total = compute_cost(architecture, input_spec)
    blocks = realized_blocks(architecture, input_spec)
    mixers = {name: _mixer(block) for name, block in blocks.items()}
    if as_json:
        print_json(_plain(architecture, input_spec, total, mixers))
        return
    stem = f"stem stride {architecture.stem_stride}"
    (label,) = network_labels([name], [architecture])
    table = plain_table(f"{label} · {architecture.digest} · {stem} · {architecture.activation}")
    for column in ("stage.block", "map", "channels and parts", "params", "macs"):
        add_column(table, column, numeric=column in ("params", "macs"))
    for row in total.rows:
        parts = mixers.get(row.name, str(row.channels))
        size = f"{row.height}x{row.width}"
        block = row.name.removeprefix("stage ").replace(", block ", ".")
        table.add_row(block, size, parts, f"{row.params:,}", f"{row.macs:,}")
    table.add_section()
    size = f"{input_spec.height}x{input_spec.width}"
    table.add_row("total", size, "", f"{total.params:,}", f"{total.macs:,}")
    console = make_console()
    print_table(console, table)
    console.print(f"input: {input_spec}")
    console.print(
        f"macs: multiply-accumulates as counted by fvcore, {total.macs_core:,} of them in "
        "convolutions and matrix products"
    )
    if architecture.learned is not None:
        console.print("~ learned ratio: shown with the uniform ratio that uses the whole budget")


def _mixer(block: RealizedBlock) -> str:
    learned = block.learning.parts if block.learning else ()
    parts = [
        f"{part.op} {'~' * (index in learned)}{part.channels}"
        for index, part in enumerate(block.parts)
        if part.channels
    ]
    return " + ".join(parts) + (" · pat_sp" if block.pat_sp else "")


def _plain(
    architecture: Architecture, input_spec: InputSpec, total: NetworkCost, mixers: dict[str, str]
) -> dict[str, Any]:
    blocks = [asdict(row) | {"parts": mixers.get(row.name, "")} for row in total.rows]
    totals = {k: v for k, v in asdict(total).items() if k != "rows"}
    return {
        "name": architecture.name,
        "digest": architecture.digest,
        "resolution": input_spec.height,
        "channels": input_spec.channels,
        "classes": input_spec.classes,
        **totals,
        "blocks": blocks,
        "architecture": architecture.model_dump(mode="json"),
    }


def measure_networks(
    names: Sequence[str], resolution: int | None, settings: Mapping[str, Any], *, as_json: bool
) -> None:
    """Measure networks on a device, the first one as the reference, and print the results.

    Args:
        names: presets, JSON files, trials or timm models.
        resolution: height and width of the input in pixels, or None for those of `common_input`.
        settings: settings of `Protocol`.
        as_json: whether to print JSON instead of a table.

    Raises:
        UserError: an unknown network, trials with different inputs, or invalid settings.
        MachineError: the device is not available.
    """
    from partialnas.runs.config.protocol import Protocol
    from partialnas.runs.measure.measure import measure_many
    from partialnas.space.values import validate_as

    protocol = validate_as(Protocol, dict(settings), "invalid measuring settings")
    subjects = [find_subject(name) for name in names]
    spec = common_input(names, resolution)
    measurements = [*measure_many(subjects, random_task(spec), protocol, subjects[0])]
    if as_json:
        print_json([m.model_dump(mode="json") for m in measurements])
        return
    heads = ("network", "img/s", "ms/batch", "relative", "95 % interval", "rounds", "")
    first = measurements[0]
    shape = f"batch {first.batch_size} of {spec}"
    runtime = "" if first.device_kind == "cpu" else f" · {first.reference_runtime}"
    how = f"{shape} · {first.precision} · {first.form} form{runtime}"
    table = plain_table(f"{device_description(first)} · {how}", *heads)
    for label, m in zip(network_labels(names, subjects), measurements, strict=True):
        table.add_row(label, f"{m.throughput_img_s:,.1f}", f"{m.latency_ms:.3f}", *_relative(m))
    print_table(make_console(), table)


def _relative(m: "Measurement") -> tuple[str, ...]:
    if m.relative_throughput is None:
        return "", "", str(m.rounds), m.marks_text
    from partialnas.runs.measure.timing_stats import MIN_VALUES

    interval = f"{m.relative_low:.3f}-{m.relative_high:.3f}"
    interval = interval if m.rounds >= MIN_VALUES else "none: few rounds"
    return f"{m.relative_throughput:.3f}", interval, str(m.rounds), m.marks_text


def device_description(m: "Measurement") -> str:
    """Return the processor or GPU of a measurement, and its number of threads."""
    device = m.environment.get("processor", m.device) if m.device_kind == "cpu" else m.device
    return f"{device} · {m.threads} thread" + "s" * (m.threads != 1)
