"""Audits as a study's ledger remembers them: which stages hold them. Plain values, no torch."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from partialnas.runs.conditions import settings_under
from partialnas.runs.design import Stage, stages_of

_AUDIT = "audit"
_REPEAT = "audit-proxy"


class Fidelity(NamedTuple):
    """One way in which a study trains networks.

    Attributes:
        rung: of its search, from 1; 0 for the study's own, which is the last.
        name: what it is called, as `4 epochs`.
        stage: the stage that holds further trainings by it for an audit.
    """

    rung: int
    name: str
    stage: str


def fidelities(meta: Mapping[str, str], condition: str) -> tuple[Fidelity, ...]:
    """How a study trains networks, from cheap to dear."""
    study = json.loads(meta.get("frozen", "{}"))
    rungs = ((study.get("search") or {}).get("rungs") or ()) if not condition else ()
    own = int(settings_under(study, condition)["recipe"].get("epochs", 1))
    below = [
        Fidelity(rung, _told(settings, own), f"{_REPEAT}-rung-{rung}")
        for rung, settings in enumerate(rungs, start=1)
    ]
    last = f"{_REPEAT}-{condition}" if condition else _REPEAT
    return (*below, Fidelity(0, epochs_text(own), last))


def _told(settings: Mapping[str, Any], own: int) -> str:
    """A rung in words, as `1 epoch, data_share 1/4`."""
    others = [f"{key.split('.')[-1]} {value}" for key, value in settings.items()]
    others = [told for told in others if not told.startswith("epochs ")]
    return ", ".join([epochs_text(int(settings.get("recipe.epochs", own))), *others])


def epochs_text(epochs: int) -> str:
    """A length of training, as `1 epoch`."""
    return f"{epochs} epoch{'s' * (epochs != 1)}"


def longer_stages(meta: Mapping[str, str]) -> dict[str, Stage]:
    """The stages of a study whose networks were trained longer for an audit, by name."""
    found = stages_of(meta)
    return {
        name: stage
        for name, stage in found.items()
        if name.partition("-")[0] == _AUDIT and not name.startswith(_REPEAT)
    }


def longer_name(meta: Mapping[str, str], recipe: Mapping[str, Any], condition: str) -> str:
    """What the stage with this recipe is called: that of an earlier sitting, or a new name."""
    known = longer_stages(meta)
    for name, stage in known.items():
        if stage.condition == condition and _alike(stage.recipe, recipe):
            return name
    return f"{_AUDIT}-{len(known) + 1}" if known else _AUDIT


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two recipes train alike, whichever weights are kept."""
    return {**one, "keep_weights": ""} == {**other, "keep_weights": ""}
