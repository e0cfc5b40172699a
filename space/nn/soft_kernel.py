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
from typing import NamedTuple, Self

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

    def numel(self) -> int:
        """Return the number of sums."""
        return self.terms[0][1].numel()

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

    def mix(self, weight: Tensor, shares: Tensor | None) -> Tensor:
        """Return the kernel for (P - 1) x C shares: the masked weight, and what passes through."""
        kernel = self.sliced(weight)
        if self.entries is not None and shares is not None:
            kernel = kernel * self.entries.evaluate(shares)
        if self.kept is not None and shares is not None:
            kept = self.kept.evaluate(shares)
            _center(kernel, len(kept)).add_(kept)
        return kernel


class DetachedKernels:
    """Kernels of the convolutions of a mixer during one forward and backward pass.

    Autograd would slice, multiply and add whole weights in every pass. Between `detach` and
    `attach`, kernels are leaves instead; `attach` passes their gradients on. Outside, kernels are
    computed from the weights by autograd, with the same values and gradients.
    """

    def __init__(self) -> None:
        self._detached = False
        self._used: dict[nn.Conv2d, _KernelLeaf] = {}
        self._memory: dict[nn.Conv2d, _KernelLeaf] = {}
        self._shares: Tensor | None = None
        self._earlier: Tensor | None = None

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        """Copies of a mixer do not share its kernels."""
        return type(self), ()

    def detach(self, shares: Tensor | None = None) -> None:
        """Compute kernels outside autograd from now on, each when it is first used.

        Args:
            shares: shares of all kernels that are not hard.
        """
        self._detached, self._shares = True, shares
        if shares is not None:  # gradients of passes are added up one by one
            self._earlier, shares.grad = shares.grad, None

    def kernel(self, conv: nn.Conv2d, soft: SoftKernel, shares: Tensor | None = None) -> Tensor:
        """Return the kernel of a convolution for (P - 1) x C shares; no shares if it is hard."""
        weight = conv.weight
        if not self._detached or not weight.is_leaf:  # a parametrized weight is computed
            return soft.mix(weight, shares)
        leaf = self._used.get(conv)
        if leaf is None:
            leaf = self._memory.get(conv)
            if leaf is None or not leaf.fits(weight, soft):
                leaf = self._memory[conv] = _KernelLeaf(weight, soft)
            leaf.compute(shares)
            self._used[conv] = leaf
        return leaf.kernel

    @torch.no_grad()
    def attach(self) -> None:
        """Add the gradients of the kernels to those of weights and shares."""
        for leaf in reversed(self._used.values()):  # as autograd does
            leaf.pass_on_gradient()
        self._used.clear()
        if self._shares is not None and self._earlier is not None:
            _add_gradient(self._shares, self._earlier)
        self._detached, self._shares, self._earlier = False, None, None


class _KernelLeaf:
    """A kernel outside autograd; its memory and views serve as long as the span is the same."""

    @torch.no_grad()
    def __init__(self, weight: Tensor, soft: SoftKernel) -> None:
        self._weight, self._soft, self._address = weight, soft, weight.data_ptr()
        self._sliced = soft.sliced(weight)
        self._mask: Tensor | None = None
        self._shares: Tensor | None = None
        self.kernel = self._sliced.clone().requires_grad_()
        self._passed = None if soft.kept is None else _center(self.kernel, soft.kept.numel())

    def fits(self, weight: Tensor, soft: SoftKernel) -> bool:
        """Return whether the kernel is that of a weight, in the same memory, on the same span."""
        if weight is not self._weight or weight.data_ptr() != self._address:
            return False
        both_hard = soft.entries is None and self._soft.entries is None
        return soft is self._soft or (both_hard and soft.span == self._soft.span)

    @torch.no_grad()
    def compute(self, shares: Tensor | None) -> None:
        """Compute the kernel from the weight and (P - 1) x C shares."""
        self._shares, self.kernel.grad = shares, None
        if self._soft.entries is None or shares is None:
            self.kernel.copy_(self._sliced)
            return
        self._mask = self._soft.entries.evaluate(shares)
        torch.mul(self._sliced, self._mask, out=self.kernel)
        if self._soft.kept is not None and self._passed is not None:
            self._passed.add_(self._soft.kept.evaluate(shares))

    def pass_on_gradient(self) -> None:
        """Add the gradient of the kernel to those of the weight and the shares."""
        gradient, shares = self.kernel.grad, self._shares
        if gradient is None:
            return
        whole = torch.zeros_like(self._weight)
        if self._mask is None:
            self._soft.sliced(whole).copy_(gradient)
        else:
            torch.mul(gradient, self._mask, out=self._soft.sliced(whole))
        _add_gradient(self._weight, whole)
        if self._soft.entries is None or shares is None or not shares.requires_grad:
            return
        slopes = torch.zeros_like(shares)
        flat = slopes.view(-1)
        self._soft.entries.add_gradient((gradient * self._sliced).sum((2, 3)), flat)
        if self._soft.kept is not None:
            self._soft.kept.add_gradient(_center(gradient, self._soft.kept.numel()), flat)
        _add_gradient(shares, slopes)


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


def _center(kernel: Tensor, count: int) -> Tensor:
    """Return the center entries that map each of the last channels to itself."""
    return kernel.diagonal()[1, 1, -count:]
