"""Validation of a space beyond its individual values."""

from collections.abc import Iterator

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import NUM_STAGES, Plan
from partialnas.space.arch.ratio import LearnedRatio, learned_ratio_conflict
from partialnas.space.axes.axis import Axis
from partialnas.space.axes.levels import as_tuple
from partialnas.space.axes.spec import SpaceSpec


def space_errors(base: Plan, spec: SpaceSpec, input_spec: InputSpec) -> list[str]:
    """Return one message per error, with its path."""
    axes = {name: axis.to_axis(name) for name, axis in spec.axes.items()}
    return [
        *_small_inputs(base, axes, input_spec),
        *_missing_ratios(base, axes),
        *_conflicting_ratios(axes),
        *(_missing_budgets(base, axes) if spec.constraints.macs is not None else ()),
    ]


def _small_inputs(base: Plan, axes: dict[str, Axis], input_spec: InputSpec) -> Iterator[str]:
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
                f"{stride}: the smallest valid input is {smallest}x{smallest}"
            )


def _missing_ratios(base: Plan, axes: dict[str, Axis]) -> Iterator[str]:
    listed = [len(level.value) for level in axes["ratio"].levels] if "ratio" in axes else [1]
    stated = max(len(base.ratio), min(listed))
    for name, axis in axes.items():
        before = f"ratio_{axis.part_number - 1}"
        if name.startswith("ratio_") and axis.part_number - 1 > stated and before not in axes:
            yield f"space.axes.{name}: requires {before}, as an axis or in base.ratio"


def _learned_levels(axis: Axis) -> Iterator[tuple[str, LearnedRatio]]:
    """Yield the learned ratios among the levels of an axis, with their paths."""
    for level in axis.levels if axis.name.startswith("ratio") else ():
        for ratio in as_tuple(level.value):
            if isinstance(ratio, LearnedRatio):
                yield f"space.axes.{axis.name}: {level.label}", ratio


def _conflicting_ratios(axes: dict[str, Axis]) -> Iterator[str]:
    """Report axes that put different methods or budgets into one network."""
    for axis in axes.values():
        conflict = learned_ratio_conflict(ratio for _, ratio in _learned_levels(axis))
        if conflict and axis.per != "network":
            yield f"space.axes.{axis.name}: {conflict}; change them, or use per: network"


def _missing_budgets(base: Plan, axes: dict[str, Axis]) -> Iterator[str]:
    """Report learned ratios without a budget, whose cost is unknown before training."""
    listed = axes.get("ratio")
    replaced = min(len(v.value) for v in listed.levels) if listed and not listed.when else 0
    parts = [base.parts, *(v.value for v in (axes["parts"].levels if "parts" in axes else ()))]
    for index, ratio in enumerate(base.ratio[: max(parts) - 1]):
        axis = axes.get(f"ratio_{index + 1}")
        used = index >= replaced and (axis is None or axis.when)
        if used and isinstance(ratio, LearnedRatio) and ratio.budget is None:
            yield _missing_budget(f"base.ratio[{index}]" if len(base.ratio) > 1 else "base.ratio")
    for axis in axes.values():
        for path, ratio in _learned_levels(axis):
            if ratio.budget is None:
                yield _missing_budget(path)


def _missing_budget(path: str) -> str:
    return (
        f"{path}: a constraint on macs requires learned ratios with a budget, such as "
        "{learned: {budget: 1/4}}"
    )
