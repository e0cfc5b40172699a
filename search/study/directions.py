"""Check that objectives and limits of a study favor the better values of their quantities."""

from collections.abc import Iterator

from partialnas.runs.config.metric_limits import Limit
from partialnas.runs.config.quantities import QUANTITIES, direction_error
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError


def check_directions(study: Study) -> None:
    """Check that the objectives and limits of a study do not favor worse networks.

    Ledgers of earlier versions may hold such studies and remain readable, so this is no validator
    of `Study`: `check`, `run` and `confirm` call it.

    Raises:
        UserError: An objective of a registered quantity has the wrong direction, or a limit
            excludes nothing but better values. Other quantities are the metrics of user functions;
            their direction is whatever the study states.
    """
    if errors := [*_direction_errors(study)]:
        raise UserError("\n  ".join(errors))


def _direction_errors(study: Study) -> Iterator[str]:
    for key, direction in study.objectives.items():
        if error := direction_error(key, direction):
            yield f"objectives.{key}: {error}"
    for key, limit in study.limits.items():
        if error := _limit_error(key, limit):
            yield f"limits.{key}: {error}"


def _limit_error(key: str, limit: Limit) -> str:
    """Return why a limit makes no sense; empty if it does. Both bounds select a band."""
    if key not in QUANTITIES or None not in (limit.min, limit.max):
        return ""
    stated = "min" if limit.max is None else "max"
    bound = "max" if QUANTITIES[key].better == "min" else "min"
    if stated == bound:
        return ""
    return (
        f"{direction_error(key, stated)}; {stated} alone would exclude only the better networks; "
        "to select a band, state min and max"
    )
