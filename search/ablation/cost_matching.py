"""Matching: twins that cost what the network costs that they are compared with."""

from dataclasses import dataclass
from typing import Literal

from partialnas.runs.config.design import CostMatch, MatchCriterion
from partialnas.search.ablation.compile import Matcher
from partialnas.search.study.condition import Condition
from partialnas.search.study.variant import Variant
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.resizing import Twin
from partialnas.space.cost.cost import formula_cost
from partialnas.space.cost.match_cost import cost_matched_twin
from partialnas.space.cost.match_latency import latency_matched_twin


def make_matcher(match: MatchCriterion, tolerance: float, condition: Condition) -> Matcher | None:
    """What finds the twins of a design; None where it wants none.

    Args:
        match: what is to be equal.
        tolerance: by which share it may differ.
        condition: gives the images, and how latency is measured.
    """
    if match == "none":
        return None
    if match == "latency":
        return _Latency(tolerance, condition)
    return _Counted(match, tolerance, condition)


@dataclass(frozen=True)
class _Counted:
    """Twins by formula."""

    quantity: Literal["macs", "params"]
    tolerance: float
    condition: Condition

    def __call__(self, variant: Variant, reference: Variant) -> tuple[Variant, CostMatch]:
        def build(plan: Plan) -> Architecture:
            return variant.with_plan(plan).architecture()

        def priced(plan: Plan) -> float:
            return self._price(build(plan))

        target = self._price(reference.architecture())
        found = cost_matched_twin(variant.plan, target, priced, self.tolerance, build)
        return _matched(variant, found, self.quantity, target)

    def _price(self, network: Architecture) -> float:
        task = self.condition.task
        return formula_cost(network, self.quantity, task.input_spec)


@dataclass(frozen=True)
class _Latency:
    """Twins by the clock: each is timed in turns with its baseline, so that drift cancels."""

    tolerance: float
    condition: Condition

    def __call__(self, variant: Variant, reference: Variant) -> tuple[Variant, CostMatch]:
        from partialnas.runs.measure.measure import measure  # takes torch

        base = reference.architecture()
        task, protocol = self.condition.task, self.condition.protocol
        target = measure(base, task, protocol, base).latency_ms

        def build(plan: Plan) -> Architecture:
            return variant.with_plan(plan).architecture()

        def timed(plan: Plan) -> float:
            relative = measure(build(plan), task, protocol, base).relative_throughput
            assert relative is not None  # it was timed beside the baseline
            return target / relative

        found = latency_matched_twin(variant.plan, target, timed, self.tolerance, build=build)
        return _matched(variant, found, "latency", target)


def _matched(
    variant: Variant, found: Twin, quantity: MatchCriterion, target: float
) -> tuple[Variant, CostMatch]:
    before, after = variant.plan, found.plan
    return variant.with_plan(after), CostMatch(
        quantity=quantity,
        target=target,
        before=found.original_cost,
        reached=found.final_cost,
        width=(before.widths, after.widths),
        mlp_ratio=(str(before.mlp_ratio), str(after.mlp_ratio)),
        problem=found.problem,
    )
