"""Figures of audits with their tables and captions."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from partialnas.analysis.audit.audit import (
    Audit,
    audited_networks,
    load_audit,
    network_ranks,
    proxy_agreement,
    seed_noise,
)
from partialnas.analysis.audit.plot import draw
from partialnas.analysis.audit.text import audit_caption, format_agreement, format_ranks, rank_note
from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.data_files import frame_to_csv, frame_to_markdown, join_texts
from partialnas.analysis.formats.figure_result import FigureOutput, FigureResult
from partialnas.analysis.formats.look import DEFAULT_LOOK, Look, find_look
from partialnas.analysis.frames.folders import study_folder
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.plotting.artists import AnyFigure
from partialnas.space.errors import UserError
from partialnas.space.validation import suggest

Part = Literal["networks", "agreement", "ranks"]
"""Tables of an audit, by the attribute of `AuditTables` that holds them."""


@dataclass(frozen=True, kw_only=True)
class AuditTables:
    """Tables and texts of an audit.

    Attributes:
        audit: results of the audit.
        networks: points of the figure, see `audited_networks`.
        agreement: agreement of rankings, see `proxy_agreement`.
        ranks: ranks of the networks, see `network_ranks`.
        note: sentences about the ranks.
        caption: caption of the figure.
    """

    audit: Audit
    networks: pd.DataFrame
    agreement: pd.DataFrame
    ranks: pd.DataFrame
    note: str
    caption: str


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AuditFigure(FigureResult):
    """A figure of an audit; its table are the `networks` of `AuditTables`.

    For the other attributes see `AuditTables`.
    """

    audit: Audit
    networks: pd.DataFrame
    agreement: pd.DataFrame
    ranks: pd.DataFrame
    note: str


def audit_figure(
    folder: Path | str,
    path: Path | str | None = None,
    *,
    figure: AnyFigure | None = None,
    stage: str | None = None,
    metric: str | None = None,
    style: str | Path = "cvpr",
    width: str | None = None,
    font: str | None = None,
    caption: str = "full",
) -> AuditFigure:
    """Draw the results after short and after longer training; the same ledger gives the same bytes.

    Beside the figure (PDF, SVG or PNG by suffix), write as CSV its points (`audited_networks`), the
    agreement of rankings (`-agreement.csv`) and the unresolved ranks (`-ranks.csv`), and as
    Markdown the latter two in readable form with the caption. Without a path, nothing is written.

    Args:
        folder: folder of the study.
        path: file of the figure.
        figure: figure or subfigure of matplotlib to draw into, with the caller's own style.
        stage: stage of the audit; by default the latest.
        metric: quantity to draw; by default the study's first trained objective.
        style: venue that determines width and font size, or a style file of matplotlib, or both
            with a comma between them.
        width: a column or a page of the venue; the default is that of the style.
        font: `serif`, `sans` or the name of an installed family; by default that of the style.
        caption: length of the caption: `full`, `short` or `none`.

    Raises:
        UserError: there is no audit or nothing to compare, or the suffix, style or quantity is
            unknown.
        MachineError: the ledger cannot be read, or a file cannot be written.
    """
    output = FigureOutput.of(path, figure=figure)
    folder = study_folder(folder)
    look = find_look(style, width, font, caption)
    tables, artefact = audit_artefact(folder, stage=stage, metric=metric, look=look)
    arguments = drop_none(stage=tables.audit.stage.name, metric=metric)
    files = [*output.write(artefact)]
    parts: tuple[Part, ...] = ("agreement", "ranks")
    if output.path is not None:
        for part in parts:
            table = output.path.with_name(f"{output.path.stem}-{part}.csv")
            files += _artefact(tables, arguments | {"part": part}, part).write(table)
    return AuditFigure(
        **vars(tables), table=tables.networks, artefact=artefact, files=tuple(files),
        embedded=output.draw(artefact),
    )  # fmt: skip


def audit_artefact(
    folder: Path,
    *,
    stage: str | None = None,
    metric: str | None = None,
    part: Part = "networks",
    look: Look = DEFAULT_LOOK,
) -> tuple[AuditTables, Artefact]:
    """Return the tables of an audit and the content of one of its files; see `audit_figure`.

    Args:
        folder: see `audit_figure`.
        stage: see `audit_figure`.
        metric: see `audit_figure`.
        part: `networks` for the figure with its points and texts, or the name of another table.
        look: style, width, font and length of the caption.
    """
    audit = load_audit(folder, stage, metric=metric)
    ranks, agreement = network_ranks(audit), proxy_agreement(audit)
    tables = AuditTables(
        audit=audit,
        networks=audited_networks(audit),
        agreement=agreement,
        ranks=ranks,
        note=rank_note(ranks, seed_noise(audit), audit.quantity, audit.work),
        caption=audit_caption(audit, agreement).text(look.caption),
    )
    # the stage is always stated, so that files can still be verified after later audits
    arguments = drop_none(stage=audit.stage.name, metric=metric)
    if part != "networks":
        return tables, _artefact(tables, arguments | {"part": part}, part)
    networks, quantity, longer = tables.networks, audit.quantity, audit.longer_label
    drawing = Drawing(
        draw=lambda style: draw(networks, quantity, longer, style), plot_data=networks, look=look,
    )  # fmt: skip
    arguments |= look.arguments()
    return tables, replace(_artefact(tables, arguments, part), drawing=drawing)


def _artefact(tables: AuditTables, arguments: dict[str, str], part: Part) -> Artefact:
    if part not in get_args(Part):
        raise UserError(f"unknown table {part!r} of an audit; {suggest(part, get_args(Part))}")
    texts = {".csv": frame_to_csv(getattr(tables, part))}
    if part == "networks":
        texts[".md"] = _markdown(tables)
    studies = tables.audit.study.studies
    return Artefact(studies=studies, query=Query(verb="audit", arguments=arguments), texts=texts)


def _markdown(tables: AuditTables) -> str:
    audit = tables.audit
    texts = [format_agreement(audit, tables.agreement, target) for target in audit.quantities]
    ranks = format_ranks(tables.ranks, audit.quantity)
    parts = [*map(frame_to_markdown, [*texts, ranks])]
    return join_texts(*parts, tables.note if tables.caption else "", tables.caption)
