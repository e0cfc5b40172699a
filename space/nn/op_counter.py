"""What a network costs, counted by running it: the check on the closed formulas of `cost`.

The formulas are faster and know nothing but our own networks; counting works on any module.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.nn.eval_mode import blank_images, evaluating

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # importing it scripts functions nobody calls
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
    from fvcore.nn.jit_handles import get_shape

_FUSED_ATTENTION = "aten::scaled_dot_product_attention"


@dataclass(frozen=True)
class OpCounts:
    """What was counted of a network, in evaluation mode, for one image.

    Attributes:
        params: learnable parameters.
        macs: multiply-accumulates as fvcore counts them, norms and pooling by its own rule, and
            fused attention (which fvcore leaves out) as the two matrix products that it is.
        macs_raw: fvcore's own figure; differs from `macs` where attention is fused.
        macs_core: half of what torch's `FlopCounterMode` counts: convolutions, matrix products.
        activations: elements of the outputs of convolutions and matrix products (fvcore).
        skipped: operators that fvcore met and counted as nothing, and how often they occur.
    """

    params: int
    macs: int
    macs_raw: int
    macs_core: int
    activations: int
    skipped: dict[str, int]


def count_ops(network: nn.Module, input_spec: InputSpec) -> OpCounts:
    """Counts a network on one image; leaves the network as it is."""
    image = blank_images(network, input_spec)
    with evaluating(network), torch.no_grad(), _explicit_attention():
        flops = _quiet(FlopCountAnalysis(network, image)).set_op_handle(_FUSED_ATTENTION, _fused)
        activations = _quiet(ActivationCountAnalysis(network, image))
        with FlopCounterMode(display=False, custom_mapping=_BESIDE) as core:
            network(image)
        by_operator = flops.by_operator()
        macs = int(sum(by_operator.values()))
        return OpCounts(
            params=sum(parameter.numel() for parameter in network.parameters()),
            macs=macs,
            macs_raw=macs - int(by_operator[_FUSED_ATTENTION.removeprefix("aten::")]),
            macs_core=core.get_total_flops() // 2,
            activations=int(activations.total()),
            skipped=dict(sorted(flops.unsupported_ops().items())),
        )


def _quiet(analysis: Any) -> Any:
    quiet = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return quiet.tracer_warnings("none")


def _fused(inputs: list[Any], _outputs: list[Any]) -> int:
    """Multiply-accumulates of softmax(Q K') V: both products, over all heads and queries."""
    *batch, queries, depth = get_shape(inputs[0])
    *_, keys, value_depth = get_shape(inputs[2])
    products: int = math.prod(batch) * queries * keys * (depth + value_depth)
    return products


def _attention_on_cpu(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return flops


_BESIDE = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_cpu}
"""Operators that not every version of torch counts by itself, and their operations by shape."""


@contextmanager
def _explicit_attention() -> Iterator[None]:
    """`nn.MultiheadAttention` without its fused evaluation path, which no counter sees."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
