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
    """Of a network that learns in these stages."""
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
    """Learning under these gradients, again and again, one for each layer."""
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
def test_layers_that_all_go_to_one_end_are_told(sign: float, word: str) -> None:
    found = run(learner_of(), [[8 * sign, 4 * sign, 2 * sign, sign]])
    assert found == [f"all layers have ended at their {word} ratio"]


def test_an_end_that_the_budget_asks_for_is_no_failure() -> None:
    least = sum(9 * 4 * (8 >> stage) ** 2 for stage in range(4))
    dense = sum(9 * (16 << stage) ** 2 * (8 >> stage) ** 2 for stage in range(4))
    cheap = learner_of(budget=1.01 * least / dense)
    assert run(cheap, [[1.0, -1.0, 1.0, -1.0]]) == []
    assert {sizes[0] for sizes in cheap.sizes.values()} == {2.0}
    assert run(learner_of(budget=0.9999), [[-1.0] * 4]) == []


def test_a_layer_that_takes_the_whole_budget_is_told() -> None:
    found = run(learner_of(budget=0.2), [[1.0, 1.0, -1.0, 1.0]])
    assert len(found) == 1
    assert found[0].startswith("stage 3, block 1 takes ")


@pytest.mark.parametrize("stages", [[2], [2, 3]])
def test_a_layer_among_few_takes_nothing_from_others(stages: list[int]) -> None:
    learner = learner_of(stages=stages, budget=0.2)
    found = run(learner, [[-1.0] + [1.0] * (len(stages) - 1)])
    assert not [sentence for sentence in found if "takes" in sentence]


def test_ratios_that_never_moved_are_told() -> None:
    assert run(learner_of(budget=0.2), [[0.0] * 4]) == ["no ratio has moved from where it started"]


def test_ratios_that_came_back_did_move() -> None:
    learner = learner_of(budget=0.2)
    learner.update_boundaries(learner.freeze_step)
    learner.max_displacement[0, 0] = 1.5
    assert learning_warnings(learner) == []


def wandered(path: float, forward: float) -> list[str]:
    learner = learner_of(budget=0.2)
    learner.update_boundaries(learner.freeze_step)
    learner.max_displacement[1, 0] = 4.0
    size = learner.sizes[1, 0][0]
    learner.late_sizes = {(1, 0): (size - forward, 32 - size + forward)}
    learner.path_lengths[1, 0] = path
    return learning_warnings(learner)


def test_ratios_that_go_to_and_fro_are_told() -> None:
    (sentence,) = wandered(path=50, forward=2)
    assert sentence.startswith("stage 2, block 1 has gone to and fro")
    assert "50 channels of way for 2 " in sentence


@pytest.mark.parametrize(("path", "forward"), [(3.9, 0), (12, 12), (9, 1)])
def test_ratios_on_their_way_or_at_rest_do_not_wander(path: float, forward: float) -> None:
    assert wandered(path, forward) == []


def test_forms_that_disagree_are_told() -> None:
    assert gap_warnings(2e-7) == []
    (sentence,) = gap_warnings(0.25)
    assert "0.25 of the largest" in sentence
