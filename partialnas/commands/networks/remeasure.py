"""The verb `remeasure`: measure networks of a study again, and print what changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from partialnas.analysis.audit.confirmation import select_networks
from partialnas.analysis.audit.remeasured import Remeasurement, remeasurement_table
from partialnas.commands.networks.describe import device_description
from partialnas.commands.terminal import (
    make_console,
    plain_table,
    print_json,
    print_lines,
    print_table,
)
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.measure.board_bundle import SCRIPT, read_result, write_bundle
from partialnas.runs.measure.remeasure import (
    TimedNetwork,
    TrainedNetwork,
    remeasure,
    trained_networks,
)
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import Subject
from partialnas.runs.records.timing_choice import (
    TimingSetup,
    best_measurements,
    machine,
    study_machine,
)
from partialnas.space.errors import UserError
from partialnas.space.values import validate_as

_TOLERANCE = 0.05
"""Largest relative change of a relative throughput that counts as unchanged."""


@dataclass(frozen=True)
class _MeasuringPlan:
    """A study, and how its networks are measured again.

    Attributes:
        folder: the study's folder.
        condition: the study's condition, or empty.
        task: task of the condition.
        study_protocol: measuring protocol of the study.
        protocol: measuring protocol to use.
        reference: network that throughput is relative to.
        study: name and digest of the study.
    """

    folder: Path
    condition: str
    task: Task
    study_protocol: Protocol
    protocol: Protocol
    reference: Subject
    study: dict[str, str]


def _make_plan(folder: Path, condition: str, settings: Mapping[str, Any]) -> _MeasuringPlan:
    with Ledger.open(folder) as ledger:
        study = ledger.study
    if function := study.frozen.get("trial"):
        message = f"the study's trials are calls of {function}; it has no networks to measure"
        raise UserError(f"{folder}: {message}")
    if condition and not study.conditions:
        raise UserError(f"--condition {condition}: the study has no conditions")
    if study.conditions and condition not in study.conditions:
        raise UserError(f"--condition: expected one of {', '.join(study.conditions)}")
    task, _, protocol = study.under(condition)
    changed = {**protocol.model_dump(), **settings}
    return _MeasuringPlan(
        folder=folder,
        condition=condition,
        task=task,
        study_protocol=protocol,
        protocol=validate_as(Protocol, changed, "invalid measuring settings"),
        reference=study.reference,
        study=study.identity,
    )


def _select(plan: _MeasuringPlan, ledger: Ledger, top: str) -> list[TrainedNetwork]:
    digests = select_networks(plan.folder, top, plan.condition)
    return trained_networks(ledger, [*digests.values()], [*digests], plan.condition)


def remeasure_study(
    folder: Path,
    top: str,
    condition: str,
    settings: Mapping[str, Any],
    *,
    again: bool,
    as_json: bool,
) -> None:
    """Measure selected networks of a study again, and print what changes.

    Args:
        folder: the study's folder.
        top: `front`, `all`, or the number of best networks.
        condition: the study's condition, or empty.
        settings: settings that replace those of the study's protocol.
        again: whether to measure networks that this machine has already measured.
        as_json: whether to print JSON instead of a table.

    Raises:
        UserError: invalid settings, or no network could be measured.
        MachineError: the device is not available.
    """
    plan = _make_plan(folder, condition, settings)
    console = make_console(stderr=True)
    with Ledger.open(folder, write=True) as ledger:
        networks, before = _select(plan, ledger, top), ledger.measurements()
        results: list[TimedNetwork] = []
        arguments = (networks, plan.task, plan.protocol, plan.reference)
        for result in remeasure(ledger, *arguments, again=again):
            results.append(result)
            print_lines(console, f"[{len(results)}/{len(networks)}] {_progress(result)}")
    new = {r.network.digest: r.measurement for r in results if r.measurement}
    if not new:
        raise UserError("no network could be timed with these settings; see the errors above")
    _show(plan, networks, before, new, as_json=as_json)
    if not any(result.fresh for result in results):
        print_lines(
            console,
            "nothing was measured: this machine has already measured all of these networks with "
            "these settings; use --again to measure them again",
        )


def _progress(result: TimedNetwork) -> str:
    m, label = result.measurement, result.network.label
    if m is None:
        return f"{label}: skipped: {result.problem}"
    marks = f" ({m.marks_text})" if m.marks_text else ""
    state = "measured" if result.fresh else "in the ledger"
    return f"{label}: {m.throughput_img_s:,.0f} img/s{marks}, {state}"


def bundle_study(
    folder: Path, top: str, condition: str, settings: Mapping[str, Any], output: Path
) -> None:
    """Write selected networks of a study as a bundle for a board, and print how to use it."""
    plan = _make_plan(folder, condition, settings)
    with Ledger.open(folder) as ledger:
        networks = _select(plan, ledger, top)
    skipped = write_bundle(output, networks, plan.task, plan.protocol, plan.reference, plan.study)
    number = len(networks) - len(skipped)
    print_lines(
        make_console(),
        *(f"note: {label} is left out: {reason}" for label, reason in skipped.items()),
        f"wrote {output}: {number} networks and the reference in {plan.protocol.form} form",
        f"on the board: pip install numpy onnxruntime; python {SCRIPT}",
        f"then here: partialnas remeasure {folder} --import result.json",
    )


def import_result(folder: Path, path: Path, condition: str, *, as_json: bool) -> None:
    """Add a board's measurements to the ledger, and print what changes."""
    plan = _make_plan(folder, condition, {})
    with Ledger.open(folder, write=True) as ledger:
        before = ledger.measurements()
        imported = read_result(path, ledger)
        digests = {row.digest for row in ledger.trials()}
        networks = trained_networks(ledger, digests, (), condition)
        trained = {network.digest for network in networks}
        new = {m.digest: m for m in imported if m.digest in trained}
        if not new:
            raise UserError(f"{path}: holds no measurement of a trained network of the study")
        existing = {(m.digest, m.taken, m.throughput_img_s) for m in before}
        fresh = [m for m in imported if (m.digest, m.taken, m.throughput_img_s) not in existing]
        for measurement in fresh:
            ledger.add_measurement(measurement)
    _show(plan, networks, before, new, as_json=as_json)
    duplicates = len(imported) - len(fresh)
    remark = f"; {duplicates} were already in the ledger" if duplicates else ""
    print_lines(make_console(stderr=True), f"{len(fresh)} measurements imported{remark}")


