"""Find twins: variants with widths adjusted to cost as much as their baseline."""

from dataclasses import dataclass
from typing import Literal

from partialnas.runs.config.design import CostMatch, MatchCriterion
from partialnas.search.ablation.compile import Matcher
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.variant import Variant
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.resizing import Twin
from partialnas.space.cost.cost import formula_cost
from partialnas.space.cost.match_cost import cost_matched_twin
from partialnas.space.cost.match_latency import latency_matched_twin


def make_matcher(match: MatchCriterion, tolerance: float, condition: Condition) -> Matcher | None:
    """Return a function that finds cost-matched twins, or None if `match` is `none`.

    Args:
        match: the cost to match.
        tolerance: largest relative difference.
        condition: the task, and how latency is measured.
    """
    if match == "none":
        return None
    if match == "latency":
        return _LatencyMatcher(tolerance, condition)
    return _FormulaMatcher(match, tolerance, condition)


@dataclass(frozen=True)
class _FormulaMatcher:
    """Matches a cost that is computed by formula."""

    quantity: Literal["macs", "params"]
    tolerance: float
    condition: Condition

    def __call__(self, variant: Variant, reference: Variant) -> tuple[Variant, CostMatch]:
        def build(plan: Plan) -> Architecture:
            return variant.with_plan(plan).architecture()

        def plan_cost(plan: Plan) -> float:
            return self._cost(build(plan))

        target = self._cost(reference.architecture())
        twin = cost_matched_twin(variant.plan, target, plan_cost, self.tolerance, build)
        return _matched(variant, twin, self.quantity, target)

    def _cost(self, network: Architecture) -> float:
        task = self.condition.task
        return formula_cost(network, self.quantity, task.input_spec)


@dataclass(frozen=True)
class _LatencyMatcher:
    """Matches measured latency; timings alternate with the baseline so that drift cancels."""

    tolerance: float
    condition: Condition

    def __call__(self, variant: Variant, reference: Variant) -> tuple[Variant, CostMatch]:
        from partialnas.runs.measure.measure import measure  # imports torch

        base = reference.architecture()
        task, protocol = self.condition.task, self.condition.protocol
        target = measure(base, task, protocol, base).latency_ms

        def build(plan: Plan) -> Architecture:
            return variant.with_plan(plan).architecture()

        def latency_ms(plan: Plan) -> float:
            relative = measure(build(plan), task, protocol, base).relative_throughput
            assert relative is not None  # the baseline was timed as the reference
            return target / relative

        twin = latency_matched_twin(variant.plan, target, latency_ms, self.tolerance, build=build)
        return _matched(variant, twin, "latency", target)


def _matched(
    variant: Variant, twin: Twin, quantity: MatchCriterion, target: float
) -> tuple[Variant, CostMatch]:
    before, after = variant.plan, twin.plan
    return variant.with_plan(after), CostMatch(
        quantity=quantity,
        target=target,
        before=twin.original_cost,
        reached=twin.final_cost,
        width=(before.widths, after.widths),
        mlp_ratio=(str(before.mlp_ratio), str(after.mlp_ratio)),
        problem=twin.problem,
    )
