"""The reference point of a study's hypervolume: fixed when the study begins, the same for good."""

import math
import random

from partialnas.runs.records.subject import Subject
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import cost
from partialnas.space.cost.formulas import NetworkCost

_SAMPLE = 64
_MARGIN = 1.1


def reference_point(prepared: ResolvedStudy) -> dict[str, float]:
    """A worst value of each objective, those that the study states before what follows here.

    Log-likelihood: that of guessing. Accuracy and throughput: 0. Counted quantities: a tenth more
    than the dearest of the arms and of some networks of the space. For what has no worst value,
    such as latency, none: the hypervolume then takes the worst of the trials at hand.
    """
    classes = prepared.conditions[0].task.classes
    natural = {"val_nll": math.log(classes), "val_accuracy": 0.0, "throughput_img_s": 0.0}
    study = prepared.study
    known = natural | _dearest(prepared) | study.reference_point
    return {name: known[name] for name in study.objectives if name in known}


def _dearest(prepared: ResolvedStudy) -> dict[str, float]:
    costs = [_cost(prepared, each) for each in _networks(prepared)]
    if not costs:
        return {}
    names = ("params", "macs", "macs_core", "activations")
    return {name: _MARGIN * max(getattr(each, name) for each in costs) for name in names}


def _networks(prepared: ResolvedStudy) -> list[Architecture]:
    """The arms, and some networks of the space, always the same."""
    space, rng = prepared.space, random.Random(0)
    sampled: list[Subject] = (
        [space.architecture(space.sample(rng)) for _ in range(_SAMPLE)] if space else []
    )
    everyone = [*prepared.arms.values(), *sampled]
    return [each for each in everyone if isinstance(each, Architecture)]


def _cost(prepared: ResolvedStudy, network: Architecture) -> NetworkCost:
    task = prepared.conditions[0].task
    return cost(network, task.input_spec)
