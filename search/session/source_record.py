"""Record the source of a study's function in its ledger, and refuse another source."""

import difflib
import json
from collections.abc import Iterator, Mapping

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import FINAL_STATES
from partialnas.runs.system.environment import utc_now
from partialnas.space.errors import UserError
from partialnas.space.source_code import ModuleSource

_MAX_LINES = 80
"""Lines of a difference that an error message shows."""


def new_source_meta(source: ModuleSource | None) -> dict[str, str]:
    """Return the metadata that record a function's first source; none without a source."""
    return _meta([], source) if source else {}


def changed_source_meta(
    ledger: Ledger, source: ModuleSource | None, *, accept: bool
) -> tuple[dict[str, str], list[str]]:
    """Return the metadata that a function's present source changes, with a note for the user.

    A ledger without a source, from an older version, gets the present one. A source of which no
    trial has ended is replaced.

    Args:
        ledger: the study's ledger.
        source: present source of the function, or None if the study calls none.
        accept: whether to continue with another source; records name the source that they came of.

    Raises:
        UserError: the source has changed; the message shows the difference.
    """
    study = ledger.study
    sources = study.trial_sources
    if source is None or (sources and sources[-1]["digest"] == source.digest):
        return {}, []
    name, counts = study.frozen.get("trial"), ledger.state_counts()
    ended = sum(counts[state] for state in FINAL_STATES)
    if not ended:
        return _meta([], source), []
    if not sources:
        note = f"source of {name} recorded from here on: {source.digest}"
        return _meta([], source), [note]
    before = sources[-1]
    if not accept:
        raise UserError(
            f"the source of {name} has changed since {ended} trials ran ({before['digest']} -> "
            f"{source.digest}):\n{_difference(before['files'], source.files)}\n"
            "Undo the change, or continue with --accept-source: later records then name the new "
            "source. Add --retry-failed to run failed trials again."
        )
    note = f"source of {name}: {before['digest']} -> {source.digest}"
    return _meta(sources, source), [note]


def _meta(sources: list[dict[str, object]], source: ModuleSource) -> dict[str, str]:
    latest = {"when": utc_now(), "digest": source.digest, "files": dict(source.files)}
    return {"trial_sources": json.dumps([*sources, latest])}


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Return the unified difference of files, without what follows after many lines."""
    lines = [*_diff_lines(old, new)]
    rest = len(lines) - _MAX_LINES
    return "\n".join(lines[:_MAX_LINES] + ([f"... {rest} more lines"] if rest > 0 else []))


def _diff_lines(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for path in sorted({*old, *new}):
        before, after = (files.get(path, "").splitlines() for files in (old, new))
        names = f"{path} (recorded)", f"{path} (present)"
        yield from difflib.unified_diff(before, after, *names, lineterm="")
