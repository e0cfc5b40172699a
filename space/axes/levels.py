"""Values of each axis: parsing, serialization and default labels."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

from pydantic import ValidationError

from partialnas.space.arch.architecture import MAX_DEPTH, MAX_MLP_RATIO, Activation
from partialnas.space.arch.operation_registry import (
    NO_ATTENTION,
    attention_names,
    listed_operation_names,
)
from partialnas.space.arch.parts import MAX_PARTS, MAX_WIDTH
from partialnas.space.arch.plan import NUM_STAGES, parse_attention, parse_pat_sp
from partialnas.space.arch.ratio import LearnedRatio, dump_ratio, parse_ratio, start_ratio
from partialnas.space.validation import expected_one_of, quote, suggest, validation_messages
from partialnas.space.values import parse_fraction

AxisGranularity = Literal["network", "stage", "block"]
"""One value for the network, for each stage, or for each block."""

Label = bool | int | str
"""Name of a level in points, samplers and tables."""

GRANULARITIES: tuple[AxisGranularity, ...] = get_args(AxisGranularity)
_Parser = Callable[[object], Any]


def _whole(raw: object, upper: int = MAX_WIDTH) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw <= upper:
        raise ValueError(f"expected a whole number from 1 to {upper}, got {quote(raw)}")
    return raw


def _parts(raw: object) -> int:
    return _whole(raw, MAX_PARTS)


def _depth(raw: object) -> int:
    return _whole(raw, MAX_DEPTH)


def _one_of(options: Callable[[], Sequence[object]]) -> _Parser:
    def parse(raw: object) -> object:
        for option in options():
            if option == raw and not isinstance(raw, bool):
                return option
        raise ValueError(expected_one_of(options(), raw))

    return parse


def _flag(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"expected true or false, got {quote(raw)}")
    return raw


def as_tuple(raw: Any) -> tuple[Any, ...]:
    """Return the items of a list or tuple; any other value is the only item."""
    return tuple(raw) if isinstance(raw, list | tuple) else (raw,)


def _per_stage_numbers(raw: object, upper: int = MAX_DEPTH) -> tuple[int, ...]:
    items = as_tuple(raw)
    if len(items) != NUM_STAGES:
        expected = f"expected {NUM_STAGES} whole numbers, one for each stage"
        raise ValueError(f"{expected}, got {quote(raw)}")
    return tuple(_whole(item, upper) for item in items)


def _doubled(width: int) -> tuple[int, ...]:
    return tuple(width * 2**stage for stage in range(NUM_STAGES))


def _widths(raw: object) -> tuple[int, ...]:
    if isinstance(raw, list | tuple):
        return _per_stage_numbers(raw, MAX_WIDTH)
    return _doubled(_whole(raw, MAX_WIDTH // 2 ** (NUM_STAGES - 1)))


def _ratio(raw: object) -> Fraction | LearnedRatio:
    try:
        ratio = parse_ratio(raw)
    except ValidationError as error:
        raise ValueError("; ".join(validation_messages(error, "learned", LearnedRatio))) from None
    if ratio is None:
        raise ValueError("expected a share such as 1/4 or {learned: {}}, got nothing")
    return ratio


def _ratios(raw: object) -> tuple[Fraction | LearnedRatio, ...]:
    shares = tuple(_ratio(item) for item in as_tuple(raw))
    if not 0 < sum(map(start_ratio, shares)) < 1:
        raise ValueError(f"expected shares that add up to less than 1, got {quote(raw)}")
    return shares


def _mlp_ratio(raw: object) -> Fraction:
    value = parse_fraction(raw)
    if not 0 < value <= MAX_MLP_RATIO:
        raise ValueError(f"expected a number above 0, up to {MAX_MLP_RATIO}, got {quote(raw)}")
    return value


_operation = _one_of(listed_operation_names)
_attention = _one_of(attention_names)


def _operations(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not 1 <= len(raw) <= MAX_PARTS:
        raise ValueError(f"expected a list of 1 to {MAX_PARTS} operations, got {quote(raw)}")
    return tuple(_operation(item) for item in raw)


def _placement(raw: object) -> tuple[str, ...]:
    placed = parse_attention(raw)
    if len(placed) != NUM_STAGES:
        raise ValueError(f"expected an attention for each of {NUM_STAGES} stages, got {quote(raw)}")
    return tuple(_attention(kind) for kind in placed)


def _switches(raw: object) -> tuple[bool, ...]:
    placed = parse_pat_sp(raw)
    if len(placed) != NUM_STAGES:
        raise ValueError(f"expected a switch for each of {NUM_STAGES} stages, got {quote(raw)}")
    return tuple(_flag(switch) for switch in placed)


def _at_every_granularity(parse: _Parser) -> dict[AxisGranularity, _Parser]:
    return dict.fromkeys(GRANULARITIES, parse)


_PARSERS: dict[str, dict[AxisGranularity, _Parser]] = {
    "stem_stride": {"network": _one_of(lambda: (1, 2, 4))},
    "activation": {"network": _one_of(lambda: get_args(Activation))},
    "head_width": {"network": _whole},
    "width": {"network": _widths, "stage": _whole},
    "depths": {"network": _per_stage_numbers},
    "depth": {"network": _depth, "stage": _depth},
    "parts": _at_every_granularity(_parts),
    "operations": _at_every_granularity(_operations),
    **{f"operation_{k}": _at_every_granularity(_operation) for k in range(1, MAX_PARTS + 1)},
    "attention": {"network": _placement, "stage": _attention, "block": _attention},
    "heads": _at_every_granularity(_whole),
    "ratio": _at_every_granularity(_ratios),
    **{f"ratio_{k}": _at_every_granularity(_ratio) for k in range(2, MAX_PARTS)},
    "mlp_ratio": _at_every_granularity(_mlp_ratio),
    "pat_sp": {"network": _switches, "stage": _flag, "block": _flag},
}

AXES: tuple[str, ...] = tuple(_PARSERS)
"""Names of all axes, in the default order of evaluation."""


def granularities(name: str) -> tuple[AxisGranularity, ...]:
    """Return the granularities that the axis `name` may have.

    Raises:
        ValueError: The axis does not exist; the message suggests the closest ones.
    """
    if name not in _PARSERS:
        raise ValueError(f"unknown axis; {suggest(name, AXES)}")
    return tuple(_PARSERS[name])


def parse_value(name: str, per: AxisGranularity, raw: object) -> Any:
    """Parse a value of an axis from plain data.

    Raises:
        ValueError: The data are not a value of this axis.
    """
    return _PARSERS[name][per](raw)


def dump_value(name: str, value: Any) -> Any:
    """Return canonical plain data for a value; `parse_value` reads them back."""
    if isinstance(value, LearnedRatio):
        return dump_ratio(value)
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else str(value)
    if not isinstance(value, tuple):
        return value
    if name == "width" and value == _doubled(value[0]):
        return value[0]
    if name in ("attention", "pat_sp"):
        return _plain_placement(value)
    if name == "ratio" and len(value) == 1:
        return dump_value(name, value[0])
    return [dump_value(name, item) for item in value]


def _plain_placement(placed: tuple[Any, ...]) -> Any:
    if len(set(placed)) == 1:
        return placed[0]
    kinds = [kind for kind in dict.fromkeys(placed) if kind not in (False, NO_ATTENTION)]
    where = {kind: _stages([s for s, k in enumerate(placed, 1) if k == kind]) for kind in kinds}
    return where.get(True, where)


def _stages(stages: list[int]) -> str:
    """Format stages, counted from 1, as `stages 1-2, 4`."""
    runs: list[list[int]] = []
    for stage in stages:
        if runs and runs[-1][-1] == stage - 1:
            runs[-1].append(stage)
        else:
            runs.append([stage])
    pieces = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"stage{'s' if len(stages) > 1 else ''} {', '.join(pieces)}"


def default_label(name: str, value: Any) -> Label:
    """Return the label of an unnamed value: `1/4`, `1-2-8-2`, `channel: stages 1-3`."""
    if name.startswith("ratio"):
        return "+".join(map(str, as_tuple(value)))
    data = dump_value(name, value)
    if isinstance(data, dict):
        return ", ".join(f"{key}: {item}" for key, item in data.items())
    if isinstance(data, list):
        return ("-" if name in ("width", "depths") else "+").join(map(str, data))
    return data if isinstance(data, bool | int) else str(data)
