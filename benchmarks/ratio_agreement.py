"""DPConv: how far ratios and results depend on the steps between moves of the boundaries.

For each seed, width and budget a network is trained on mnist5k with a move in every step; with
initial weights that are perturbed by a thousandth; and with a move in every k-th step. The last two
are compared with the first. The perturbed training shows how much of a difference means nothing.
`python benchmarks/ratio_agreement.py --help`.
"""

import argparse
import itertools
import math
import statistics
from fractions import Fraction
from typing import NamedTuple

import torch
from scipy.stats import t as student_t

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.training.loop import DeviceSplits, Training
from partialnas.space.arch.plan import Plan
from partialnas.space.nn.init import initialize
from partialnas.space.nn.network import Network

_PERTURBATION = 1e-3


class Trained(NamedTuple):
    """A finished training: its results, and the learned share of each layer before it was fixed."""

    val_nll: float
    val_accuracy: float
    budget_error: float
    shares: list[float]


def train(
    options: argparse.Namespace, seed: int, width: int, budget: Fraction, every: int, noise: float
) -> Trained:
    """Train a network with learned ratios.

    Args:
        options: options of the command line.
        seed: seed of the weights and the training.
        width: width of the first stage.
        budget: budget as a share of the cost of dense convolutions.
        every: steps between moves of the boundaries.
        noise: standard deviation of the factors, around 1, of the initial weights.
    """
    ratio = {"learned": {"budget": budget, "grain": 2}}
    plan = Plan(stem_stride=1, width=width, depths=(1, 1, 2, 1), head_width=128, ratio=ratio)
    network = Network(plan.architecture(), in_chans=1, num_classes=10)
    initialize(network, seed)
    if noise:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                factors = torch.randn(parameter.shape, generator=generator)
                parameter.mul_(1 + noise * factors)
    recipe = Recipe(ratio_every=every)
    splits = load_splits(resolve_task("mnist5k", resolution=options.resolution))
    data = DeviceSplits.from_splits(splits, recipe, torch.device("cpu"))
    training = Training(network, recipe, options.epochs, seed, data)
    learner = training.ratio_learner
    assert learner is not None
    shares: list[float] = []
    original = learner._freeze

    def freeze() -> None:
        for block in learner.learned_blocks:
            shares.extend(size / block.block.width for size in learner.learned_sizes(block))
        original()

    learner._freeze = freeze  # type: ignore[method-assign]
    while len(training.curve) < options.epochs:
        training.run_epoch()
    metrics = training.metrics()
    return Trained(metrics["val_nll"], metrics["val_accuracy"], metrics["budget_error"], shares)


def interval(values: list[float]) -> str:
    """Return the mean and the half-width of its 95 % t interval."""
    spread = statistics.stdev(values) / math.sqrt(len(values))
    half_width = float(student_t.ppf(0.975, len(values) - 1)) * spread
    return f"{statistics.fmean(values):+.3f} ± {half_width:.3f}"


def report(name: str, references: list[Trained], others: list[Trained]) -> None:
    """Print how trainings differ from those that moved the boundaries in every step."""
    pairs = list(zip(references, others, strict=True))
    nll = interval([other.val_nll - one.val_nll for one, other in pairs])
    accuracy = interval([other.val_accuracy - one.val_accuracy for one, other in pairs])
    r = statistics.fmean(statistics.correlation(one.shares, other.shares) for one, other in pairs)
    apart = statistics.fmean(
        abs(a - b) for one, other in pairs for a, b in zip(one.shares, other.shares, strict=True)
    )
    error = statistics.median(100 * other.budget_error for other in others)
    print(f"{name:14} {nll:>18} {accuracy:>18} {r:8.2f} {apart:8.3f} {error:10.1f}", flush=True)


def main() -> None:
    """Print a row for each way of training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16])
    parser.add_argument(
        "--budgets", type=Fraction, nargs="+", default=[Fraction(1, n) for n in (8, 4, 2)]
    )
    parser.add_argument("--ratio-every", type=int, nargs="+", default=[4])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=14)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways = {"every step": (1, 0.0), "perturbed": (1, _PERTURBATION)}
    ways |= {f"every {every}": (every, 0.0) for every in options.ratio_every}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    settings = list(itertools.product(seeds, options.widths, options.budgets))
    trained = {
        name: [train(options, *setting, *way) for setting in settings] for name, way in ways.items()
    }
    print(f"{len(settings)} pairs; {options}")
    print(f"{'':14} {'val_nll':>18} {'val_accuracy':>18} {'r':>8} {'apart':>8} {'budget %':>10}")
    for name, results in trained.items():
        report(name, trained["every step"], results)


if __name__ == "__main__":
    main()
