"""The audit of multiply-accumulates, as the command line prints it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from partialnas.commands.names import find_subject
from partialnas.commands.terminal import plain_table
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from partialnas.analysis.figures.flops_ranks import FlopsRanks
    from partialnas.runs.datasets.task import Task
    from partialnas.runs.measure.flops_audit import FlopsAudit
    from partialnas.runs.records.subject import Subject

_NOTES = (
    "formula: closed form, as `describe` tells it. fvcore: its raw figure, multiply-accumulates "
    "with norms and pooling. torch: FlopCounterMode / 2, convolutions and matrix products alone. "
    "deploy: the same counters on the network with its norms folded away.",
)


def show_flops(names: Sequence[str], resolution: int, *, as_json: bool) -> None:
    """Print what counters make of networks, and of studies where MACs and speed disagree.

    Args:
        names: folders of studies, or networks as `measure` takes them.
        resolution: of the networks named; a study's own are counted for its own task.
        as_json: plain data instead of tables.
    """
    told: list[dict[str, Any]] = []
    console = Console()
    networks = [name for name in names if not Path(name).is_dir()]
    if networks:
        audits = [_audit(find_subject(name), _task(resolution)) for name in networks]
        title = f"{resolution} px, 3 channels, 1000 classes, one image"
        told.append({"audits": [*map(asdict, audits)]})
        if not as_json:
            _show_audits(console, title, audits)
    folders = [Path(name) for name in names if Path(name).is_dir()]
    told += [_of_study(console, folder, as_json=as_json) for folder in folders]
    if as_json:
        print(json.dumps(told, indent=2))


def _task(resolution: int) -> "Task":
    from partialnas.runs.datasets.task import Task

    return Task(data="random", resolution=resolution, channels=3, classes=1000)


def _audit(subject: "Subject", task: "Task") -> "FlopsAudit":
    from partialnas.runs.measure.flops_audit import audit_flops

    return audit_flops(subject, task)


def _of_study(console: Console, folder: Path, *, as_json: bool) -> dict[str, Any]:
    from partialnas.analysis import load
    from partialnas.analysis.figures.flops_ranks import flops_ranks

    audits, numbers, task = _representatives(folder)
    found: dict[str, Any] = {"study": str(folder), "audits": [*map(asdict, audits)]}
    if not as_json:
        size = f"{task.resolution} px, {task.channels} channels, {task.classes} classes, one image"
        _show_audits(console, f"{folder}: {size}", audits, numbers)
    try:
        ranks = flops_ranks(load(folder))
    except UserError as error:  # a study that timed nothing is no mistake of the reader's
        if not as_json:
            console.print(f"no ranking by speed: {error}", markup=False, soft_wrap=True)
        return found
    if not as_json:
        _show_ranks(console, ranks)
    low, high = ranks.tau.interval
    pairs = ranks.pairs.to_dict("records")
    return found | {
        "tau": ranks.tau.value, "low": low, "high": high, "networks": ranks.networks,
        "ordered_wrongly": ranks.discordant_share, "pairs": pairs,
    }  # fmt: skip


def _representatives(folder: Path) -> "tuple[list[FlopsAudit], list[int], Task]":
    """One network of each kind that a study has, the first proposed, and how many there are."""
    from partialnas.runs.ledger.ledger import Ledger
    from partialnas.runs.measure.flops_audit import describe_mixers
    from partialnas.runs.records.subject import parse_subject

    first: dict[str, Subject] = {}
    known: dict[str, set[str]] = {}
    with Ledger.open(folder) as ledger:
        tasks = ledger.study.tasks
        for row in ledger.proposals():
            subject = parse_subject(row.subject)
            kind = describe_mixers(subject)
            first.setdefault(kind, subject)
            known.setdefault(kind, set()).add(row.digest)
    if not first:
        raise UserError(f"{folder}: no network has been proposed yet")
    # of several tasks the first: kinds are compared with one another, not tasks
    task = next(iter(tasks.values()))
    audits = [_audit(subject, task) for subject in first.values()]
    return audits, [len(known[kind]) for kind in first], task


def _show_audits(
    console: Console, title: str, audits: "Sequence[FlopsAudit]", numbers: Sequence[int] = ()
) -> None:
    table = plain_table(title)
    table.add_column("kind", min_width=14)
    heads = ("networks", "formula", "fvcore", "torch", "fvcore,\ndeploy", "torch,\ndeploy")
    for head in heads if numbers else heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    for place, each in enumerate(audits):
        counts = [f"{numbers[place]:,}"] if numbers else []
        deployed = each.deployed
        figures = (
            each.formula_macs,
            each.training.macs_raw,
            each.training.macs_core,
            deployed.macs_raw if deployed else None,
            deployed.macs_core if deployed else None,
        )
        name = each.kind if numbers else f"{each.name}: {each.kind}"
        table.add_row(Text(name), *counts, *(_number(figure) for figure in figures))
    console.print(table)
    for line in (*_NOTES, *_remarks(audits)):
        console.print(line, markup=False, highlight=False)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _remarks(audits: "Sequence[FlopsAudit]") -> list[str]:
    """What counters leave out, and where two that should agree do not."""
    lines = []
    skipped: dict[str, None] = {}
    for each in audits:
        for operator in each.training.skipped:
            skipped.setdefault(operator.removeprefix("aten::"))
        if each.formula_macs is not None and each.formula_macs != each.training.macs:
            lines.append(
                f"{each.name}: the closed form and fvcore differ by "
                f"{each.formula_macs - each.training.macs:+,}"
            )
        if each.training.macs != each.training.macs_raw:
            fused = each.training.macs - each.training.macs_raw
            lines.append(f"{each.name}: fvcore leaves out {fused:,} in fused attention")
        if each.no_deploy_form:
            lines.append(f"{each.name}: no deploy form ({each.no_deploy_form})")
    counted = f"fvcore counts as nothing: {', '.join(skipped)}" if skipped else ""
    return [*([counted] if counted else []), *lines]


def _show_ranks(console: Console, ranks: "FlopsRanks") -> None:
    low, high = ranks.tau.interval
    interval = f" [{low:.2f}, {high:.2f}]" if low == low else ""
    console.print(
        f"MACs against measured time of {ranks.networks} networks: Kendall tau-b "
        f"{ranks.tau.value:.2f}{interval} (1: fewer MACs are always faster; 95 % bootstrap over "
        "networks)",
        markup=False, highlight=False,
    )  # fmt: skip
    if ranks.discordant_share == ranks.discordant_share:
        console.print(
            f"Of pairs whose intervals of speed are apart, MACs order {100 * ranks.discordant_share:.0f} % "
            "wrongly.", markup=False, highlight=False,
        )  # fmt: skip
    for pair in ranks.pairs.itertuples():
        console.print(
            f"  {pair.more} has {pair.macs_ratio:.2f} times the MACs of {pair.fewer}, and is "
            f"{pair.speed_ratio:.2f} times as fast", markup=False, highlight=False,
        )  # fmt: skip
