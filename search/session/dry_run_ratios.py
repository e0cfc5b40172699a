"""Learned ratios as a rehearsal makes them up: legal ones, within the budget of the network."""

import math
import random
from collections.abc import Mapping

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
    """The learned ratios epoch by epoch, from where they start to some that the budget allows."""
    found = learned_blocks(architecture, task.input_spec)
    allowed = allowed_macs(architecture, task.input_spec)
    ends = _settled(found, allowed, random.Random(seed))
    starts = {slot.block_index: slot.start for slot in found}
    rows = []
    for epoch in range(1, epochs + 1):
        last = epoch == epochs
        way = epoch / epochs
        sizes: dict[BlockIndex, tuple[float, ...]] = {
            place: end if last else _between(starts[place], end, way) for place, end in ends.items()
        }
        used = sum(slot.macs([round(size) for size in sizes[slot.block_index]]) for slot in found)
        rows.append(_row(architecture, task, sizes, epoch, float(used), allowed, last=last))
    return tuple(rows)


def _settled(
    found: tuple[LearnedBlock, ...] | list[LearnedBlock], allowed: int | None, rng: random.Random
) -> dict[BlockIndex, PartSizes]:
    wanted = [
        [size * math.exp(rng.gauss(0, _SPREAD)) for size in slot.learned_sizes(slot.start)]
        for slot in found
    ]
    return project_to_budget(found, wanted, allowed)


def _between(start: PartSizes, end: PartSizes, way: float) -> tuple[float, ...]:
    return tuple((1 - way) * a + way * b for a, b in zip(start, end, strict=True))


def _row(
    architecture: Architecture,
    task: Task,
    sizes: Mapping[BlockIndex, tuple[float, ...]],
    epoch: int,
    used: float,
    allowed: int | None,
    *,
    last: bool,
) -> RatioEpoch:
    channels = {b.name: float(sizes[b[:2]][b.part]) for b in architecture.boundaries}
    widths = {b.name: architecture.widths[b.stage] for b in architecture.boundaries}
    ratios = {name: size / widths[name] for name, size in channels.items()}
    learned = architecture.learned
    by_input = learned is not None and learned.per == "input"
    frozen = last and not by_input
    return RatioEpoch(
        epoch=epoch,
        channels=channels,
        ratios=ratios,
        used_macs=used,
        budget_macs=allowed,
        gradient_norm=1 / epoch,
        ramp=0.0 if last else 1 / epoch,
        gap=0.0 if last else None,
        frozen=frozen_subject(architecture, channels).digest if frozen else None,
        **(_by_input(channels, ratios, task.classes, last=last) if by_input else {}),
    )


def _by_input(
    channels: Mapping[str, float], ratios: Mapping[str, float], classes: int, *, last: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """What is told where every image has its own ratio."""
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
