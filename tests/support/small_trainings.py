"""Trainings of small networks on few images, by name."""

from typing import Any

import torch
from torch import nn

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.training.loop import Training
from partialnas.space.arch.plan import Plan
from partialnas.space.nn.init import initialize
from partialnas.space.nn.network import Network

EPOCHS = 3
SMALL = {"stem_stride": 1, "width": 8, "depths": (1, 1, 1, 1), "head_width": 32}
ATTENTION = {"attention": ("channel", "spatial", "self", "none"), "pat_sp": True}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "no smoothing": ({}, {"label_smoothing": 0.0}),
    "attention": (ATTENTION, {"dropout": 0.2}),
    "drop path": ({"depths": (1, 1, 2, 1)}, {"drop_path": 0.3}),
    "average": ({}, {"ema": 0.6}),
    "mixup": ({}, {"mixup": 0.4}),
    "CutMix": ({}, {"cutmix": 1.0}),
    "all augmentations": ({}, {"mixup": 0.4, "cutmix": 1.0, "flip": True, "shift": 2}),
    "clipped": ({}, {"clip_grad": 0.5}),
    "sgd": ({}, {"optimizer": "sgd", "lr": 0.1, "schedule": "cosine"}),
    "nadamw": ({}, {"optimizer": "nadamw", "ema": 0.9}),
    "lion": ({}, {"optimizer": "lion", "lr": 1e-3, "schedule": "trapezoid"}),
    "bfloat16": (ATTENTION, {"precision": "bfloat16"}),
    "learned": ({"ratio": {"learned": {"grain": 1, "budget": 0.3}}}, {"ema": 0.6}),
    "learned by gates": ({"ratio": {"learned": {"method": "gates", "budget": 0.3}}}, {}),
    "learned by input": ({"ratio": {"learned": {"per": "input", "budget": 0.3}}}, {}),
}
"""Settings of the architecture and of the recipe."""


def make_network(case: str, seed: int = 0) -> Network:
    """Return the network of a case with its initial weights."""
    plan, recipe = CASES[case][0], make_recipe(case)
    architecture = Plan.model_validate(SMALL | plan).architecture()
    network = Network(architecture, 1, 10, recipe.drop_path, recipe.dropout)
    initialize(network, seed)
    return network


def make_recipe(case: str) -> Recipe:
    """Return the recipe of a case."""
    return Recipe.model_validate(CASES[case][1])


def begin(
    network: nn.Module,
    recipe: Recipe,
    splits: Splits,
    *,
    seed: int = 7,
    device: str = "cpu",
    **options: Any,
) -> Training:
    """Return a training of `EPOCHS` epochs."""
    data = DeviceSplits.from_splits(splits, recipe, torch.device(device))
    return Training(network, recipe, EPOCHS, seed, data, **options)


def begin_case(case: str, splits: Splits, seed: int = 7, **options: Any) -> Training:
    """Return the training of a case."""
    return begin(make_network(case, seed), make_recipe(case), splits, seed=seed, **options)
