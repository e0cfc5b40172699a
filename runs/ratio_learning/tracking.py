"""Learned ratios during training: choice of the method, and a record of each epoch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.devices.precision import precision_settings
from partialnas.runs.ratio_learning.diagnostics import gap_warnings, learning_warnings
from partialnas.runs.ratio_learning.gates import GateLearner
from partialnas.runs.ratio_learning.input_dependent import InputDependentLearner, OptionIndices
from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.runs.ratio_learning.thresholds import ThresholdLearner
from partialnas.runs.records.record import RatioEpoch
from partialnas.space.arch.architecture import Architecture, Boundary
from partialnas.space.deploy.freeze import freeze, learned_mixers
from partialnas.space.nn.dpconv import InputDependentMixer
from partialnas.space.nn.network import Network

_BATCH = 250
_NOISE = 0.5  # standard deviation of the noise added to normalized images


def make_ratio_learner(
    network: nn.Module, resolution: int, steps: int, freeze: float, every: int = 1
) -> RatioLearner | None:
    """Return the learner of a network's ratios, or None if it has no learned ratios.

    Args:
        network: network with its initial weights; its boundaries are set to their start.
        resolution: side of the images in pixels, on which costs depend.
        steps: steps of the whole training.
        freeze: share of the steps after which ratios are fixed.
        every: steps from one move of the boundaries to the next.

    Raises:
        UserError: The budget cannot be reached; the message gives the possible range.
    """
    if not isinstance(network, Network) or network.architecture.learned is None:
        return None
    learned = network.architecture.learned
    learner: type[RatioLearner] = GateLearner if learned.method == "gates" else ThresholdLearner
    if learned.per == "input":
        learner = InputDependentLearner
    return learner(network, resolution, steps, freeze, every)


def ratio_epoch(
    learner: RatioLearner,
    network: Network,
    val: DeviceSplit,
    epoch: int,
    *,
    frozen: bool,
    last: bool,
) -> RatioEpoch:
    """Return the record of the learned ratios after an epoch.

    Args:
        learner: learner of the ratios.
        network: network that is evaluated.
        val: validation images.
        epoch: epoch, counted from 1.
        frozen: whether the ratios were fixed in this epoch.
        last: whether this is the last epoch.
    """
    boundaries = network.architecture.boundaries
    if isinstance(learner, InputDependentLearner):
        facts = _input_dependent_facts(learner, network, val, last=last)
    else:
        sizes = {b.name: learner.sizes[b[:2]][b.part] for b in boundaries}
        facts = {"channels": sizes, "used_macs": learner.used_macs()}
    widths = {b.name: network.architecture.widths[b.stage] for b in boundaries}
    warnings = learning_warnings(learner) if frozen else []
    gap = relative_logit_gap(network, val) if last else None
    if gap is not None:
        warnings += gap_warnings(gap)
    static = frozen_architecture(learner, network.architecture) if last else None
    return RatioEpoch(
        epoch=epoch,
        ratios={name: size / widths[name] for name, size in facts["channels"].items()},
        budget_macs=learner.budget_macs,
        multiplier=learner.multiplier,
        gradient_norm=learner.pop_gradient_norm(),
        ramp=max(getattr(mixer, "ramp", 0.0) for mixer in learner.mixers.values()),
        warnings=tuple(warnings),
        gap=gap,
        frozen=static.digest if static is not None else None,
        **facts,
    )


@torch.no_grad()
def relative_logit_gap(network: Network, val: DeviceSplit) -> float:
    """Return the difference between the trained and the deployed form of a network.

    This is the largest difference of logits over the largest logit on validation images: between
    the network with learned ratios and its frozen form, or with input-dependent ratios between
    masked images and images grouped by size. Both run in strict float32, whatever the training's
    precision is.
    """
    images = next(iter(val.sequential_batches(_BATCH)))[0]
    network.eval()
    with precision_settings("float32", images.device):
        logits = network(images)
        if network.architecture.learned is not None and network.architecture.learned.per == "input":
            with _masked(network):
                other = network(images)
        else:
            other = freeze(network).eval()(images)
    return float((logits - other).abs().max() / logits.abs().max())


@contextmanager
def _masked(network: nn.Module) -> Iterator[None]:
    """Let the mixers of a network in evaluation mode use masks as in training."""
    mixers = [m for m in learned_mixers(network).values() if isinstance(m, InputDependentMixer)]
    for mixer in mixers:
        mixer.training = True
    try:
        yield
    finally:
        for mixer in mixers:
            mixer.training = False


def calibrate_to_budget(learner: RatioLearner, network: nn.Module, val: DeviceSplit) -> None:
    """Make input-dependent ratios meet the budget on the validation images."""
    if isinstance(learner, InputDependentLearner):

        def choose() -> OptionIndices:
            learner.copy_to(network)
            return chosen_sizes(network, val)

        learner.calibrate(choose)


@torch.no_grad()
def chosen_sizes(network: nn.Module, pool: DeviceSplit, kind: str = "clean") -> OptionIndices:
    """Return the position of each image's sizes in the options of each mixer."""
    mixers = learned_mixers(network)
    indices: dict[tuple[int, int], list[Tensor]] = {block_index: [] for block_index in mixers}
    network.eval()
    for x, _ in pool.sequential_batches(_BATCH):
        network(_KINDS[kind](x))
        for block_index, mixer in mixers.items():
            assert isinstance(mixer, InputDependentMixer)
            assert mixer.option_indices is not None
            indices[block_index].append(mixer.option_indices.cpu())
    return {block_index: torch.cat(batches) for block_index, batches in indices.items()}


