"""The one registry of what can be exported: from a verb and its arguments to an artefact."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from partialnas.analysis.artefact import Artefact
from partialnas.analysis.effects_figure import effects_artefact
from partialnas.analysis.load import load
from partialnas.analysis.pareto import pareto_artefact
from partialnas.analysis.ratio_figure import ratio_artefact
from partialnas.analysis.stamp import Query
from partialnas.analysis.tables import table_artefact
from partialnas.space.errors import UserError

Maker = Callable[..., Artefact]


def _pareto(folders: Sequence[Path], **arguments: Any) -> Artefact:
    return pareto_artefact(load(folders), **arguments)[2]


def _effects(folders: Sequence[Path], **arguments: Any) -> Artefact:
    return effects_artefact(folders, **arguments)[2]


def _ratios(folders: Sequence[Path], **arguments: Any) -> Artefact:
    return ratio_artefact(folders[0], **arguments)[1]


MAKERS: dict[str, Maker] = {
    "table": table_artefact,
    "effects": _effects,
    "pareto": _pareto,
    "ratios": _ratios,
}
"""By verb what makes its artefact from the studies' folders and the arguments."""


def make(folders: Sequence[Path], query: Query) -> Artefact:
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
