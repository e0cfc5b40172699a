"""Validate a space before anything is built."""

from collections.abc import Iterator

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import NUM_STAGES, Plan
from partialnas.space.arch.ratio import LearnedRatio, learned_ratio_conflict
from partialnas.space.axes.axis import Axis
from partialnas.space.axes.spec import SpaceSpec


def space_errors(base: Plan, spec: SpaceSpec, input_spec: InputSpec) -> list[str]:
    """What is wrong with a space beyond its own values, one line per mistake with its path."""
    axes = {name: axis.to_axis(name) for name, axis in spec.axes.items()}
    return [
        *_too_small(base, axes, input_spec),
        *_unstated_shares(base, axes),
        *_mixed_terms(axes),
        *(_unstated_budgets(base, axes) if spec.constraints.macs is not None else ()),
    ]


def _too_small(base: Plan, axes: dict[str, Axis], input_spec: InputSpec) -> Iterator[str]:
    height, width = input_spec.height, input_spec.width
    axis = axes.get("stem_stride")
    strides = [("space.axes.stem_stride", level.value) for level in (axis.levels if axis else ())]
    if axis is None or axis.when:
        strides.append(("base.stem_stride", base.stem_stride))
    for path, stride in strides:
        smallest = stride * 2 ** (NUM_STAGES - 1)
        if min(height, width) < smallest:
            yield (
                f"{path}: an input of {height}x{width} pixels is too small for a stem of stride "
                f"{stride}: the smallest that works is {smallest}x{smallest}"
            )


def _unstated_shares(base: Plan, axes: dict[str, Axis]) -> Iterator[str]:
    listed = [len(level.value) for level in axes["ratio"].levels] if "ratio" in axes else [1]
    stated = max(len(base.ratio), min(listed))
    for name, axis in axes.items():
        before = f"ratio_{axis.part_number - 1}"
        if name.startswith("ratio_") and axis.part_number - 1 > stated and before not in axes:
            yield f"space.axes.{name}: needs {before}, as an axis or in the base's ratio"


def _learned_levels(axis: Axis) -> Iterator[tuple[str, LearnedRatio]]:
    """The learned ratios that an axis can give, each with its path."""
    for level in axis.levels if axis.name.startswith("ratio") else ():
        for ratio in level.value if isinstance(level.value, tuple) else (level.value,):
            if isinstance(ratio, LearnedRatio):
                yield f"space.axes.{axis.name}: {level.label}", ratio


def _mixed_terms(axes: dict[str, Axis]) -> Iterator[str]:
    """One axis that puts different methods or budgets into one network."""
    for axis in axes.values():
        told = learned_ratio_conflict(ratio for _, ratio in _learned_levels(axis))
        if told and axis.per != "network":
            yield f"space.axes.{axis.name}: {told}, or have the axis vary per network"


def _unstated_budgets(base: Plan, axes: dict[str, Axis]) -> Iterator[str]:
    """Learned ratios whose cost a constraint cannot know before they are learned."""
    listed = axes.get("ratio")
    replaced = min(len(v.value) for v in listed.levels) if listed and not listed.when else 0
    parts = [base.parts, *(v.value for v in (axes["parts"].levels if "parts" in axes else ()))]
    for index, ratio in enumerate(base.ratio[: max(parts) - 1]):
        axis = axes.get(f"ratio_{index + 1}")
        used = index >= replaced and (axis is None or axis.when)
        if used and isinstance(ratio, LearnedRatio) and ratio.budget is None:
            yield _without_budget(f"base.ratio[{index}]" if len(base.ratio) > 1 else "base.ratio")
    for axis in axes.values():
        for path, ratio in _learned_levels(axis):
            if ratio.budget is None:
                yield _without_budget(path)


def _without_budget(path: str) -> str:
    return (
        f"{path}: a constraint on macs needs to know what learned ratios will cost; give them a "
        "budget, such as {learned: {budget: 1/4}}"
    )
