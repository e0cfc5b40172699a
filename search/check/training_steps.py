"""Report the steps of a training, and the images that its epochs leave out."""

from collections.abc import Iterator
from typing import NamedTuple

from partialnas.runs.config.recipe import RECIPES, Recipe
from partialnas.runs.datasets.augment import epoch_shape
from partialnas.runs.datasets.loaders import Splits, subset
from partialnas.search.check.time_estimate import LoadSplits
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.study.fidelity import Condition

MIN_STEPS = 20
"""Steps of a training below which the warm-up takes most of it, and networks hardly learn."""

_GPU_IMAGES = 20_000
"""Training images from which batches of the recipe `gpu` leave enough steps."""


class _Steps(NamedTuple):
    """Length of a training.

    Attributes:
        epochs: epochs of the training.
        steps: steps of an epoch.
        batch_size: images of a step, as the recipe states them.
        used: images of an epoch.
        images: training images.
    """

    epochs: int
    steps: int
    batch_size: int
    used: int
    images: int

    @classmethod
    def of_recipe(cls, recipe: Recipe, splits: Splits) -> "_Steps":
        """Return the length of a training on the images of a task."""
        images = len(subset(splits, recipe.data_share).train_y)
        steps, size = epoch_shape(images, recipe.batch_size)
        return cls(recipe.epochs, steps, recipe.batch_size, steps * size, images)

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.steps

    def text(self) -> str:
        """Return the length in words."""
        left_out = self.images - self.used
        unused = f"; {left_out:,} of {self.images:,} images left out of each epoch"
        epochs = f"{self.epochs:,} epoch{'s' * (self.epochs > 1)} of {self.steps:,}"
        return f"{self.total:,} per training ({epochs}){unused if left_out else ''}"

    def notes(self) -> Iterator[str]:
        """Yield why the training may be too short to learn from, and what to change."""
        if self.batch_size > self.images:
            yield (
                f"recipe.batch_size {self.batch_size} exceeds the {self.images} training images; "
                "an epoch is one step on all of them"
            )
        if self.total < MIN_STEPS:
            steps = f"{self.total} step{'s' * (self.total > 1)} in all"
            yield (
                f"{steps}, fewer than {MIN_STEPS}: networks hardly learn in so few; set a smaller "
                "recipe.batch_size or more recipe.epochs"
            )


def step_lines(resolved: ResolvedStudy, load: LoadSplits) -> Iterator[str]:
    """Yield the steps of the trainings of a study, with notes on those that are too short.

    Args:
        resolved: the study; its trials are trained.
        load: returns the images of a task.
    """
    for condition in (*resolved.rungs, *resolved.conditions):
        arms = _arms_by_steps(resolved, condition, load)
        place = condition.rung or (f"under {condition.name}" if condition.name else "")
        for steps, names in arms.items():
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            arm = f"{names[0]}{others}" if len(arms) > 1 else ""
            label = ", ".join(filter(None, (place, arm)))
            yield f"steps{f' {label}' * bool(label)}: {steps.text()}"
            for note in steps.notes():
                yield f"note: {f'{label}: ' * bool(label)}{note}"


def gpu_notes(resolved: ResolvedStudy, device: str, load: LoadSplits) -> Iterator[str]:
    """Yield that the recipe `gpu` suits a device better than recipes of a study, if it does.

    Args:
        resolved: the study; its trials are trained.
        device: device of the trials, such as `cuda`.
        load: returns the images of a task.
    """
    if not device.startswith("cuda"):
        return
    gpu = RECIPES["gpu"]
    conditions = [c for c in resolved.conditions if len(load(c.task).train_y) >= _GPU_IMAGES]
    small = {
        recipe.batch_size
        for condition in conditions
        for recipe in resolved.recipes(condition).values()
        if recipe.precision == "float32" and recipe.batch_size < gpu.batch_size
    }
    for batch_size in sorted(small):
        yield (
            f"trials run on a GPU in float32 with batches of {batch_size} images, which leave it "
            f"idle most of the time; recipe: {{use: gpu}} trains in {gpu.precision} with batches "
            f"of {gpu.batch_size}"
        )


def _arms_by_steps(
    resolved: ResolvedStudy, condition: Condition, load: LoadSplits
) -> dict[_Steps, list[str]]:
    """Return the arms with each length of training; on a rung, and without arms, a single one."""
    splits = load(condition.task)
    if condition.rung or not resolved.arms:
        return {_Steps.of_recipe(condition.recipe, splits): []}
    by_recipe: dict[Recipe, list[str]] = {}
    for name in resolved.arms:
        by_recipe.setdefault(resolved.arm_condition(name, condition).recipe, []).append(name)
    arms: dict[_Steps, list[str]] = {}
    for recipe, names in by_recipe.items():
        arms.setdefault(_Steps.of_recipe(recipe, splits), []).extend(names)
    return arms
