"""Fusing of arbitrary networks for deployment: batch norms are folded into convolutions."""

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
"""Largest difference of outputs of a fused network, as a share of the largest output."""

# exactly these types: subclasses may compute something else
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)


class UnfusableError(Exception):
    """A network cannot be traced, or its outputs change when it is fused."""


def fuse_model(network: nn.Module, images: Tensor) -> nn.Module:
    """Return a fused copy in evaluation mode: branches merged, norms folded into convolutions.

    Merges the branches that timm can merge, then folds every batch norm that is the only user of a
    convolution. The network itself is not changed.

    Args:
        network: any network.
        images: images for comparing the outputs of the two forms.

    Raises:
        UnfusableError: the network cannot be traced, or its outputs change.
    """
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        expected = network(images)
        try:
            network = reparameterize_model(network, inplace=True)
            _fold_norms(network)
            difference = (network(images) - expected).abs().max() / expected.abs().max()
        except Exception as error:  # tracing runs the network's code on proxies of tensors
            raise UnfusableError(f"cannot be traced: {error}") from error
    if not difference <= TOLERANCE:
        raise UnfusableError(f"its outputs change by {difference:.1e} when its norms are folded")
    return network


class _Tracer(fx.Tracer):
    """A tracer with batch norms and timm's untraceable modules as leaves."""

    def __init__(self) -> None:
        functions, modules = (
            tuple(get())  # type: ignore[no-untyped-call]
            for get in (get_notrace_functions, get_notrace_modules)
        )
        super().__init__(autowrap_functions=functions)
        self._leaves = (nn.BatchNorm2d, *modules)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self._leaves) or super().is_leaf_module(m, module_qualified_name)


def _fold_norms(network: nn.Module) -> None:
    """Fold norms in place; the trace tells which convolutions have a norm as their only user."""
    graph = _Tracer().trace(network)
    modules = dict(network.named_modules())
    calls = {node: modules[str(node.target)] for node in graph.nodes if node.op == "call_module"}
    uses = Counter(calls.values())
    for node, norm in calls.items():
        source = node.args[0]
        conv = calls.get(source) if isinstance(source, fx.Node) else None
        if conv is None or type(norm) not in _NORMS or type(conv) not in _CONVOLUTIONS:
            continue
        if len(source.users) == uses[conv] == uses[norm] == 1:
            network.set_submodule(str(source.target), fuse_conv_bn_eval(conv, norm))
            network.set_submodule(str(node.target), getattr(norm, "act", nn.Identity()))
