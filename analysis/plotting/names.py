"""Names for figures and tables: of axes, of presets, and of quantities instead of their keys."""

import re
from collections.abc import Iterable

_WORDS = {"pat_sp": "PAT_sp", "mlp_ratio": "MLP ratio"}
"""Names of axes that are not the words of their keys."""

_KEY = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SCOPE = re.compile(r"stages? [\d, -]+")

_STAGES = re.compile(r": stages? (\d+(?:-\d+)?)\b")

_FAMILIES = {"partialnet": "PartialNet", "fasternet": "FasterNet"}
_PRESET = re.compile(rf"({'|'.join(_FAMILIES)})(?:[_-]([tsml]\d?))?", re.IGNORECASE)


def axis_name(axis: str) -> str:
    """Return the name of an axis or factor: `PAT_sp`, or `Attention, stages 1–3`.

    Names that are not made of keys, such as those of a study's factors, are kept.
    """
    scope, dot, key = axis.rpartition(".")
    if dot and _SCOPE.fullmatch(scope):
        return f"{axis_name(key)}, {scope.replace('-', '–')}"
    if axis in _WORDS:
        return _WORDS[axis]
    if not _KEY.fullmatch(axis):
        return axis
    words = axis.replace("_", " ")
    return words[0].upper() + words[1:]


def level_name(level: str) -> str:
    """Return a level of an axis with its stages in parentheses: `channel (1–2), self (3)`."""
    return _STAGES.sub(lambda match: f" ({match[1].replace('-', '–')})", level)


def levels_note(levels: Iterable[str]) -> str:
    """Return what stages in parentheses and the level `–` mean, if any level has them."""
    distinct = {*levels}
    notes = ["in parentheses: stages"] * any(level != level_name(level) for level in distinct)
    notes += ["–: the axis does not apply"] * ("–" in distinct)
    text = "; ".join(notes)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def network_name(name: str) -> str:
    """Return the name of a network: `PartialNet-T0` for a preset, other names as they are.

    A study before the name, as in `quickstart: fasternet`, is kept.
    """
    study, colon, network = name.rpartition(": ")
    match = _PRESET.fullmatch(network)
    if match is None:
        return name
    family, size = _FAMILIES[match[1].lower()], match[2]
    return f"{study}{colon}{family}-{size.upper()}" if size else f"{study}{colon}{family}"
