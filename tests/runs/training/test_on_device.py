"""Training on a simulated device: no mixed devices, no waits, few launches, the results of the CPU.

The bounds are the numbers of `python benchmarks/launches.py`. Lower them when these fall; they must
not rise.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from support.simulated_device import simulated_process

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
from launches import NETWORKS, OTHERS, RECIPES, Step, count_step, losses

SLOW = pytest.mark.slow

LAUNCHES = {
    "plain": 171,
    "3 parts": 237,
    "channel": 327,
    "self": 358,
    "pat_sp": 257,
    "rich": 419,
    "threshold": 250,
    "gates": 240,
    "input": 580,
    "fasternet_t0": 315,
    "partialnet_t0": 945,
    "timm:test_resnet": 191,
}
"""Largest launches of a step with the recipe `all`, by network."""

RECIPE_LAUNCHES = {
    "short": 126,
    "clip_grad": 134,
    "ema": 130,
    "mixup": 140,
    "cutmix": 140,
    "flip": 129,
    "drop_path": 142,
    "dropout": 126,
    "bfloat16": 126,
    "float16": 133,
    "sgd": 124,
    "nadamw": 135,
    "lamb": 152,
    "lion": 165,
    "muon": 628,
    "all": 171,
}
"""Largest launches of a step of the network `plain`, by recipe."""

LEARNED = {"threshold": (2, 11), "gates": (2, 1), "input": (7, 10)}
"""Largest waits and copies of a step with learned ratios, whose learners run on the host."""


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    with simulated_process() as executor:
        yield executor


def assert_independent(step: Step, network: str) -> None:
    """Check that the host neither waits for a step nor copies to it, or not more than allowed."""
    waits, copies = LEARNED.get(network, (0, 0))
    assert step.waits.total() <= waits, step.waits
    assert step.copies.total() <= copies, step.copies


@pytest.mark.parametrize("network", NETWORKS)
def test_steps_of_each_kind_of_network(network: str, process: ProcessPoolExecutor) -> None:
    step = process.submit(count_step, network, RECIPES["all"]).result()
    assert_independent(step, network)
    assert step.launches <= LAUNCHES[network]


@pytest.mark.parametrize("recipe", RECIPES)
def test_steps_of_each_recipe_and_optimizer(recipe: str, process: ProcessPoolExecutor) -> None:
    step = process.submit(count_step, "plain", RECIPES[recipe]).result()
    assert_independent(step, "plain")
    assert step.launches <= RECIPE_LAUNCHES[recipe]


@SLOW
@pytest.mark.parametrize("network", OTHERS)
def test_steps_of_other_networks(network: str, process: ProcessPoolExecutor) -> None:
    step = process.submit(count_step, network, RECIPES["all"]).result()
    assert_independent(step, network)
    assert step.launches <= LAUNCHES[network]


@SLOW
@pytest.mark.parametrize("network", ["rich", *LEARNED])
@pytest.mark.parametrize("recipe", RECIPES)
def test_steps_of_each_network_and_recipe(
    network: str, recipe: str, process: ProcessPoolExecutor
) -> None:
    step = process.submit(count_step, network, RECIPES[recipe]).result()
    assert_independent(step, network)


@pytest.mark.parametrize(
    "network", ["rich", "threshold", *(pytest.param(n, marks=SLOW) for n in ("gates", "input"))]
)
def test_the_losses_are_those_of_the_cpu(network: str, process: ProcessPoolExecutor) -> None:
    settings = RECIPES["all"] | {"precision": "float32", "optimizer": "sgd", "lr": 2e-3}
    simulated, expected = (
        process.submit(losses, network, settings, device).result() for device in ("sim", "cpu")
    )
    assert simulated == pytest.approx(expected, rel=1e-3)
