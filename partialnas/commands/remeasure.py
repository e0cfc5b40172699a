"""What `partialnas remeasure` does: choose, time anew, print what that changes."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from partialnas.commands.describe import device_description
from partialnas.commands.terminal import plain_table
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
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

if TYPE_CHECKING:
    from partialnas.analysis.audit.remeasured import Remeasurement
    from partialnas.runs.measure.remeasure import TimedNetwork, TrainedNetwork

_CONFIRMED = 0.05
"""So far a relative throughput may change and still be called confirmed."""


@dataclass(frozen=True)
class _Asked:
    """A study, and how its networks are to be timed now."""

    folder: Path
    condition: str
    task: Task
    own: Protocol
    protocol: Protocol
    reference: Subject
    study: dict[str, str]


def _asked(folder: Path, condition: str, settings: Mapping[str, Any]) -> _Asked:
    with Ledger.open(folder) as ledger:
        study = ledger.study
    if function := study.frozen.get("trial"):
        raise UserError(f"{folder}: {function} stands in for its networks: none to be timed")
    _check_condition(condition, study.conditions)
    task, _, own = study.under(condition)
    return _Asked(
        folder=folder,
        condition=condition,
        task=task,
        own=own,
        protocol=validate_as(
            Protocol, {**own.model_dump(), **settings}, "it cannot be measured so"
        ),
        reference=study.reference,
        study=study.identity,
    )


def _check_condition(condition: str, there: Mapping[str, Any]) -> None:
    if condition and not there:
        raise UserError(f"--condition {condition}: the study has no conditions")
    if there and condition not in there:
        raise UserError(f"--condition: choose one of {', '.join(there)}")


def _networks(asked: _Asked, ledger: Ledger, top: str) -> "list[TrainedNetwork]":
    from partialnas.analysis.audit.confirmation import select_networks
    from partialnas.runs.measure.remeasure import trained_networks

    chosen = select_networks(asked.folder, top, asked.condition)
    return trained_networks(ledger, [*chosen.values()], [*chosen], asked.condition)


def remeasure_study(
    folder: Path,
    top: str,
    condition: str,
    settings: Mapping[str, Any],
    *,
    again: bool,
    as_json: bool,
) -> None:
    """Time chosen networks of a study anew, and show what that changes."""
    from partialnas.runs.measure.remeasure import remeasure

    asked = _asked(folder, condition, settings)
    console = Console(stderr=True)
    with Ledger.open(folder, write=True) as ledger:
        networks, before = _networks(asked, ledger, top), ledger.measurements()
        done: list[TimedNetwork] = []
        facts = (networks, asked.task, asked.protocol, asked.reference)
        for timed in remeasure(ledger, *facts, again=again):
            done.append(timed)
            told = _told(timed)
            console.print(f"[{len(done)}/{len(networks)}] {told}", markup=False, soft_wrap=True)
    new = {each.network.digest: each.measurement for each in done if each.measurement}
    if not new:
        raise UserError("no network could be timed so; the reasons stand above")
    _show(asked, networks, before, new, as_json=as_json)
    if not any(each.fresh for each in done):
        console.print("nothing was timed: all are known so from this machine; --again times them")


def _told(timed: "TimedNetwork") -> str:
    m, label = timed.measurement, timed.network.label
    if m is None:
        return f"{label}: left out: {timed.problem}"
    marks = f" ({m.marks_text})" if m.num_marks else ""
    how = "timed" if timed.fresh else "known"
    return f"{how} {label}: {m.throughput_img_s:,.0f} img/s{marks}"


def bundle_study(
    folder: Path, top: str, condition: str, settings: Mapping[str, Any], output: Path
) -> None:
    """Write a bundle of chosen networks of a study, and say what to do with it."""
    from partialnas.runs.measure.board_bundle import SCRIPT, write_bundle

    asked = _asked(folder, condition, settings)
    with Ledger.open(folder) as ledger:
        networks = _networks(asked, ledger, top)
    facts = (networks, asked.task, asked.protocol, asked.reference)
    left_out = write_bundle(output, *facts, asked.study)
    console = Console()
    for label, reason in left_out.items():
        console.print(f"note: {label} is left out: {reason}", markup=False, soft_wrap=True)
    number = len(networks) - len(left_out)
    console.print(
        f"wrote {output}: {number} networks and the reference in {asked.protocol.form} form\n"
        f"on the board: pip install numpy onnxruntime, python {SCRIPT}\n"
        f"here again: partialnas remeasure {folder} --import result.json",
        markup=False,
        soft_wrap=True,
    )


def import_result(folder: Path, path: Path, condition: str, *, as_json: bool) -> None:
    """Take what a board has measured into the ledger, and show what that changes."""
    from partialnas.runs.measure.board_bundle import read_result
    from partialnas.runs.measure.remeasure import trained_networks

    asked = _asked(folder, condition, {})
    with Ledger.open(folder, write=True) as ledger:
        before = ledger.measurements()
        found = read_result(path, ledger)
        known = {(each.digest, each.taken, each.throughput_img_s) for each in before}
        fresh = [m for m in found if (m.digest, m.taken, m.throughput_img_s) not in known]
        for measurement in fresh:
            ledger.add_measurement(measurement)
        digests = {row.digest for row in ledger.trials()}
        networks = trained_networks(ledger, digests, (), condition)
    new = {m.digest: m for m in found if m.digest in {each.digest for each in networks}}
    _show(asked, networks, before, new, as_json=as_json)
    twice = f"; {len(found) - len(fresh)} were there already" if len(fresh) < len(found) else ""
    Console(stderr=True).print(f"{len(fresh)} measurements imported{twice}", soft_wrap=True)


def _show(
    asked: _Asked,
    networks: "Iterable[TrainedNetwork]",
    before: list[Measurement],
    new: Mapping[str, Measurement],
    *,
    as_json: bool,
) -> None:
    from partialnas.analysis.audit.remeasured import remeasurement_table

    size = (asked.task.resolution, asked.task.channels)
    of_size = [m for m in before if (m.resolution, m.in_chans) == size]
    own = TimingSetup.from_protocol(asked.own)
    at, first = study_machine(of_size, own), next(iter(new.values()))
    remeasurement = remeasurement_table(
        asked.folder,
        {each.digest: (each.label, each.keys) for each in networks},
        {d: m for d, m in best_measurements(of_size, own).items() if d in new},
        new,
        condition=asked.condition,
        apply_measured_limits=own.matches(first) and machine(first) == at,
    )
    if as_json:
        networks_timed = remeasurement.table.to_dict("records")
        facts = {"tau": remeasurement.tau, "networks": networks_timed}
        print(_json(facts))
        return
    _print(remeasurement, first)


def _json(facts: Any) -> str:
    """Plain data as JSON, null for what is missing."""
    plain = json.loads(json.dumps(facts), parse_constant=lambda _: None)
    return json.dumps(plain, indent=2)


def _print(remeasurement: "Remeasurement", first: Measurement) -> None:
    shown = plain_table(_way(first))
    shown.add_column("")
    for head in ("img/s", "before", "now", "change", "front", ""):
        shown.add_column(head, justify="right", no_wrap=bool(head))
    for row in remeasurement.table.to_dict("records"):
        shown.add_row(
            row["label"],
            f"{row['new_img_s']:,.0f}",
            _interval(row, "old"),
            _interval(row, "new"),
            "" if isnan(row["change"]) else f"{row['change']:+.1%}",
            _front(row),
            row["marks"],
        )
    console = Console()
    console.print(shown)
    console.print("before, now: throughput relative to the reference, with its 95 % interval")
    for line in summary(remeasurement):
        console.print(line, markup=False, soft_wrap=True, highlight=False)


def _way(m: Measurement) -> str:
    how = f"batch {m.batch_size} · {m.precision} · {m.form} · {m.runtime}"
    return f"{device_description(m)} · {how}"


def _interval(row: Mapping[Any, Any], which: str) -> str:
    low, middle, high = (row[f"{which}_{end}"] for end in ("low", "relative", "high"))
    return "" if isnan(middle) else f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def _front(row: Mapping[Any, Any]) -> str:
    if row["was_on_front"] != row["on_front"] and not isnan(row["old_img_s"]):
        return "enters" if row["on_front"] else "leaves"
    return "yes" if row["on_front"] else ""


def summary(remeasurement: "Remeasurement") -> list[str]:
    """What a remeasured table says, in sentences."""
    table, tau = remeasurement.table, remeasurement.tau
    both = table[table["change"].notna()]
    lines = []
    if len(both):
        most = both.iloc[int(both["change"].abs().argmax())]
        within = int(both["change"].abs().le(_CONFIRMED).sum())
        lines += [
            f"relative throughput within {_CONFIRMED:.0%} of before: {within} of {len(both)}; "
            f"largest change {most['change']:+.1%} ({most['label']})"
        ]
    if not isnan(tau):
        ranks = f"Kendall's tau {tau:.3f} over {len(both)} networks"
        lines += [f"rank agreement of throughput, before and now: {ranks}"]
    if not remeasurement.decides:
        return [*lines, "front: no objective or limit of the study is measured: it stays"]
    known = table[table["old_img_s"].notna()]
    leave = known.loc[known["was_on_front"] & ~known["on_front"], "label"]
    enter = known.loc[~known["was_on_front"] & known["on_front"], "label"]
    told = [f"{len(leave)} leave ({', '.join(leave)})" if len(leave) else "nobody leaves"]
    told += [f"{len(enter)} enter ({', '.join(enter)})"] if len(enter) else []
    return [*lines, f"front among these networks, with the new figures: {'; '.join(told)}"]