def _noisy(x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return x + _NOISE * torch.randn(x.shape, generator=generator).to(x)


def _blurred(x: Tensor) -> Tensor:
    for _ in range(2):
        x = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return x


def _low_resolution(x: Tensor) -> Tensor:
    small = functional.avg_pool2d(x, 2, ceil_mode=True)
    return functional.interpolate(small, size=x.shape[-2:])


_KINDS = {
    "clean": lambda x: x,
    "blurred": _blurred,
    "noisy": _noisy,
    "low-resolution": _low_resolution,
}
"""Variants of the validation images, by name."""


def _input_dependent_facts(
    learner: InputDependentLearner, network: Network, val: DeviceSplit, *, last: bool
) -> dict[str, Any]:
    chosen = chosen_sizes(network, val)
    learner.record_sizes(chosen)
    boundaries = network.architecture.boundaries
    channels = {b.name: _channels(learner, b, chosen) for b in boundaries}
    labels = val.labels.cpu()
    kinds = {kind: chosen_sizes(network, val, kind) for kind in _KINDS} if last else {}
    width = network.architecture.widths
    return {
        "channels": {name: float(sizes.mean()) for name, sizes in channels.items()},
        "used_macs": learner.mean_macs(chosen),
        "distribution": {name: _shares(sizes) for name, sizes in channels.items()},
        "per_class": {
            b.name: {
                str(int(label)): float(channels[b.name][labels == label].mean()) / width[b.stage]
                for label in labels.unique()
            }
            for b in boundaries
        },
        "per_kind": {
            b.name: {
                kind: float(_channels(learner, b, sizes).mean()) / width[b.stage]
                for kind, sizes in kinds.items()
            }
            for b in boundaries
            if last
        },
    }


def _channels(learner: InputDependentLearner, boundary: Boundary, chosen: OptionIndices) -> Tensor:
    """Return the channels of the learned part of a block for each image."""
    mixer: InputDependentMixer = learner.mixers[boundary[:2]]
    sizes = torch.tensor([float(option[boundary.part]) for option in mixer.options])
    return sizes[chosen[boundary[:2]]]


def _shares(sizes: Tensor) -> dict[str, float]:
    values, counts = sizes.unique(return_counts=True)
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    return {f"{value:.0f}": count / len(sizes) for value, count in pairs}


def frozen_architecture(learner: RatioLearner, architecture: Architecture) -> Architecture | None:
    """Return the static architecture of the learned ratios; None if they are input-dependent."""
    if isinstance(learner, InputDependentLearner):
        return None
    whole = {block_index: [*map(int, sizes)] for block_index, sizes in learner.sizes.items()}
    return architecture.frozen(whole)
