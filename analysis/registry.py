"""The one registry of what can be exported: from a verb and its arguments to an artefact."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from partialnas.analysis.ablation.figure import effects_artefact
from partialnas.analysis.ablation.table import table_artefact
from partialnas.analysis.audit.figure import audit_artefact
from partialnas.analysis.figures.kinds import figure_artefact
from partialnas.analysis.formats.artefact import Artefact
from partialnas.analysis.frames.load import load
from partialnas.analysis.frames.provenance import Query
from partialnas.analysis.pareto.figure import ParetoOptions, pareto_artefact
from partialnas.analysis.ratios.figure import ratio_artefact
from partialnas.analysis.report.report import report_artefact
from partialnas.space.errors import UserError

Maker = Callable[..., Artefact]


def _pareto(folders: Sequence[Path], **arguments: Any) -> Artefact:
    names = {field.name for field in fields(ParetoOptions)}
    options = ParetoOptions(**{key: arguments.pop(key) for key in names & arguments.keys()})
    frame = load(folders, timing=arguments.pop("timing", None))
    return pareto_artefact(frame, **arguments, options=options)[2]


def _effects(folders: Sequence[Path], **arguments: Any) -> Artefact:
    return effects_artefact(folders, **arguments)[2]


def _ratios(folders: Sequence[Path], **arguments: Any) -> Artefact:
    return ratio_artefact(folders[0], **arguments)[1]


def _audit(folders: Sequence[Path], **arguments: Any) -> Artefact:
    return audit_artefact(folders[0], **arguments)[1]


def _figure(folders: Sequence[Path], **arguments: Any) -> Artefact:
    return figure_artefact(folders, **arguments)[1]


def _report(folders: Sequence[Path], **arguments: Any) -> Artefact:
    return report_artefact(folders[0], **arguments)


MAKERS: dict[str, Maker] = {
    "table": table_artefact,
    "effects": _effects,
    "pareto": _pareto,
    "figure": _figure,
    "ratios": _ratios,
    "report": _report,
    "audit": _audit,
}
"""By verb what makes its artefact from the studies' folders and the arguments."""


def build_artefact(folders: Sequence[Path], query: Query) -> Artefact:
    """What a query makes of studies.

    Raises:
        UserError: the verb or an argument is not known, or whatever the verb refuses.
        MachineError: a ledger cannot be read.
    """
    maker = MAKERS.get(query.verb)
    if maker is None:
        raise UserError(f"{query.verb}: no such verb; there are {', '.join(MAKERS)}")
    try:
        return maker(folders, **query.arguments)
    except TypeError as error:
        raise UserError(
            f"{query.verb}: this version does not know the query {dict(query.arguments)} ({error})"
        ) from None
