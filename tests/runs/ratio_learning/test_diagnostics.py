from collections.abc import Sequence
from typing import Any

import pytest
import torch

from partialnas.runs.ratio_learning.diagnostics import gap_warnings, learning_warnings
from partialnas.runs.ratio_learning.learner import RatioLearner
from partialnas.runs.ratio_learning.tracking import make_ratio_learner
from partialnas.space.arch.plan import Plan
from partialnas.space.nn.network import Network

STEPS = 40


def learner_of(
    depths: tuple[int, ...] = (1, 1, 1, 1), stages: Sequence[int] = range(4), **learned: Any
) -> RatioLearner:
    """Return a learner of a network with learned ratios in these stages."""
    plan = Plan(stem_stride=1, width=16, depths=depths, head_width=16)
    architecture = plan.architecture()
    ratio = {"learned": {"grain": 2, **learned}}
    data = architecture.model_dump(mode="json")
    for index in stages:
        for block in data["stages"][index]["blocks"]:
            block["parts"][0]["ratio"] = ratio
    learner = make_ratio_learner(Network(type(architecture).from_data(data), 1, 10), 8, STEPS, 0.5)
    assert learner is not None
    return learner


def run(learner: RatioLearner, gradients: Sequence[Sequence[float]]) -> list[str]:
    """Learn from these gradients, one for each layer, repeated."""
    for step in range(learner.freeze_step):
        learner.update_boundaries(step)
        for mixer, gradient in zip(
            learner.mixers.values(), gradients[step % len(gradients)], strict=True
        ):
            mixer.shares.grad = torch.full_like(mixer.shares, gradient)
        learner.update_sizes(step)
    learner.update_boundaries(learner.freeze_step)
    return learning_warnings(learner)


@pytest.mark.parametrize(("sign", "word"), [(-1.0, "largest"), (1.0, "smallest")])
def test_layers_that_all_reach_one_end_give_a_warning(sign: float, word: str) -> None:
    warnings = run(learner_of(), [[8 * sign, 4 * sign, 2 * sign, sign]])
    assert warnings == [f"all layers ended at their {word} ratio"]


def test_an_end_that_the_budget_requires_gives_no_warning() -> None:
    least = sum(9 * 4 * (8 >> stage) ** 2 for stage in range(4))
    dense = sum(9 * (16 << stage) ** 2 * (8 >> stage) ** 2 for stage in range(4))
    cheap = learner_of(budget=1.01 * least / dense)
    assert run(cheap, [[1.0, -1.0, 1.0, -1.0]]) == []
    assert {sizes[0] for sizes in cheap.sizes.values()} == {2.0}
    assert run(learner_of(budget=0.9999), [[-1.0] * 4]) == []


def test_a_layer_that_uses_most_of_the_budget_gives_a_warning() -> None:
    warnings = run(learner_of(budget=0.2), [[1.0, 1.0, -1.0, 1.0]])
    assert len(warnings) == 1
    assert warnings[0].startswith("stage 3, block 1 uses ")


@pytest.mark.parametrize("stages", [[2], [2, 3]])
def test_a_dominant_layer_of_few_gives_no_warning(stages: list[int]) -> None:
    learner = learner_of(stages=stages, budget=0.2)
    warnings = run(learner, [[-1.0] + [1.0] * (len(stages) - 1)])
    assert not [sentence for sentence in warnings if "uses" in sentence]


def test_ratios_that_never_moved_give_a_warning() -> None:
    assert run(learner_of(budget=0.2), [[0.0] * 4]) == ["no ratio moved from its start"]


def test_ratios_that_returned_to_their_start_give_no_warning() -> None:
    learner = learner_of(budget=0.2)
    learner.update_boundaries(learner.freeze_step)
    learner.max_displacement[0, 0] = 1.5
    assert learning_warnings(learner) == []


def warnings_for(path: float, forward: float) -> list[str]:
    learner = learner_of(budget=0.2)
    learner.update_boundaries(learner.freeze_step)
    learner.max_displacement[1, 0] = 4.0
    size = learner.sizes[1, 0][0]
    learner.late_sizes = {(1, 0): (size - forward, 32 - size + forward)}
    learner.path_lengths[1, 0] = path
    return learning_warnings(learner)


def test_ratios_that_oscillate_give_a_warning() -> None:
    (warning,) = warnings_for(path=50, forward=2)
    assert warning.startswith("the ratio of stage 2, block 1 oscillated")
    assert warning.endswith("it moved 50 channels in total, but 2 from start to end")


@pytest.mark.parametrize(("path", "forward"), [(3.9, 0), (12, 12), (9, 1)])
def test_ratios_that_move_one_way_or_rest_do_not_oscillate(path: float, forward: float) -> None:
    assert warnings_for(path, forward) == []


def test_a_gap_between_the_forms_gives_a_warning() -> None:
    assert gap_warnings(2e-7) == []
    (sentence,) = gap_warnings(0.25)
    assert "0.25 of the largest" in sentence
