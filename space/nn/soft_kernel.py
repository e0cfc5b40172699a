"""The kernel of a convolution over a soft span of channels.

Each entry of the kernel connects two channels. Its weight is the share of the channel that is
nearer to the edge of the part. One convolution with such a kernel equals the mixture of the
convolutions over all nested spans. If channels are shared with identity parts, the center of the
kernel passes them through.

While a network learns its ratios, the kernels of a step are leaves outside autograd, and their
gradients are passed on to the weights and the shares in a few operations (`DetachedKernels`).
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Span(NamedTuple):
    """Channels from `low` up to but not including `high`."""

    low: int
    high: int

    @property
    def slice(self) -> slice:
        """The channels as an index."""
        return slice(self.low, self.high)


class ShareSum(NamedTuple):
    """Per-channel weight of some parts together, as a signed sum of the shares of boundaries.

    Attributes:
        constant: 1 if the last part, which has no boundary at its end, is one of them; else 0.
        terms: sign and flat positions among all shares, for each boundary of the parts.
    """

    constant: int
    terms: list[tuple[int, Tensor]]

    def evaluate(self, shares: Tensor) -> Tensor:
        """Return the sums for these shares."""
        (sign, positions), *others = self.terms
        total = shares.take(positions)
        if sign < 0:
            total.neg_()
        for sign, positions in others:
            total.add_(shares.take(positions), alpha=sign)
        return total.add_(self.constant) if self.constant else total

    def add_gradient(self, gradient: Tensor, total: Tensor) -> None:
        """Add a gradient with respect to the sums to the flat gradient of the shares."""
        for sign, positions in self.terms:
            total.index_add_(0, positions.flatten(), gradient.flatten(), alpha=sign)


def share_sum(
    parts: Iterable[int], channels: Tensor, shape: tuple[int, int], device: torch.device | None
) -> ShareSum:
    """Return the per-channel weight of some parts together.

    Args:
        parts: positions of the parts; not all parts of the block.
        channels: channels, in any shape.
        shape: shape of the shares, P - 1 and C.
        device: device of the shares.
    """
    boundaries, width = shape
    ends: dict[int, int] = {}
    for part in parts:
        ends[part] = ends.get(part, 0) + 1
        ends[part - 1] = ends.get(part - 1, 0) - 1
    terms = [
        (sign, to_device(channels + boundary * width, device))
        for boundary, sign in ends.items()
        if sign and 0 <= boundary < boundaries
    ]
    return ShareSum(ends.get(boundaries, 0), terms)


def to_device(values: Tensor, device: torch.device | None) -> Tensor:
    """Copy values from the CPU to a device; a GPU does not wait for them."""
    if device is not None and device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class SoftKernel(NamedTuple):
    """The kernel that a convolution has on some of its channels.

    Attributes:
        span: channels that it works on.
        entries: span x span x 1 x 1, the weight of each entry; None for 1.
        kept: share with which each of the last channels of the span is passed through, or None.
    """

    span: Span
    entries: ShareSum | None = None
    kept: ShareSum | None = None

    def sliced(self, weight: Tensor) -> Tensor:
        """Return the entries of a weight for the channels of the span."""
        return weight[self.span.slice, self.span.slice]

    def mask(self, shares: Tensor | None) -> Tensor | None:
        """Return the weight of each entry for (P - 1) x C shares."""
        if self.entries is None or shares is None:
            return None
        return self.entries.evaluate(shares)

    def mix(self, sliced: Tensor, mask: Tensor | None, shares: Tensor | None) -> Tensor:
        """Return the kernel: the sliced weight times the mask, and the channels passed through."""
        if mask is None:
            return sliced
        kernel = sliced * mask
        if self.kept is not None and shares is not None:
            kept = self.kept.evaluate(shares)
            _center(kernel, len(kept)).add_(kept)
        return kernel

    def add_gradient(self, gradient: Tensor, sliced: Tensor, slopes: Tensor) -> None:
        """Add the gradient with respect to the shares, given that of the kernel."""
        flat = slopes.view(-1)
        if self.entries is not None:
            self.entries.add_gradient((gradient * sliced).sum((2, 3)), flat)
        if self.kept is not None:
            (_, positions), *_ = self.kept.terms
            self.kept.add_gradient(_center(gradient, len(positions)), flat)


class DetachedKernels:
    """Kernels of the convolutions of a mixer during one forward and backward pass.

    Autograd would slice, multiply and add whole weights in every pass. Between `detach` and
    `attach`, kernels are leaves instead; `attach` passes their gradients on. Outside, kernels are
    computed from the weights by autograd, with the same values and gradients.
    """

    def __init__(self) -> None:
        self._leaves: dict[nn.Conv2d, _KernelLeaf] | None = None
        self._shares: Tensor | None = None
        self._earlier: Tensor | None = None

    def detach(self, shares: Tensor | None = None) -> None:
        """Compute kernels outside autograd from now on, each when it is first used.

        Args:
            shares: shares of all kernels that are not hard.
        """
        self._leaves, self._shares = {}, shares
        if shares is not None:  # gradients of passes are added up one by one
            self._earlier, shares.grad = shares.grad, None

    def kernel(self, conv: nn.Conv2d, soft: SoftKernel, shares: Tensor | None = None) -> Tensor:
        """Return the kernel of a convolution for (P - 1) x C shares; no shares if it is hard."""
        weight = conv.weight
        if self._leaves is None or not weight.is_leaf:  # a parametrized weight is computed
            sliced = soft.sliced(weight)
            return soft.mix(sliced, soft.mask(shares), shares)
        if conv not in self._leaves:
            self._leaves[conv] = _KernelLeaf(weight, soft, shares)
        return self._leaves[conv].kernel

    @torch.no_grad()
    def attach(self) -> None:
        """Add the gradients of the kernels to those of weights and shares, and drop the kernels."""
        leaves, self._leaves = self._leaves or {}, None
        for leaf in reversed(leaves.values()):  # as autograd does
            leaf.pass_on_gradient()
        if self._shares is not None and self._earlier is not None:
            _add_gradient(self._shares, self._earlier)
        self._shares = self._earlier = None


class _KernelLeaf:
    """A kernel outside autograd, with what its gradient is multiplied by."""

    @torch.no_grad()
    def __init__(self, weight: Tensor, soft: SoftKernel, shares: Tensor | None) -> None:
        self._weight, self._soft, self._shares = weight, soft, shares
        self._sliced = soft.sliced(weight)
        self._mask = soft.mask(shares)
        kernel = soft.mix(self._sliced, self._mask, shares)
        self.kernel = (kernel.clone() if kernel is self._sliced else kernel).requires_grad_()

    def pass_on_gradient(self) -> None:
        gradient = self.kernel.grad
        if gradient is None:
            return
        whole = torch.zeros_like(self._weight)
        if self._mask is None:
            self._soft.sliced(whole).copy_(gradient)
        else:
            torch.mul(gradient, self._mask, out=self._soft.sliced(whole))
        _add_gradient(self._weight, whole)
        if self._shares is not None and self._shares.requires_grad:
            slopes = torch.zeros_like(self._shares)
            self._soft.add_gradient(gradient, self._sliced, slopes)
            _add_gradient(self._shares, slopes)


def _add_gradient(leaf: Tensor, gradient: Tensor) -> None:
    leaf.grad = gradient if leaf.grad is None else leaf.grad.add_(gradient)


def shallower_channels(span: Span, start: float, end: float) -> Tensor:
    """Return the channel nearer to the edge of the part, for each pair of channels of a span.

    If the shares differ, it is the channel with the smaller share. If they are equal, it is the one
    that the nearest boundary reaches first. Hard boundaries then learn the effect of adding or
    removing channels: exactly with one boundary, approximately with two.

    Args:
        span: the channels.
        start: boundary at the start of the part, or minus infinity.
        end: boundary at the end of the part, or infinity.
    """
    channels = torch.arange(span.low, span.high)
    if math.isfinite(start + end):
        end = depth_threshold(start, end) - start
    depth = torch.minimum(channels + 0.5 - start, end - channels - 0.5)
    rows = channels[:, None].expand(-1, len(channels))
    return torch.where(depth[:, None] < depth, rows, rows.T)[:, :, None, None]


def depth_threshold(start: float, end: float) -> float:
    """Return the threshold that orders two channels at opposite ends of a part by depth.

    The sum of their centers is below or above it, and never equal to it. Parts with the same
    threshold have the same order of channels.
    """
    return math.floor(start + end) + 0.5


def _center(weight: Tensor, count: int) -> Tensor:
    """Return the center entries that map each of the last channels to itself."""
    return weight[:, :, 1, 1].diagonal()[-count:]
