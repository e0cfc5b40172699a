"""The verb `flops`: compare MAC counters, and MACs with measured speed."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Console

from partialnas.analysis.figures.flops_ranks import FlopsRanks, flops_ranks
from partialnas.analysis.frames.load import load_trials
from partialnas.commands.networks.names import (
    find_subject,
    network_input,
    network_labels,
    random_task,
)
from partialnas.commands.terminal import (
    add_column,
    make_console,
    plain_table,
    print_json,
    print_lines,
    print_table,
)
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.measure.flops_audit import FlopsAudit, audit_flops, describe_mixers
from partialnas.runs.records.subject import Subject, parse_subject
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.errors import UserError

_NOTE = (
    "formula: closed form, as `describe` prints it. fvcore: its raw count, multiply-accumulates "
    "with norms and pooling. torch: FlopCounterMode / 2, only convolutions and matrix products. "
    "deploy: the same counters on the network with its batch norms folded."
)


def show_flops(names: Sequence[str], resolution: int | None, *, as_json: bool) -> None:
    """Print the counts of networks, and for studies how well MACs predict speed.

    Args:
        names: folders of studies, or networks as `measure` accepts them.
        resolution: input size of the given networks in pixels, or None for those of
            `network_input`; networks of a study use its task.
        as_json: whether to print JSON instead of tables.
    """
    results: list[dict[str, Any]] = []
    console = make_console()
    networks = [name for name in names if not Path(name).is_dir()]
    subjects = [find_subject(name) for name in networks]
    audits_by_input: dict[InputSpec, list[FlopsAudit]] = {}
    for name, subject, label in zip(
        networks, subjects, network_labels(networks, subjects), strict=True
    ):
        spec = network_input(name, resolution)
        audit = replace(audit_flops(subject, random_task(spec)), name=label)
        audits_by_input.setdefault(spec, []).append(audit)
    for spec, audits in audits_by_input.items():
        results.append({"input": asdict(spec), "audits": [*map(asdict, audits)]})
        if not as_json:
            _show_audits(console, f"{spec}, one image", audits)
    folders = [Path(name) for name in names if Path(name).is_dir()]
    results += [_audit_study(console, folder, as_json=as_json) for folder in folders]
    if as_json:
        print_json(results)


def _audit_study(console: Console, folder: Path, *, as_json: bool) -> dict[str, Any]:
    audits, counts, task = _audit_kinds(folder)
    result: dict[str, Any] = {"study": str(folder), "audits": [*map(asdict, audits)]}
    if not as_json:
        _show_audits(console, f"{folder}: {task.input_spec}, one image", audits, counts)
    try:
        ranks = flops_ranks(load_trials(folder).frame)
    except UserError as error:  # the study has too few measurements
        if not as_json:
            print_lines(console, f"no ranking by speed: {error}")
        return result
    if not as_json:
        _show_ranks(console, ranks)
    low, high = ranks.tau.interval
    pairs = ranks.pairs.to_dict("records")
    return result | {
        "tau": ranks.tau.value, "low": low, "high": high, "networks": ranks.networks,
        "ordered_wrongly": ranks.discordant_share, "pairs": pairs,
    }  # fmt: skip


def _audit_kinds(folder: Path) -> tuple[list[FlopsAudit], list[int], Task]:
    """Audit the first network of each kind in a study, and count the networks of each kind."""
    first: dict[str, Subject] = {}
    digests: dict[str, set[str]] = {}
    with Ledger.open(folder) as ledger:
        tasks = ledger.study.tasks
        for row in ledger.proposals():
            subject = parse_subject(row.subject)
            kind = describe_mixers(subject)
            first.setdefault(kind, subject)
            digests.setdefault(kind, set()).add(row.digest)
    if not first:
        raise UserError(f"{folder}: the study has no networks yet")
    task = next(iter(tasks.values()))  # one task is enough to compare kinds
    audits = [replace(audit_flops(subject, task), name=kind) for kind, subject in first.items()]
    return audits, [len(digests[kind]) for kind in first], task


def _show_audits(
    console: Console, title: str, audits: Sequence[FlopsAudit], counts: Sequence[int] = ()
) -> None:
    table = plain_table(title, "kind")
    heads = ("networks", "formula", "fvcore", "torch", "fvcore,\ndeploy", "torch,\ndeploy")
    for head in heads if counts else heads[1:]:
        add_column(table, head, numeric=True)
    for index, audit in enumerate(audits):
        deployed = audit.deployed
        values = [audit.formula_macs, audit.training.macs_raw, audit.training.macs_core]
        values += [deployed.macs_raw, deployed.macs_core] if deployed else [None, None]
        name = audit.kind if counts else f"{audit.name}: {audit.kind}"
        number = [f"{counts[index]:,}"] if counts else []
        cells = ("" if value is None else f"{value:,}" for value in values)
        table.add_row(name, *number, *cells)
    print_table(console, table)
    for line in (_NOTE, *_remarks(audits)):
        console.print(line)


def _remarks(audits: Sequence[FlopsAudit]) -> list[str]:
    """Return sentences on what the counters skip, and where two counters disagree."""
    lines = []
    skipped: dict[str, None] = {}
    for audit in audits:
        for operator in audit.training.skipped:
            skipped.setdefault(operator.removeprefix("aten::"))
        if audit.formula_macs is not None and audit.formula_macs != audit.training.macs:
            lines.append(
                f"{audit.name}: the closed form and fvcore differ by "
                f"{audit.formula_macs - audit.training.macs:+,}"
            )
        if audit.training.macs != audit.training.macs_raw:
            fused = audit.training.macs - audit.training.macs_raw
            lines.append(f"{audit.name}: fvcore does not count {fused:,} in fused attention")
        if audit.no_deploy_form:
            lines.append(f"{audit.name}: no deploy form ({audit.no_deploy_form})")
    return [f"fvcore does not count: {', '.join(skipped)}", *lines] if skipped else lines


def _show_ranks(console: Console, ranks: FlopsRanks) -> None:
    low, high = ranks.tau.interval
    interval = "" if isnan(low) else f" [{low:.2f}, {high:.2f}]"
    sentences = [
        f"MACs and measured time of {ranks.networks} networks: Kendall's tau-b "
        f"{ranks.tau.value:.2f}{interval} (1: fewer MACs are always faster; 95 % bootstrap over "
        "networks)"
    ]
    if not isnan(ranks.discordant_share):
        share = f"{100 * ranks.discordant_share:.0f} %"
        sentences.append(f"Of the pairs with disjoint speed intervals, MACs rank {share} wrongly.")
    sentences += [
        f"  {pair.more} has {pair.macs_ratio:.2f} times the MACs of {pair.fewer}, but is "
        f"{pair.speed_ratio:.2f} times as fast"
        for pair in ranks.pairs.itertuples()
    ]
    for sentence in sentences:
        console.print(sentence)
