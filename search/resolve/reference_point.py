"""The reference point of a study's hypervolume, computed once when the ledger is created."""

import math

from partialnas.search.resolve.resolved_study import ResolvedStudy, sample_space
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import compute_cost

_SAMPLE = 64
_MARGIN = 1.1


def reference_point(resolved: ResolvedStudy) -> dict[str, float]:
    """Return the worst value of each objective; values stated in the study take precedence.

    Defaults: log-likelihood of guessing, 0 for accuracy and throughput, and 1.1 times the most
    expensive of the arms and of some networks of the space for counted quantities. Objectives
    without a natural worst value, such as latency, are omitted; the hypervolume then uses the
    worst trial.
    """
    study, classes = resolved.study, resolved.conditions[0].task.classes
    worst = {"val_nll": math.log(classes), "val_accuracy": 0.0, "throughput_img_s": 0.0}
    worst |= _worst_costs(resolved) | study.reference_point
    return {name: worst[name] for name in study.objectives if name in worst}


def _worst_costs(resolved: ResolvedStudy) -> dict[str, float]:
    """Return counted quantities of the most expensive of the arms and of sampled networks."""
    shape = resolved.conditions[0].task.input_spec
    costs = [
        compute_cost(subject, shape)
        for subject in (*resolved.arms.values(), *sample_space(resolved.space, _SAMPLE))
        if isinstance(subject, Architecture)
    ]
    if not costs:
        return {}
    names = ("params", "macs", "macs_core", "activations")
    return {name: _MARGIN * max(getattr(cost, name) for cost in costs) for name in names}
