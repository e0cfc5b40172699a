"""Find twins: variants with widths adjusted to cost as much as their baseline."""

from collections.abc import Callable

from partialnas.runs.config.design import CostMatch, MatchCriterion
from partialnas.search.ablation.compile import Matcher
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.variant import Variant
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
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

    twins: dict[tuple[Architecture, str], tuple[Plan, CostMatch]] = {}

    def find_twin(variant: Variant, reference: Variant) -> tuple[Variant, CostMatch]:
        """Return the twin of a variant; strata that differ in their recipe have the same ones."""
        key = reference.architecture(), repr((variant.plan, variant.stage_settings))
        if key not in twins:
            twins[key] = match_cost(variant, key[0])
        plan, matched = twins[key]
        return variant.with_plan(plan), matched

    def match_cost(variant: Variant, base: Architecture) -> tuple[Plan, CostMatch]:
        def build(plan: Plan) -> Architecture:
            return variant.with_plan(plan).architecture()

        before = variant.plan
        if match == "latency":
            target, latency_ms = _latency(base, build, condition)
            twin = latency_matched_twin(before, target, latency_ms, tolerance, build=build)
        else:
            shape = condition.task.input_spec

            def plan_cost(plan: Plan) -> float:
                return formula_cost(build(plan), match, shape)

            target = formula_cost(base, match, shape)
            twin = cost_matched_twin(before, target, plan_cost, tolerance, build)
        after = twin.plan
        return after, CostMatch(
            quantity=match,
            target=target,
            before=twin.original_cost,
            reached=twin.final_cost,
            width=(before.widths, after.widths),
            mlp_ratio=(str(before.mlp_ratio), str(after.mlp_ratio)),
            problem=twin.problem,
        )

    return find_twin


def _latency(
    base: Architecture, build: Callable[[Plan], Architecture], condition: Condition
) -> tuple[float, Callable[[Plan], float]]:
    """Return the latency of a baseline in ms, and a function that measures that of a plan.

    Timings alternate with the baseline so that drift cancels.
    """
    from partialnas.runs.measure.measure import measure  # imports torch

    task, protocol = condition.task, condition.protocol
    target = measure(base, task, protocol, base).latency_ms

    def latency_ms(plan: Plan) -> float:
        relative = measure(build(plan), task, protocol, base).relative_throughput
        assert relative is not None  # the baseline was timed as the reference
        return target / relative

    return target, latency_ms
