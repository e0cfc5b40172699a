"""Warnings about a space before a study runs."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from partialnas.space.axes.axis import Axis
from partialnas.space.axes.decoder import Assignment
from partialnas.space.axes.levels import Label
from partialnas.space.search_space.dynamic_programming import count_points
from partialnas.space.search_space.sampling import (
    can_satisfy,
    repair,
    sample_assignment,
    sample_feasible,
)
from partialnas.space.search_space.size import MAX_ENUMERATED
from partialnas.space.validation import join_words

if TYPE_CHECKING:
    from partialnas.space.search_space.space import Space

_DRAWS = 200
_MAX_CHANGES = 12
_MIN_DRAWS_PER_LEVEL = 20
_MAX_INVALID_SHARE = 0.5


def space_warnings(space: "Space") -> list[str]:
    """Return one line per warning about a space.

    Raises:
        UserError: No network satisfies the constraints; the message gives the nearest cost.
    """
    rng, tree = random.Random(0), space.choice_tree
    sample_feasible(space, rng)
    repaired = (repair(tree, sample_assignment(tree, rng), rng) for _ in range(_DRAWS))
    buildable = [chosen for chosen in repaired if chosen is not None]
    return [
        *_single_levels(space),
        *_never_active(space, buildable),
        *_never_chosen(space, buildable),
        *_outside_constraints(space, buildable),
        *_without_effect(space, buildable),
        *_single_tokens(space, buildable),
        *_invalid_share(space),
    ]


def _single_levels(space: "Space") -> Iterator[str]:
    for axis in space.decoder.axes.values():
        if len(axis.levels) == 1:
            yield f"space.axes.{axis.name}: has only one level and varies nothing"


def _never_active(space: "Space", drawn: list[Assignment]) -> Iterator[str]:
    active = {name for chosen in drawn for name, _ in chosen}
    for axis in space.decoder.axes.values():
        if axis.name not in active:
            yield (
                f"space.axes.{axis.name}: probably has no effect: {_requirement(axis)} in none of "
                f"{len(drawn)} random networks"
            )


def _requirement(axis: Axis) -> str:
    """Return the clause that states when an axis is active."""
    condition = " under its condition" if axis.when else ""
    if axis.name == "heads":
        return f"there is self-attention{condition}"
    if axis.name == "attention":
        return f"a part uses the block's attention{condition}"
    if axis.can_be_unused:
        parts = axis.part_number + axis.name.startswith("ratio")
        return f"a block has {parts} parts{condition}"
    return "its condition is met"


def _never_chosen(space: "Space", drawn: list[Assignment]) -> Iterator[str]:
    for axis in space.decoder.axes.values():
        labels = [level.label for c in drawn for (name, _), level in c.items() if name == axis.name]
        for label in axis.labels if len(labels) >= _MIN_DRAWS_PER_LEVEL * len(axis.levels) else ():
            if label not in labels:
                yield (
                    f"space.axes.{axis.name}: {label} occurs in none of {len(drawn)} random "
                    "networks that can be built"
                )


def _outside_constraints(space: "Space", drawn: list[Assignment]) -> Iterator[str]:
    """Yield the levels that no network within the constraints has; exact for small spaces."""
    if not any(space.constraints.stated()):
        return
    counted = count_points(space.decoder)
    is_small = counted is not None and counted[1] <= MAX_ENUMERATED
    if is_small:
        every = space.choice_tree.enumerate_assignments(lambda choice, _: choice.axis.levels)
        drawn = [chosen for chosen in every if not any(space.decoder.invalid_blocks(chosen))]
    occurring = set[tuple[str, Label]]().union(*map(_labels, drawn))
    feasible = (c for c in drawn if space.satisfies(space.decoder.architecture(c)))
    outside = occurring.difference(*map(_labels, feasible))
    if not is_small:
        rng = random.Random(2)

        def is_reachable(label: tuple[str, Label]) -> bool:
            return can_satisfy(space, drawn, lambda chosen: label in _labels(chosen), rng)

        outside = {label for label in sorted(outside, key=str) if not is_reachable(label)}
    how = "is" if is_small else "was found"
    for axis in space.decoder.axes.values():
        labels = [str(label) for label in axis.labels if (axis.name, label) in outside]
        these = "this level" if len(labels) == 1 else "these levels"
        if labels:
            yield (
                f"space.axes.{axis.name}: no network with {join_words(labels, 'or')} {how} within "
                f"{space.constraints}; relax the constraints, or remove {these}"
            )


def _labels(chosen: Assignment) -> set[tuple[str, Label]]:
    """Return the names of axes with the labels that an assignment has of them."""
    return {(name, level.label) for (name, _), level in chosen.items()}


def _without_effect(space: "Space", drawn: list[Assignment]) -> Iterator[str]:
    for axis in space.decoder.axes.values():
        changes = list(_changes(space, axis, drawn))
        if changes and not any(changes):
            yield (
                f"space.axes.{axis.name}: probably has no effect: none of {len(changes)} changes "
                "of its level gave a different network"
            )


def _changes(space: "Space", axis: Axis, drawn: list[Assignment]) -> Iterator[bool]:
    """Yield whether changes of the axis give other networks, up to the first that does."""
    changed = (
        space.decoder.architecture(variation).digest != space.decoder.architecture(chosen).digest
        for chosen in drawn
        for choice in [c for c in space.choices if c.axis is axis and c.key in chosen][:1]
        for level in axis.levels
        if level != chosen[choice.key]
        for variation in islice(space.choice_tree.variations(chosen, choice, level), 1)
        if not any(space.decoder.invalid_blocks(variation))
    )
    for differs in islice(changed, _MAX_CHANGES):
        yield differs
        if differs:
            return


def _single_tokens(space: "Space", drawn: list[Assignment]) -> Iterator[str]:
    height, width = space.input_spec.height, space.input_spec.width
    stages: set[tuple[int, int]] = set()
    for chosen in drawn:
        network = space.decoder.architecture(chosen)
        sizes = network.map_sizes(height, width)
        for stage, (size, blocks) in enumerate(zip(sizes, network.realized, strict=True), 1):
            if size == (1, 1) and any(block.double_residual for block in blocks):
                stages.add((network.stem_stride, stage))
    for stride, stage in sorted(stages):
        yield (
            f"self-attention in stage {stage} with stem stride {stride} has no effect: at "
            f"{height}x{width} pixels it sees a 1x1 map, where it is constant"
        )


def _invalid_share(space: "Space") -> Iterator[str]:
    rng = random.Random(1)
    drawn = [sample_assignment(space.choice_tree, rng) for _ in range(_DRAWS)]
    invalid = [fault for one in drawn for fault in islice(space.decoder.invalid_blocks(one), 1)]
    counted = count_points(space.decoder)
    share = 1 - counted[0] / counted[1] if counted else len(invalid) / len(drawn)
    if share > _MAX_INVALID_SHARE and invalid:
        (stage, block), reason = invalid[0]
        yield (
            f"{share:.0%} of the combinations cannot be built and are skipped; for example, "
            f"stage {stage + 1}, block {block + 1}: {reason}"
        )
