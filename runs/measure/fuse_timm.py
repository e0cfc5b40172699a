"""The deploy form of networks that are not ours: batch norms folded into their convolutions."""

import copy
from collections import Counter

import torch
from timm.layers import get_notrace_functions, get_notrace_modules  # type: ignore[attr-defined]
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.utils.model import reparameterize_model
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-4
"""Largest difference of an output over the largest output that a fused network may show."""

# exactly these: what is derived from them may compute something else
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)


class UnfusableError(Exception):
    """A network that cannot be traced, or that computes something else when fused."""


def fuse_model(network: nn.Module, images: Tensor) -> nn.Module:
    """A new module in evaluation form: branches merged, norms folded into convolutions.

    Merges what timm's model merges by itself, then folds every batch norm that follows a
    convolution and nothing else. The network is left as it is.

    Args:
        network: any network.
        images: what the outputs of the two forms are compared on.

    Raises:
        UnfusableError: the network cannot be traced, or its outputs change.
    """
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        expected = network(images)
        try:
            network = reparameterize_model(network, inplace=True)
            _fold(network)
            difference = (network(images) - expected).abs().max() / expected.abs().max()
        except Exception as error:  # tracing runs the network's own code on stand-ins for tensors
            raise UnfusableError(f"cannot be traced: {error}") from error
    if not difference <= TOLERANCE:
        raise UnfusableError(f"its outputs change by {difference:.1e} when its norms are folded")
    return network


class _Tracer(fx.Tracer):
    """Looks into modules down to those that must stay whole: norms, and what timm says."""

    def __init__(self) -> None:
        functions, modules = (
            tuple(get())  # type: ignore[no-untyped-call]
            for get in (get_notrace_functions, get_notrace_modules)
        )
        super().__init__(autowrap_functions=functions)
        self._whole = (nn.BatchNorm2d, *modules)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self._whole) or super().is_leaf_module(m, module_qualified_name)


def _fold(network: nn.Module) -> None:
    """Folds norms in place; the trace only tells which convolution's output a norm alone sees."""
    graph = _Tracer().trace(network)
    modules = dict(network.named_modules())
    calls = {node: modules[str(node.target)] for node in graph.nodes if node.op == "call_module"}
    uses = Counter(calls.values())
    for node, norm in calls.items():
        before = node.args[0]
        conv = calls.get(before) if isinstance(before, fx.Node) else None
        if conv is None or type(norm) not in _NORMS or type(conv) not in _CONVOLUTIONS:
            continue
        if len(before.users) == uses[conv] == uses[norm] == 1:
            network.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
            network.set_submodule(str(node.target), getattr(norm, "act", nn.Identity()))
