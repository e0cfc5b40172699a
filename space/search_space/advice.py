"""Checks of spaces: what is wrong with one, and what a reader of its results would stumble over."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from partialnas.space.arch.architecture import Architecture
from partialnas.space.axes.axis import Axis
from partialnas.space.axes.decoder import Assignment
from partialnas.space.search_space.dynamic_programming import count_points
from partialnas.space.search_space.sampling import repair, sample_assignment, sample_feasible

if TYPE_CHECKING:
    from partialnas.space.search_space.space import Space

_DRAWS = 200
_TRIES = 12
_EXPECTED = 20
_HIGH = 0.5


def space_warnings(space: "Space") -> list[str]:
    """What is worth knowing before a study of this space runs, one line per remark.

    Raises:
        UserError: nothing satisfies the constraints; tells the nearest value reached.
    """
    rng = random.Random(0)
    sample_feasible(space, rng)
    drawn = [repair(space.choice_tree, sample_assignment(space.choice_tree, rng), rng) for _ in range(_DRAWS)]
    buildable = [chosen for chosen in drawn if chosen is not None]
    return [
        *_single_levels(space),
        *_never_active(space, buildable),
        *_never_chosen(space, buildable),
        *_without_effect(space, buildable),
        *_single_tokens(space, buildable),
        *_invalid_share(space),
    ]


def _single_levels(space: "Space") -> Iterator[str]:
    for axis in space.decoder.axes.values():
        if len(axis.levels) == 1:
            yield f"space.axes.{axis.name}: has one level only, so that it varies nothing"


def _never_active(space: "Space", drawn: list[Assignment]) -> Iterator[str]:
    met = {name for chosen in drawn for name, _ in chosen}
    for axis in space.decoder.axes.values():
        if axis.name not in met:
            yield (
                f"space.axes.{axis.name}: cannot matter, as far as looked: in none of "
                f"{len(drawn)} random networks {_use(axis)}"
            )


def _use(axis: Axis) -> str:
    """What would give an axis a use."""
    condition = ", under its condition" if axis.when else ""
    if axis.name == "heads":
        return f"is there self-attention{condition}"
    if axis.name == "attention":
        return f"does a part take the block's attention{condition}"
    if axis.can_be_unused:
        parts = axis.part_number + axis.name.startswith("ratio")
        return f"has a block {parts} parts{condition}"
    return "does its condition hold"


def _never_chosen(space: "Space", drawn: list[Assignment]) -> Iterator[str]:
    for axis in space.decoder.axes.values():
        labels = [level.label for c in drawn for (name, _), level in c.items() if name == axis.name]
        for label in axis.labels if len(labels) >= _EXPECTED * len(axis.levels) else ():
            if label not in labels:
                yield (
                    f"space.axes.{axis.name}: {label} is in none of {len(drawn)} random networks "
                    "that can be built"
                )


def _without_effect(space: "Space", drawn: list[Assignment]) -> Iterator[str]:
    for axis in space.decoder.axes.values():
        changes = list(_changes(space, axis, drawn))
        if changes and not any(changes):
            yield (
                f"space.axes.{axis.name}: cannot matter, as far as looked: none of "
                f"{len(changes)} changes of its level gave another network"
            )


def _changes(space: "Space", axis: Axis, drawn: list[Assignment]) -> Iterator[bool]:
    """For changes of one level of an axis whether another network follows, up to the first."""
    changed = (
        space.decoder.architecture(near).digest != space.decoder.architecture(chosen).digest
        for chosen in drawn
        for choice in [c for c in space.choices if c.axis is axis and c.key in chosen][:1]
        for level in axis.levels
        if level != chosen[choice.key]
        for near in islice(space.choice_tree.variations(chosen, choice, level), 1)
        if not any(space.decoder.invalid_blocks(near))
    )
    for differs in islice(changed, _TRIES):
        yield differs
        if differs:
            return


def _single_tokens(space: "Space", drawn: list[Assignment]) -> Iterator[str]:
    met: set[tuple[int, int]] = set()
    for chosen in drawn:
        architecture = space.decoder.architecture(chosen)
        met |= {(architecture.stem_stride, stage) for stage in _attending(space, architecture)}
    for stride, stage in sorted(met):
        yield (
            f"self-attention in stage {stage} with stem stride {stride} cannot matter: it works "
            f"on a 1x1 map at this resolution ({space.input_spec.height}x{space.input_spec.width}), where it is constant"
        )


def _attending(space: "Space", architecture: Architecture) -> Iterator[int]:
    """The stages, counted from 1, with self-attention on a single position."""
    sizes = architecture.map_sizes(space.input_spec.height, space.input_spec.width)
    for stage, (size, blocks) in enumerate(zip(sizes, architecture.realized, strict=True), 1):
        if size == (1, 1) and any(block.double_residual for block in blocks):
            yield stage


def _invalid_share(space: "Space") -> Iterator[str]:
    rng = random.Random(1)
    drawn = [sample_assignment(space.choice_tree, rng) for _ in range(_DRAWS)]
    broken = [found for chosen in drawn for found in islice(space.decoder.invalid_blocks(chosen), 1)]
    counted = count_points(space.decoder)
    share = 1 - counted[0] / counted[1] if counted else len(broken) / len(drawn)
    if share > _HIGH and broken:
        (stage, block), reason = broken[0]
        yield (
            f"{share:.0%} of the combinations cannot be built and are left out; for one, "
            f"stage {stage + 1}, block {block + 1}: {reason}"
        )
