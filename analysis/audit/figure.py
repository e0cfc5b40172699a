"""The figure of an audit: its tables first, then the drawing and the caption."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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
from partialnas.analysis.audit.text import (
    audit_caption,
    format_agreement,
    format_ranks,
    rank_note,
)
from partialnas.analysis.formats.artefact import Artefact, Drawing
from partialnas.analysis.formats.data_files import frame_to_csv, frame_to_markdown
from partialnas.analysis.frames.provenance import Query, drop_none
from partialnas.analysis.plotting.style import StyleName, Width, check_suffix, find_style
from partialnas.space.errors import UserError

Part = Literal["networks", "agreement", "ranks"]


@dataclass(frozen=True, kw_only=True)
class AuditFigure:
    """What a figure of an audit shows: its tables, how to read ranks, its caption, its files."""

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
    """Draws what networks reach by short and by longer training; the same ledger, the same bytes.

    Beside the figure (PDF, SVG or PNG by suffix) stand as CSV the points that it shows
    (`audited_networks`), the agreement of rankings (`-agreement.csv`) and the ranks that cannot be
    resolved (`-ranks.csv`), and as Markdown the latter two in readable form with the caption.

    Args:
        folder: of the study.
        path: the figure's file.
        stage: which audit, of a study that has several; without it the latest.
        metric: the quantity that is drawn; without it the study's first trained objective.
        style: the width and text size of a venue.
        width: a column or a page of it; without one its usual width.

    Raises:
        UserError: no audit, nothing to compare, or an unknown suffix, style or quantity.
        MachineError: the ledger cannot be read, or the place cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    folder = Path(folder)
    found, whole = audit_artefact(folder, stage=stage, metric=metric, style=style, width=width)
    choices = drop_none(stage=found.audit.stage.name, metric=metric)
    files = list(whole.write(path, path.with_suffix(".csv"), path.with_suffix(".md")))
    parts: tuple[Part, ...] = ("agreement", "ranks")
    for part in parts:
        beside = path.with_name(f"{path.stem}-{part}.csv")
        files += _artefact(found, choices | {"part": part}, part).write(beside)
    return replace(found, files=tuple(files))


def audit_artefact(
    folder: Path,
    *,
    stage: str | None = None,
    metric: str | None = None,
    part: Part = "networks",
    style: StyleName = "cvpr",
    width: Width | None = None,
) -> tuple[AuditFigure, Artefact]:
    """What an audit found, before any file, and one of its files; see `audit_figure`.

    Args:
        folder: of the study.
        stage: see `audit_figure`.
        metric: see `audit_figure`.
        part: `networks` makes the figure, its points and the text, the others a table alone.
        style: see `audit_figure`.
        width: see `audit_figure`.
    """
    audit = load_audit(folder, stage, metric=metric)
    between_seeds, ranked, agreed = seed_noise(audit), network_ranks(audit), proxy_agreement(audit)
    found = AuditFigure(
        audit=audit,
        networks=audited_networks(audit),
        agreement=agreed,
        ranks=ranked,
        note=rank_note(ranked, between_seeds, audit.quantity),
        caption=audit_caption(audit, agreed),
        files=(),
    )
    choices = drop_none(
        stage=audit.stage.name, metric=metric
    )  # later audits leave files as they are
    if part != "networks":
        return found, _artefact(found, choices | {"part": part}, part)
    find_style(style, width)
    drawing = Drawing(
        draw=lambda look: draw(found.networks, audit.quantity, audit.longer_label, look),
        plot_data=found.networks,
        style=style,
        width=width,
    )
    query = choices | drop_none(style=style, width=width)
    return found, replace(_artefact(found, query, part), drawing=drawing)


_TABLES: dict[Part, Callable[[AuditFigure], pd.DataFrame]] = {
    "networks": lambda found: found.networks,
    "agreement": lambda found: found.agreement,
    "ranks": lambda found: found.ranks,
}


def _artefact(found: AuditFigure, arguments: dict[str, str], part: Part) -> Artefact:
    if part not in _TABLES:
        raise UserError(f"{part}: an audit has no such table; there are {', '.join(_TABLES)}")
    texts = {".csv": frame_to_csv(_TABLES[part](found))}
    if part == "networks":
        texts[".md"] = _markdown(found)
    studies = found.audit.study.studies
    return Artefact(studies=studies, query=Query(verb="audit", arguments=arguments), texts=texts)


def _markdown(found: AuditFigure) -> str:
    audit = found.audit
    tables = [
        frame_to_markdown(format_agreement(audit, found.agreement, target))
        for target in audit.quantities
    ]
    ranked = frame_to_markdown(format_ranks(found.ranks, audit.quantity))
    return "\n".join([*tables, ranked, f"{found.note}\n", f"{found.caption}\n"])
