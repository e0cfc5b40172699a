"""Cost of any module, counted by running it on one image.

This is the check on the closed formulas of `partialnas.space.cost.cost`, which are faster but
cover our networks only.
"""

import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.nn.dpconv import tracing_one_batch
from partialnas.space.nn.network import blank_images, evaluating

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # its import scripts unused functions
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.activation_count import _DEFAULT_SUPPORTED_OPS as _ACTIVATION_COUNTERS
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS as _MAC_COUNTERS
    from fvcore.nn.jit_handles import get_shape

_ACTIVATIONS = "activations"
_FUSED_ATTENTION = "aten::scaled_dot_product_attention"


@dataclass(frozen=True)
class OpCounts:
    """Counts of a network in evaluation mode for one image.

    Attributes:
        params: learnable parameters.
        macs: multiply-accumulates as fvcore counts them, norms and pooling included; fused
            attention, which fvcore skips, is counted as its two matrix products.
        macs_raw: multiply-accumulates that fvcore reports; below `macs` if attention is fused.
        macs_core: half the count of torch's `FlopCounterMode`: convolutions and matrix products.
        activations: elements of the outputs of convolutions and matrix products (fvcore).
        skipped: operators that fvcore does not count, with their number of calls.
    """

    params: int
    macs: int
    macs_raw: int
    macs_core: int
    activations: int
    skipped: dict[str, int]


def count_ops(network: nn.Module, input_spec: InputSpec) -> OpCounts:
    """Count a network on one image; the network does not change."""
    image = blank_images(network, input_spec)
    with (
        evaluating(network),
        torch.no_grad(),
        _explicit_attention(),
        tracing_one_batch(network),
    ):
        analysis = _quiet(FlopCountAnalysis(network, image)).set_op_handle(_FUSED_ATTENTION, _fused)
        for operator in _ACTIVATION_COUNTERS:
            analysis.set_op_handle(operator, partial(_macs_and_activations, operator))
        with FlopCounterMode(display=False, custom_mapping=_EXTRA_COUNTERS) as core:
            network(image)
        by_operator = analysis.by_operator()
        activations = by_operator.pop(_ACTIVATIONS, 0)
        macs = int(sum(by_operator.values()))
        return OpCounts(
            params=sum(parameter.numel() for parameter in network.parameters()),
            macs=macs,
            macs_raw=macs - int(by_operator[_FUSED_ATTENTION.removeprefix("aten::")]),
            macs_core=core.get_total_flops() // 2,
            activations=int(activations),
            skipped=dict(sorted(analysis.unsupported_ops().items())),
        )


def _quiet(analysis: Any) -> Any:
    quiet = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return quiet.tracer_warnings("none")


def _macs_and_activations(operator: str, inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count both at once: the analysis traces the network, which takes the time."""
    macs = _MAC_COUNTERS[operator](inputs, outputs)
    activations = _ACTIVATION_COUNTERS[operator](inputs, outputs)
    counts = macs if isinstance(macs, Counter) else Counter({operator: macs})
    counts[_ACTIVATIONS] = activations.total() if isinstance(activations, Counter) else activations
    return counts


def _fused(inputs: list[Any], _outputs: list[Any]) -> int:
    """Return the multiply-accumulates of both products of softmax(Q K') V."""
    *batch, queries, depth = get_shape(inputs[0])
    *_, keys, value_depth = get_shape(inputs[2])
    products: int = math.prod(batch) * queries * keys * (depth + value_depth)
    return products


def _attention_on_cpu(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)
    return flops


_EXTRA_COUNTERS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_on_cpu}
"""Counters of operators that some versions of torch do not count."""


@contextmanager
def _explicit_attention() -> Iterator[None]:
    """Disable the fused evaluation path of `nn.MultiheadAttention`, which is not counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
