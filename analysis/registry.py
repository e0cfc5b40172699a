"""The registry of exports: which function builds the artefact of a query."""

from collections.abc import Callable, Sequence
from inspect import BoundArguments, signature
from pathlib import Path
from typing import Any

from partialnas.analysis.ablation.figure import effects_artefact
from partialnas.analysis.ablation.table import table_artefact
from partialnas.analysis.audit.figure import audit_artefact
from partialnas.analysis.figures.kinds import figure_artefact
from partialnas.analysis.formats.artefact import Artefact
from partialnas.analysis.formats.look import LOOK_ARGUMENTS, Look, find_look
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.provenance import Query
from partialnas.analysis.pareto.figure import PARETO_ARGUMENTS, ParetoOptions, pareto_artefact
from partialnas.analysis.ratios.figure import ratio_artefact
from partialnas.analysis.report.report import report_artefact
from partialnas.space.errors import UserError
from partialnas.space.validation import suggest


def build_pareto(
    folders: Sequence[Path], *, look: Look, timing: str | None = None, **arguments: Any
) -> tuple[Any, ...]:
    """Return the Pareto figure of studies; further arguments are those of `ParetoOptions`."""
    figure = {key: arguments.pop(key) for key in PARETO_ARGUMENTS if key in arguments}
    options = ParetoOptions(**_bind("pareto", ParetoOptions, **arguments).kwargs)
    trials = load_trials(folders, timing=timing)
    return pareto_artefact(trials, **figure, look=look, options=options)


_STUDIES: dict[str, Callable[..., Artefact | tuple[Any, ...]]] = {
    "table": table_artefact,
    "effects": effects_artefact,
    "pareto": build_pareto,
    "figure": figure_artefact,
}
"""Builders that take the folders of several studies, by verb."""

_ONE_STUDY: dict[str, Callable[..., Artefact | tuple[Any, ...]]] = {
    "ratios": ratio_artefact,
    "report": report_artefact,
    "audit": audit_artefact,
}
"""Builders that take the folder of one study, by verb."""


_WITHOUT_LOOK = ("table", "report")
"""Verbs that draw no figure in the style of a venue."""


def build_artefact(folders: Sequence[Path], query: Query) -> Artefact:
    """Build the artefact of a query on studies.

    Raises:
        UserError: unknown verb or argument, or an error of the verb itself.
        MachineError: a ledger cannot be read.
    """
    builders = _STUDIES | _ONE_STUDY
    builder = builders.get(query.verb)
    if builder is None:
        raise UserError(f"{query.verb}: unknown verb; {suggest(query.verb, builders)}")
    source = folders[0] if query.verb in _ONE_STUDY else folders
    arguments = dict(query.arguments)
    if query.verb not in _WITHOUT_LOOK:
        look = {key: arguments.pop(key) for key in LOOK_ARGUMENTS if key in arguments}
        arguments["look"] = find_look(**look)
    bound = _bind(query.verb, builder, source, **arguments)
    result = builder(*bound.args, **bound.kwargs)
    return result if isinstance(result, Artefact) else result[-1]


def _bind(verb: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> BoundArguments:
    try:
        return signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise UserError(
            f"{verb}: this version of partialnas does not support the query {kwargs} ({error})"
        ) from None
