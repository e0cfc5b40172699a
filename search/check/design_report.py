"""Report an ablation's design before it runs: arms, their cost and detectable differences."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

from partialnas.analysis.stats.multiple_comparisons import detectable
from partialnas.runs.config.design import Design, DesignArm
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import compute_cost

_MAX_LISTED = 3
"""Number of excluded combinations that are listed for each reason."""


def design_lines(resolved: ResolvedStudy) -> Iterator[str]:
    """Yield the lines of a table of the design, and the combinations that it excludes."""
    design = resolved.design
    if design is None:
        return
    matched = (
        "" if design.match == "none" else f", equal {design.match} ±{100 * design.tolerance:g}%"
    )
    within = f", within {' and '.join(design.within)}" if design.within else ""
    yield f"design: {design.kind}, {len(design.arms)} arms{matched}{within}"
    rows: list[tuple[str, ...]] = [("arm", "params", "macs", "baseline", "difference", "twin")]
    rows += [_row(resolved, design, arm) for arm in design.arms]
    yield from _aligned(rows)
    for number, line in enumerate(design.aliases):
        yield f"{'aliased' if number else 'fraction'}: {line}"
    reason_of = attrgetter("reason")
    for reason, group in groupby(sorted(design.left_out, key=reason_of), reason_of):
        combinations = [", ".join(f"{f}={level}" for f, level in c.levels.items()) for c in group]
        listed, more = "; ".join(combinations[:_MAX_LISTED]), len(combinations) - _MAX_LISTED
        rest = f" and {more} more" if more > 0 else ""
        yield f"excluded: {len(combinations)} ({listed}{rest}): {reason}"


def _row(resolved: ResolvedStudy, design: Design, arm: DesignArm) -> tuple[str, ...]:
    params, macs = _cost(resolved, arm.name)
    if arm.against is None:
        return (arm.name, f"{params:,}", f"{macs:,}", "", "", "")
    base = _cost(resolved, arm.against)
    difference = f"{(params / base[0] if design.match == 'params' else macs / base[1]) - 1:+.1%}"
    if arm.matched and design.match == "latency":
        difference = f"{arm.matched.error:+.1%}"
    return (arm.name, f"{params:,}", f"{macs:,}", arm.against, difference, _twin(arm))


def _cost(resolved: ResolvedStudy, name: str) -> tuple[int, int]:
    network, task = resolved.arms[name], resolved.conditions[0].task
    assert isinstance(network, Architecture), "arms of a design are compiled from settings"
    cost = compute_cost(network, task.input_spec)
    return cost.params, cost.macs


def _twin(arm: DesignArm) -> str:
    """Return how the widths of an arm were adjusted."""
    match = arm.matched
    if match is None:
        return ""
    if match.problem:
        return f"unmatched: {match.problem}"
    changes = []
    if match.width[0] != match.width[1]:
        before, after = ("-".join(map(str, widths)) for widths in match.width)
        changes.append(f"width {before} -> {after}")
    if match.mlp_ratio[0] != match.mlp_ratio[1]:
        changes.append("mlp_ratio {} -> {}".format(*match.mlp_ratio))
    return ", ".join(changes) or "unchanged"


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows as text with aligned columns, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if index in (1, 2, 4) else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()


def detectable_difference(resolved: ResolvedStudy, seeds: int) -> float | None:
    """Return the smallest difference that the contrasts of a study detect with some seeds.

    It is in standard deviations between seeds; None if nothing is compared, or with one seed.
    """
    pairs = len(resolved.contrasts)
    if not pairs or resolved.study.search is not None or seeds < 2:
        return None
    arms = len(resolved.arms) + len(resolved.controls)
    return detectable(1.0, pairs, arms, seeds)


def power_lines(resolved: ResolvedStudy, deviation: float | None) -> Iterator[str]:
    """Yield what differences the contrasts of a study can detect with its seeds.

    Args:
        resolved: the study.
        deviation: standard deviation of the decision quantity between seeds, or None if unknown.
    """
    pairs = len(resolved.contrasts)
    if not pairs or resolved.study.search is not None:
        return
    seeds, quantity = resolved.study.first_seeds, resolved.study.decision_quantity
    unit = detectable_difference(resolved, seeds)
    if unit is None:
        yield "power: none: a single seed allows no conclusions; use seeds: 3 or more"
        return
    size = f"{unit:.2f} standard deviations between seeds"
    if deviation is not None:
        size = f"{unit * deviation:.4g} in {quantity} ({size} of {deviation:.4g})"
    yield (
        f"power: {seeds} seeds detect a difference of {size} with 80 % probability "
        f"({pairs} simultaneous 95 % interval{'s' * (pairs != 1)})"
    )
    if seeds == 2:
        more = (detectable_difference(resolved, 3) or 0.0) * (deviation or 1.0)
        unit_name = f" in {quantity}" if deviation else " standard deviations"
        yield f"power: two seeds say little; a third would detect {more:.3g}{unit_name}"
    if deviation is None:
        yield (
            f"power: for a value in {quantity}, set ablation.deviation: {{{quantity}: VALUE}} or "
            "estimate it with --pilot 5"
        )
