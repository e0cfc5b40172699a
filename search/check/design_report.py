"""What `check` says of an ablation: its arms, their cost, and what they can show."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

from partialnas.analysis.stats.multiple_comparisons import detectable
from partialnas.runs.config.design import Design, DesignArm
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import cost


def design_lines(prepared: ResolvedStudy) -> Iterator[str]:
    """The design of a study's ablation as a table, and what is left out of it."""
    design = prepared.design
    if design is None:
        return
    matched = (
        "" if design.match == "none" else f", equal {design.match} ±{100 * design.tolerance:g}%"
    )
    against = f", within {' and '.join(design.within)}" if design.within else ""
    yield f"design: {design.kind}, {len(design.arms)} arms{matched}{against}"
    rows: list[tuple[str, ...]] = [("arm", "params", "macs", "against", "to baseline", "twin")]
    rows += [_row(prepared, design, arm) for arm in design.arms]
    yield from _aligned(rows)
    for line in design.aliases:
        yield f"fraction: {line}"
    why = attrgetter("reason")
    for reason, left in groupby(sorted(design.left_out, key=why), why):
        combinations = [*left]
        told = "; ".join(_combination(each.levels) for each in combinations[:3])
        more = f" and {len(combinations) - 3} more" if len(combinations) > 3 else ""
        yield f"left out: {len(combinations)} ({told}{more}): {reason}"


def _combination(levels: dict[str, str]) -> str:
    return ", ".join(f"{name}={level}" for name, level in levels.items())


def _row(prepared: ResolvedStudy, design: Design, arm: DesignArm) -> tuple[str, ...]:
    params, macs = _cost(prepared, arm.name)
    if arm.against is None:
        return (arm.name, f"{params:,}", f"{macs:,}", "", "", "")
    base = _cost(prepared, arm.against)
    share = f"{(params / base[0] if design.match == 'params' else macs / base[1]) - 1:+.1%}"
    if arm.matched and design.match == "latency":
        share = f"{arm.matched.error:+.1%}"
    return (arm.name, f"{params:,}", f"{macs:,}", arm.against, share, _twin(arm))


def _cost(prepared: ResolvedStudy, name: str) -> tuple[int, int]:
    network, task = prepared.arms[name], prepared.conditions[0].task
    assert isinstance(network, Architecture), "a design's arms are made of settings"
    counted = cost(network, task.input_spec)
    return counted.params, counted.macs


def _twin(arm: DesignArm) -> str:
    """How an arm's widths were adjusted."""
    found = arm.matched
    if found is None:
        return ""
    if found.problem:
        return f"unmatched: {found.problem}"
    changes = []
    if found.width[0] != found.width[1]:
        before, after = ("-".join(map(str, widths)) for widths in found.width)
        changes.append(f"width {before} -> {after}")
    if found.mlp_ratio[0] != found.mlp_ratio[1]:
        changes.append("mlp_ratio {} -> {}".format(*found.mlp_ratio))
    return ", ".join(changes) or "as it is"


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Rows with columns of one width, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if index in (1, 2, 4) else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()


def power_lines(prepared: ResolvedStudy, deviation: float | None) -> Iterator[str]:
    """What the contrasts of a study can resolve with its seeds.

    Args:
        prepared: the study.
        deviation: between seeds, in what the study decides by; None where it is not known.
    """
    pairs = len(prepared.contrasts)
    if not pairs or prepared.study.search is not None:
        return
    seeds, quantity = prepared.study.first_seeds, prepared.study.decision_quantity
    if seeds < 2:
        yield "power: none: with a single seed nothing can be concluded; set seeds: 3 or more"
        return
    arms = len(prepared.arms) + len(prepared.controls)
    unit = detectable(1.0, pairs, arms, seeds)
    told = f"{unit:.2f} deviations between seeds"
    if deviation is not None:
        told = f"{unit * deviation:.4g} in {quantity} ({told} of {deviation:.4g})"
    yield (
        f"power: with {seeds} seeds a difference of {told} is found with 80 % probability, all "
        f"{pairs} intervals holding together at 95 %"
    )
    if deviation is None:
        yield (
            f"power: state ablation.deviation: {{{quantity}: VALUE}}, or measure it with --pilot 5"
        )
