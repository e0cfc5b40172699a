"""Part operations: an open table of what can be done to a part of a block's channels.

The table holds plain facts and takes no torch. The module and the cost formula of an operation are
imported when they are first used.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pkgutil import resolve_name
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from partialnas.space.errors import UserError

BLOCK_ATTENTION = "attention"
"""Stands for the block's attention in a list of operations."""

NO_ATTENTION = "none"


@dataclass(frozen=True)
class Operation:
    """Facts of one operation.

    Attributes:
        module: class of the operation's module, a `partialnas.space.nn.operations.PartOperation`,
            or its import path `package.module:Class`.
        cost: function of a `RealizedPart` and the number of positions of its map that returns a
            `partialnas.space.cost.formulas.Cost`, or its import path. To be used with learned
            ratios, its `macs` must be a quadratic polynomial of the channels without a constant.
        has_weights: whether it has weights. An operation without weights works on each channel
            separately: neighboring parts that share one are built as one part.
        has_heads: whether it is multi-head attention over positions: it takes `heads`, its channels
            are a multiple of them, and its block adds the mixer's input to the mixer's output.
        is_attention: whether `attention` of a plan, stage or block may name it.
    """

    module: type | str
    cost: Callable[..., Any] | str
    has_weights: bool = True
    has_heads: bool = False
    is_attention: bool = False

    @cached_property
    def module_class(self) -> Any:
        """The class of the operation's module."""
        return resolve_name(self.module) if isinstance(self.module, str) else self.module

    @cached_property
    def cost_formula(self) -> Callable[..., Any]:
        """The function that returns the operation's cost."""
        return resolve_name(self.cost) if isinstance(self.cost, str) else self.cost


_NN = "partialnas.space.nn"
_COST = "partialnas.space.cost.formulas"


def _attention(module: str, cost: str, *, has_heads: bool = False) -> Operation:
    names = (f"{_NN}.attention:{module}", f"{_COST}:{cost}")
    return Operation(*names, has_heads=has_heads, is_attention=True)


OPERATIONS: dict[str, Operation] = {
    "conv": Operation(f"{_NN}.operations:PartialConv", f"{_COST}:conv_cost"),
    "channel": _attention("ChannelAttention", "channel_attention_cost"),
    "spatial": _attention("SpatialAttention", "spatial_attention_cost"),
    "self": _attention("SelfAttention", "self_attention_cost", has_heads=True),
    "pool": Operation(f"{_NN}.operations:AveragePool", f"{_COST}:zero_cost", has_weights=False),
    "identity": Operation(f"{_NN}.operations:Identity", f"{_COST}:zero_cost", has_weights=False),
}
"""Operations by name: 3x3 convolution, channel attention, spatial attention, self-attention, 3x3
average pooling, no operation, and those added by `register_operation`."""


def register_operation(
    name: str,
    *,
    module: type | str,
    cost: Callable[..., Any] | str,
    has_weights: bool = True,
    has_heads: bool = False,
    is_attention: bool = False,
) -> None:
    """Add an operation to the table; see `Operation` for the arguments.

    The operation can then be used in architectures, plans and spaces. Every process that reads
    them must register it first.

    Raises:
        UserError: The name is taken or not a lowercase identifier.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"operation {name!r}: expected a lowercase name such as 'shift_conv'")
    if name in OPERATIONS or name in (BLOCK_ATTENTION, NO_ATTENTION):
        raise UserError(f"operation {name!r} already exists: choose another name")
    OPERATIONS[name] = Operation(module, cost, has_weights, has_heads, is_attention)


def operation_names() -> tuple[str, ...]:
    """Return the names that a part may have as its operation."""
    return tuple(OPERATIONS)


def listed_operation_names() -> tuple[str, ...]:
    """Return the names that a list of operations may hold, `attention` among them."""
    return (*OPERATIONS, BLOCK_ATTENTION)


def attention_names() -> tuple[str, ...]:
    """Return the kinds of attention that a block may have, `none` first."""
    return (NO_ATTENTION, *(name for name, op in OPERATIONS.items() if op.is_attention))


def block_operation(name: str, attention: str) -> str:
    """Return the operation that a listed name stands for in a block with this attention."""
    if name != BLOCK_ATTENTION:
        return name
    return "identity" if attention == NO_ATTENTION else attention


def _one_of(names: Callable[[], tuple[str, ...]]) -> BeforeValidator:
    """Return a validator with the messages of a `Literal` of the names that exist at present."""

    def check(value: object) -> object:
        if isinstance(value, str) and value in names():
            return value
        context = {"expected": ", ".join(map(repr, names()))}
        raise PydanticCustomError("literal_error", "Input should be {expected}", context)

    return BeforeValidator(check)


OperationName = Annotated[str, _one_of(operation_names)]
"""Name of an operation."""

ListedOperation = Annotated[str, _one_of(listed_operation_names)]
"""Name of an operation, or `attention` for the block's attention."""

AttentionName = Annotated[str, _one_of(attention_names)]
"""Kind of attention of a block, or `none`."""
