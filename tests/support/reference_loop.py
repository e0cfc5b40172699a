"""A training loop in plain PyTorch that decides everything in Python, step by step."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits, draw_epoch
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.ratio_learning import tracking
from partialnas.runs.system.seeding import derive_seed
from partialnas.runs.training.lr_schedule import learning_rate
from partialnas.runs.training.optimizer import make_optimizer


class Result(NamedTuple):
    """Weights and averaged weights of a training, and the losses of its epochs."""

    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None
    train_nll: list[float]
    val_nll: list[float]


def normalized(images: Tensor, splits: Splits) -> Tensor:
    """Return normalized N x H x W x C images."""
    mean = torch.from_numpy((255 * splits.mean).astype(np.float32))
    scale = torch.from_numpy((1 / (255 * splits.std)).astype(np.float32))
    return (images.float() - mean) * scale


def batches(
    splits: Splits, recipe: Recipe, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Yield images, labels, and the weight with which a batch is mixed with its reverse."""
    side, border = splits.train_x.shape[-1], recipe.shift_at(splits.train_x.shape[-1])
    draws = draw_epoch(recipe, len(splits.train_y), side, seed, epoch)
    frame = ((0, 0), (border, border), (border, border), (0, 0))
    padded = np.pad(splits.train_x.transpose(0, 2, 3, 1), frame)
    for step, index in enumerate(draws.index):
        images = []
        for number, image in enumerate(index):
            top, left = draws.top[step, number], draws.left[step, number]
            crop = padded[image, top : top + side, left : left + side]
            flipped = draws.mirrored is not None and draws.mirrored[step, number]
            images.append(crop[:, ::-1] if flipped else crop)
        x = normalized(torch.from_numpy(np.stack(images)), splits)
        weight = 1.0
        if draws.mixes is not None:
            weight = float(draws.mixes.weights[step])
            top, bottom, left, right = draws.mixes.boxes[step]
            if draws.mixes.inside[step] > 0:
                x = torch.lerp(x.flip(0), x, weight)
            elif weight < 1:
                x[:, top:bottom, left:right] = x.flip(0)[:, top:bottom, left:right]
        yield x.permute(0, 3, 1, 2), torch.from_numpy(splits.train_y[index]), weight


def autocast(recipe: Recipe) -> torch.autocast:
    return torch.autocast("cpu", enabled=recipe.precision == "bfloat16")


def nll_of(likelihoods: Tensor, y: Tensor, mixed_in: Tensor, weight: float) -> Tensor:
    nll = functional.nll_loss(likelihoods, y)
    if weight < 1:
        nll = torch.lerp(functional.nll_loss(likelihoods, mixed_in), nll, weight)
    return nll


def train(
    network: nn.Module,
    recipe: Recipe,
    epochs: int,
    seed: int,
    splits: Splits,
    micro_batches: int = 1,
) -> Result:
    """Train a network on the CPU, in place."""
    network.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, recipe)
    average = ModelEmaV3(network, decay=recipe.ema, use_warmup=True) if recipe.ema else None
    steps = len(splits.train_y) // recipe.batch_size
    side = splits.train_x.shape[-1]
    learner = tracking.make_ratio_learner(network, side, epochs * steps, recipe.ratio_freeze)
    result = Result({}, None if average is None else {}, [], [])
    for epoch in range(epochs):
        losses = []
        network.train()
        with torch.random.fork_rng([]):
            torch.manual_seed(derive_seed(seed, epoch, "network"))
            drawn = batches(splits, recipe, seed, epoch)
            for number, (x, y, weight) in enumerate(drawn, start=epoch * steps):
                rate = learning_rate(recipe, number, epochs * steps)
                for group in optimizer.param_groups:
                    group["lr"] = float(np.float32(rate))
                if learner is not None:
                    learner.update_boundaries(number)
                optimizer.zero_grad()
                total = torch.zeros(())
                parts = (tensor.tensor_split(micro_batches) for tensor in (x, y, y.flip(0)))
                for part_x, part_y, part_mixed in zip(*parts, strict=True):
                    with autocast(recipe):
                        logits = network(part_x)
                    likelihoods = functional.log_softmax(logits.float(), dim=1)
                    nll = nll_of(likelihoods, part_y, part_mixed, weight)
                    loss = nll
                    if recipe.label_smoothing:
                        loss = torch.lerp(nll, -likelihoods.mean(), recipe.label_smoothing)
                    share = len(part_x) / len(x)
                    (loss * share).backward()
                    total = total + nll.detach() * share
                losses.append(total)
                if recipe.clip_grad:
                    nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_grad)
                optimizer.step()
                if learner is not None:
                    learner.update_sizes(number)
                if average is not None:
                    average.update(network, step=number + 1)
        if learner is not None:
            learner.update_boundaries((epoch + 1) * steps)
        result.train_nll.append(float(torch.stack(losses).double().mean()))
        evaluated = network if average is None else average.module
        if learner is not None and average is not None:
            learner.copy_to(average.module)
        if learner is not None and epoch + 1 == epochs:
            val = DeviceSplits.from_splits(splits, recipe, torch.device("cpu")).val
            tracking.calibrate_to_budget(learner, evaluated, val)
        result.val_nll.append(evaluate(evaluated, splits, recipe, micro_batches))
    result.weights.update(network.state_dict())
    if average is not None and result.average is not None:
        result.average.update(average.module.state_dict())
    return result


@torch.no_grad()
def evaluate(network: nn.Module, splits: Splits, recipe: Recipe, micro_batches: int) -> float:
    """Return the mean negative log-likelihood on the validation images."""
    total, size = 0.0, 4 * recipe.batch_size // micro_batches
    network.eval()
    images = torch.from_numpy(splits.val_x.transpose(0, 2, 3, 1).copy()).split(size)
    for x, y in zip(images, torch.from_numpy(splits.val_y).split(size), strict=True):
        with autocast(recipe):
            logits = network(normalized(x, splits).permute(0, 3, 1, 2)).float()
        total += float(functional.cross_entropy(logits, y, reduction="sum"))
    return total / len(splits.val_y)
