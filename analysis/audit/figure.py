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
from partialnas.analysis.formats.data_files import frame_to_csv, frame_to_markdown
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.plotting.style import StyleName, Width, check_suffix, find_style
from partialnas.space.errors import UserError

Part = Literal["networks", "agreement", "ranks"]
"""Tables of an audit, by the attribute of `AuditFigure` that holds them."""


@dataclass(frozen=True, kw_only=True)
class AuditFigure:
    """A figure of an audit: its tables, a note on the ranks, its caption, and the files written."""

    audit: Audit
    networks: pd.DataFrame
    agreement: pd.DataFrame
    ranks: pd.DataFrame
    note: str
    caption: str
    files: tuple[Path, ...]


def audit_figure(
    folder: Path | str,
    path: Path | str,
    *,
    stage: str | None = None,
    metric: str | None = None,
    style: StyleName = "cvpr",
    width: Width | None = None,
) -> AuditFigure:
    """Draw the results after short and after longer training; the same ledger gives the same bytes.

    Beside the figure (PDF, SVG or PNG by suffix), write as CSV its points (`audited_networks`), the
    agreement of rankings (`-agreement.csv`) and the unresolved ranks (`-ranks.csv`), and as
    Markdown the latter two in readable form with the caption.

    Args:
        folder: folder of the study.
        path: file of the figure.
        stage: stage of the audit; by default the latest.
        metric: quantity to draw; by default the study's first trained objective.
        style: venue that determines width and font size.
        width: `column` or `page`; by default the default width of the venue.

    Raises:
        UserError: there is no audit or nothing to compare, or the suffix, style or quantity is
            unknown.
        MachineError: the ledger cannot be read, or a file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    folder = Path(folder)
    figure, artefact = audit_artefact(folder, stage=stage, metric=metric, style=style, width=width)
    arguments = drop_none(stage=figure.audit.stage.name, metric=metric)
    files = list(artefact.write(path, path.with_suffix(".csv"), path.with_suffix(".md")))
    parts: tuple[Part, ...] = ("agreement", "ranks")
    for part in parts:
        table = path.with_name(f"{path.stem}-{part}.csv")
        files += _artefact(figure, arguments | {"part": part}, part).write(table)
    return replace(figure, files=tuple(files))


def audit_artefact(
    folder: Path,
    *,
    stage: str | None = None,
    metric: str | None = None,
    part: Part = "networks",
    style: StyleName = "cvpr",
    width: Width | None = None,
) -> tuple[AuditFigure, Artefact]:
    """Return the figure of an audit and the content of one of its files; see `audit_figure`.

    Args:
        folder: see `audit_figure`.
        stage: see `audit_figure`.
        metric: see `audit_figure`.
        part: `networks` for the figure with its points and texts, or the name of another table.
        style: see `audit_figure`.
        width: see `audit_figure`.
    """
    audit = load_audit(folder, stage, metric=metric)
    ranks, agreement = network_ranks(audit), proxy_agreement(audit)
    figure = AuditFigure(
        audit=audit,
        networks=audited_networks(audit),
        agreement=agreement,
        ranks=ranks,
        note=rank_note(ranks, seed_noise(audit), audit.quantity, audit.work),
        caption=audit_caption(audit, agreement),
        files=(),
    )
    # the stage is always stated, so that files can still be verified after later audits
    arguments = drop_none(stage=audit.stage.name, metric=metric)
    if part != "networks":
        return figure, _artefact(figure, arguments | {"part": part}, part)
    find_style(style, width)
    networks, quantity, longer = figure.networks, audit.quantity, audit.longer_label
    drawing = Drawing(
        draw=lambda look: draw(networks, quantity, longer, look), plot_data=networks, style=style,
        width=width,
    )  # fmt: skip
    arguments |= drop_none(style=style, width=width)
    return figure, replace(_artefact(figure, arguments, part), drawing=drawing)


def _artefact(figure: AuditFigure, arguments: dict[str, str], part: Part) -> Artefact:
    if part not in get_args(Part):
        raise UserError(f"unknown table {part!r} of an audit: choose {', '.join(get_args(Part))}")
    texts = {".csv": frame_to_csv(getattr(figure, part))}
    if part == "networks":
        texts[".md"] = _markdown(figure)
    studies = figure.audit.study.studies
    return Artefact(studies=studies, query=Query(verb="audit", arguments=arguments), texts=texts)


def _markdown(figure: AuditFigure) -> str:
    audit = figure.audit
    texts = [format_agreement(audit, figure.agreement, target) for target in audit.quantities]
    tables = map(frame_to_markdown, texts)
    ranks = frame_to_markdown(format_ranks(figure.ranks, audit.quantity))
    return "\n".join([*tables, ranks, f"{figure.note}\n", f"{figure.caption}\n"])
