"""Published networks: PartialNet (arXiv 2502.01303) and its parent FasterNet (2303.03667)."""

from typing import Any

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest

_PARTIAL: dict[str, Any] = {"attention": {"channel": "stages 1-3", "self": "stage 4"}}
_PARTIAL_SP: dict[str, Any] = {**_PARTIAL, "pat_sp": True}

_SETTINGS: dict[str, dict[str, Any]] = {
    "partialnet_t0": {**_PARTIAL_SP, "width": 32, "depths": (1, 2, 8, 2)},
    "partialnet_t1": {**_PARTIAL_SP, "width": 48, "depths": (1, 2, 8, 2)},
    "partialnet_t2": {**_PARTIAL, "width": 64, "depths": (2, 2, 6, 4), "activation": "relu"},
    "partialnet_s": {**_PARTIAL, "width": 96, "depths": (2, 2, 9, 4), "activation": "relu"},
    "partialnet_m": {**_PARTIAL, "width": 128, "depths": (2, 3, 16, 4), "activation": "relu"},
    "partialnet_l": {**_PARTIAL, "width": 160, "depths": (2, 3, 20, 4), "activation": "relu"},
    "fasternet_t0": {"width": 40, "depths": (1, 2, 8, 2)},
    "fasternet_t1": {"width": 64, "depths": (1, 2, 8, 2)},
    "fasternet_t2": {"width": 96, "depths": (1, 2, 8, 2), "activation": "relu"},
    "fasternet_s": {"width": 128, "depths": (1, 2, 13, 2), "activation": "relu"},
    "fasternet_m": {"width": 144, "depths": (3, 4, 18, 3), "activation": "relu"},
    "fasternet_l": {"width": 192, "depths": (3, 4, 18, 3), "activation": "relu"},
}

PRESETS: tuple[str, ...] = tuple(_SETTINGS)
"""Names of the published networks, smallest of each family first."""

DROP_PATH_RATES: dict[str, float] = {
    "partialnet_t0": 0.0,
    "partialnet_t1": 0.02,
    "partialnet_t2": 0.05,
    "partialnet_s": 0.1,
    "partialnet_m": 0.2,
    "partialnet_l": 0.3,
}
"""Published drop-path rate of each PartialNet, a part of its recipe."""


def preset_plan(name: str) -> Plan:
    """Return the plan of a published network.

    Raises:
        UserError: Unknown preset; the message suggests the closest ones.
    """
    if name not in _SETTINGS:
        raise UserError(f"unknown preset {quote(name)}; {suggest(name, PRESETS)}")
    return Plan(name=name, **_SETTINGS[name])


def preset(name: str) -> Architecture:
    """Return the architecture of a published network.

    Raises:
        UserError: Unknown preset; the message suggests the closest ones.
    """
    return preset_plan(name).architecture()
