"""Simulated learned ratios of dry runs: valid, and within the network's budget."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from partialnas.runs.datasets.task import Task
from partialnas.runs.records.frozen_model import frozen_subject
from partialnas.runs.records.record import RatioEpoch
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.budget_projection import project_to_budget
from partialnas.space.cost.learned_blocks import BlockIndex, LearnedBlock, PartSizes, learned_blocks
from partialnas.space.cost.mac_budget import allowed_macs

_SPREAD = 0.4
_KINDS = {"clean": 1.0, "blurred": 0.97, "noisy": 1.05, "low-resolution": 0.95}


def simulate_ratios(
    architecture: Architecture, task: Task, epochs: int, seed: int
) -> tuple[RatioEpoch, ...]:
    """Return ratios per epoch, from their start to a random allocation within the budget."""
    blocks = learned_blocks(architecture, task.input_spec)
    allowed = allowed_macs(architecture, task.input_spec)
    ends = _random_allocation(blocks, allowed, random.Random(seed))
    starts = {block.block_index: block.start for block in blocks}
    rows = []
    for epoch in range(1, epochs + 1):
        last = epoch == epochs
        sizes: dict[BlockIndex, tuple[float, ...]] = {
            index: end if last else _interpolate(starts[index], end, epoch / epochs)
            for index, end in ends.items()
        }
        row = RatioEpoch(
            epoch=epoch,
            used_macs=sum(b.macs([round(s) for s in sizes[b.block_index]]) for b in blocks),
            budget_macs=allowed,
            gradient_norm=1 / epoch,
            ramp=0.0 if last else 1 / epoch,
            gap=0.0 if last else None,
            **_ratio_facts(architecture, task, sizes, last=last),
        )
        rows.append(row)
    return tuple(rows)


def _random_allocation(
    blocks: Sequence[LearnedBlock], allowed: int | None, rng: random.Random
) -> dict[BlockIndex, PartSizes]:
    targets = [
        [size * math.exp(rng.gauss(0, _SPREAD)) for size in block.learned_sizes(block.start)]
        for block in blocks
    ]
    return project_to_budget(blocks, targets, allowed)


def _interpolate(start: PartSizes, end: PartSizes, progress: float) -> tuple[float, ...]:
    return tuple((1 - progress) * a + progress * b for a, b in zip(start, end, strict=True))


def _ratio_facts(
    architecture: Architecture,
    task: Task,
    sizes: Mapping[BlockIndex, tuple[float, ...]],
    *,
    last: bool,
) -> dict[str, Any]:
    """Return the fields of a row that follow from the sizes of all parts."""
    channels = {b.name: float(sizes[b[:2]][b.part]) for b in architecture.boundaries}
    widths = {b.name: architecture.widths[b.stage] for b in architecture.boundaries}
    ratios = {name: size / widths[name] for name, size in channels.items()}
    facts: dict[str, Any] = {"channels": channels, "ratios": ratios}
    if architecture.learned is not None and architecture.learned.per == "input":
        return facts | _input_dependent_facts(channels, ratios, task.classes, last=last)
    return facts | {"frozen": frozen_subject(architecture, channels).digest if last else None}


def _input_dependent_facts(
    channels: Mapping[str, float], ratios: Mapping[str, float], classes: int, *, last: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the fields of input-dependent ratios."""
    return {
        "distribution": {name: {f"{size:.0f}": 1.0} for name, size in channels.items()},
        "per_class": {
            name: {str(label): ratio * (1 + 0.01 * (label % 3 - 1)) for label in range(classes)}
            for name, ratio in ratios.items()
        },
        "per_kind": {
            name: {kind: ratio * factor for kind, factor in _KINDS.items()}
            for name, ratio in ratios.items()
            if last
        },
    }