def _show(
    plan: _MeasuringPlan,
    networks: Iterable[TrainedNetwork],
    before: list[Measurement],
    new: Mapping[str, Measurement],
    *,
    as_json: bool,
) -> None:
    size = (plan.task.resolution, plan.task.channels)
    of_size = [m for m in before if (m.resolution, m.in_chans) == size]
    setup = TimingSetup.from_protocol(plan.study_protocol)
    study_device, first = study_machine(of_size, setup), next(iter(new.values()))
    remeasurement = remeasurement_table(
        plan.folder,
        {network.digest: (network.label, network.keys) for network in networks},
        {d: m for d, m in best_measurements(of_size, setup).items() if d in new},
        new,
        condition=plan.condition,
        apply_measured_limits=setup.matches(first) and machine(first) == study_device,
    )
    if as_json:
        rows = remeasurement.table.to_dict("records")
        print_json({"tau": remeasurement.tau, "networks": rows})
    else:
        _print(remeasurement, first)


def _print(remeasurement: Remeasurement, first: Measurement) -> None:
    how = f"batch {first.batch_size} · {first.precision} · {first.form} · {first.runtime}"
    heads = ("", "img/s", "before", "now", "change", "front", "")
    shown = plain_table(f"{device_description(first)} · {how}", *heads)
    for row in remeasurement.table.to_dict("records"):
        shown.add_row(
            row["label"],
            f"{row['new_img_s']:,.0f}",
            _interval(row, "old"),
            _interval(row, "new"),
            "" if isnan(row["change"]) else f"{row['change']:+.1%}",
            _front_change(row),
            row["marks"],
        )
    console = make_console()
    print_table(console, shown)
    console.print("before, now: throughput relative to the reference, with its 95 % interval")
    print_lines(console, *_summary(remeasurement))


def _interval(row: Mapping[Any, Any], which: str) -> str:
    low, middle, high = (row[f"{which}_{end}"] for end in ("low", "relative", "high"))
    return "" if isnan(middle) else f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def _front_change(row: Mapping[Any, Any]) -> str:
    if row["was_on_front"] != row["on_front"] and not isnan(row["old_img_s"]):
        return "enters" if row["on_front"] else "leaves"
    return "yes" if row["on_front"] else ""


def _summary(remeasurement: Remeasurement) -> list[str]:
    """Return sentences on how throughput, ranks and the front changed."""
    table, tau = remeasurement.table, remeasurement.tau
    both = table[table["change"].notna()]
    lines = []
    if len(both):
        largest = both.iloc[int(both["change"].abs().argmax())]
        within = int(both["change"].abs().le(_TOLERANCE).sum())
        lines.append(
            f"relative throughput within {_TOLERANCE:.0%} of before: {within} of {len(both)}; "
            f"largest change {largest['change']:+.1%} ({largest['label']})"
        )
    if not isnan(tau):
        ranks = f"Kendall's tau {tau:.3f} over {len(both)} networks"
        lines.append(f"rank agreement of throughput, before and now: {ranks}")
    if not remeasurement.decides:
        return [*lines, "front: unchanged; no objective or limit of the study is a measurement"]
    paired = table[table["old_img_s"].notna()]
    leaving = paired.loc[paired["was_on_front"] & ~paired["on_front"], "label"]
    entering = paired.loc[~paired["was_on_front"] & paired["on_front"], "label"]
    changes = [
        f"{len(labels)} {verb} ({', '.join(labels)})"
        for verb, labels in (("leave", leaving), ("enter", entering))
        if len(labels)
    ]
    change = "; ".join(changes) or "unchanged"
    return [*lines, f"front of these networks with the new values: {change}"]
