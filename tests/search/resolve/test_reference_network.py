"""The FasterNet that throughput is relative to, against a search over all widths."""

from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.runs.datasets.task import resolve_task
from partialnas.search.resolve.resolve import fasternet_near
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.cost.cost import compute_cost

TASK = resolve_task("digits")
BASE = Plan(width=12, depths=(1, 1, 2, 1), stem_stride=1, head_width=64)


def macs(architecture: Architecture) -> int:
    return compute_cost(architecture, TASK.input_spec).macs


SETTINGS = {"depths": [1, 1, 2, 1], "stem_stride": 1, "head_width": 64, "attention": "none"}
ALL = [
    Plan.model_validate({**SETTINGS, "width": width, "ratio": "1/4"}).architecture()
    for width in range(4, 257, 2)
]
COSTS = [macs(architecture) for architecture in ALL]


@settings(max_examples=30)
@given(st.sampled_from(range(len(ALL) - 1)), st.sampled_from([0.0, 0.4, 0.6, 1.0]))
def test_the_reference_is_the_nearest_of_all_widths(index: int, part: float) -> None:
    target = COSTS[index] + part * (COSTS[index + 1] - COSTS[index])
    nearest = min(ALL, key=lambda architecture: abs(macs(architecture) - target))
    assert fasternet_near(target, BASE, TASK).digest == nearest.digest


def test_targets_beyond_all_widths_give_the_first_and_the_last() -> None:
    assert fasternet_near(0, BASE, TASK).digest == ALL[0].digest
    assert fasternet_near(1e15, BASE, TASK).digest == ALL[-1].digest
