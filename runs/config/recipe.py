"""Recipes: how a network is trained. Plain values; the training itself is in `training`."""

import math
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from partialnas.space.values import Share, Value

Schedule = Literal["one_cycle", "cosine", "constant", "trapezoid"]
Precision = Literal["float32", "bfloat16", "float16"]
KeepWeights = Literal["all", "front", "none"]

_WHOLE = Fraction(1)
_SHIFT_SHARE = 14  # a shift of 2 pixels at 28x28, 16 at 224x224, none at 8x8


class Recipe(Value):
    """A short proxy training, complete: what is not stated is as in the recipe `short`.

    Attributes:
        epochs: passes over the training split; the schedule always runs over all of them.
        data_share: share of the training images that are used, of every class alike.
        width_share: share of the network's widths that is trained in its place (see
            `space.narrowing`): a fidelity of searches, below the last rung alone.
        batch_size: images a step; a last, smaller batch of an epoch is left out.
        optimizer: a name of timm's optimisers. Weight decay reaches matrices only.
        lr: the highest learning rate.
        weight_decay: of matrices.
        schedule: `one_cycle` (cosine up during the warm-up, cosine down to zero), `cosine`
            (linear warm-up), `constant` (linear warm-up), `trapezoid` (linear warm-up of so many
            steps however long the training is, constant, then along a line to zero): of two
            trainings of different lengths the steps before the shorter one's fall are the same.
        warmup: share of all steps that the rate rises; not of `trapezoid`.
        warmup_steps: steps that the rate of `trapezoid` rises.
        cool_down: share of all steps, the last ones, that the rate of `trapezoid` falls.
        label_smoothing: share of each label that is spread over all classes.
        mixup: parameter of the Beta distribution of the mixing weight; 0 mixes nothing.
        cutmix: the same for pasted boxes; with both on, each batch takes one of them by chance.
        shift: largest shift in pixels, each way, the border filled with zeros; None takes a
            fourteenth of the resolution.
        flip: whether images are mirrored left to right at random; digits and text forbid it.
        drop_path: rate of the last block; the blocks before it rise to it linearly.
        dropout: rate of dropout inside self-attention.
        precision: `bfloat16` and `float16` train in automatic mixed precision.
        ema: decay of an average of the weights, which is evaluated and kept instead; 0 is off.
        clip_grad: largest norm of the gradient; 0 is off.
        ratio_freeze: share of the steps after which learned ratios are fixed.
        threads: threads of the CPU that one trial uses.
        keep_weights: whose final weights stay on disk.
    """

    shorthands: ClassVar[tuple[str, ...]] = ("use",)
    identity_fields: ClassVar[frozenset[str]] = frozenset(
        (
            *("epochs", "data_share", "width_share", "batch_size", "optimizer", "lr"),
            *("weight_decay", "schedule", "warmup", "warmup_steps", "cool_down"),
            *("label_smoothing", "mixup", "cutmix", "shift", "flip", "drop_path", "dropout"),
            *("precision", "ema", "clip_grad", "ratio_freeze", "threads", "keep_weights"),
        )
    )

    epochs: int = Field(default=4, ge=1, le=100_000)
    data_share: Share = Field(default=_WHOLE, gt=0, le=1)
    width_share: Share = Field(default=_WHOLE, gt=0, le=1)
    batch_size: int = Field(default=64, ge=1, le=65_536)
    optimizer: Literal["adamw", "nadamw", "lamb", "lion", "sgd"] = "adamw"
    lr: float = Field(default=1e-2, gt=0, le=100)
    weight_decay: float = Field(default=0.05, ge=0, le=10)
    schedule: Schedule = "one_cycle"
    warmup: float = Field(default=0.25, ge=0, lt=1)
    warmup_steps: int = Field(default=50, ge=0, le=1_000_000)
    cool_down: float = Field(default=0.25, gt=0, le=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    mixup: float = Field(default=0.0, ge=0, le=100)
    cutmix: float = Field(default=0.0, ge=0, le=100)
    shift: int | None = Field(default=None, ge=0, le=1024)
    flip: bool = False
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    precision: Precision = "float32"
    ema: float = Field(default=0.0, ge=0, lt=1)
    clip_grad: float = Field(default=0.0, ge=0)
    ratio_freeze: float = Field(default=0.7, gt=0, lt=1)
    threads: int = Field(default=1, ge=1, le=1024)
    keep_weights: KeepWeights = "front"

    @model_validator(mode="after")
    def _mixing_needs_two_images(self) -> Self:
        if (self.mixup or self.cutmix) and self.batch_size < 2:
            raise ValueError("mixup and cutmix need a batch_size of at least 2")
        return self

    def identity(self, *, has_learned_ratios: bool) -> dict[str, Any]:
        """Plain data of all that a result depends on.

        Not of which weights are kept; and the epochs count as the trial's fidelity.

        Args:
            has_learned_ratios: whether the network learns its ratios; when they are fixed matters only then.
        """
        apart = {"epochs", "keep_weights"} | (set() if has_learned_ratios else {"ratio_freeze"})
        apart |= {"warmup"} if self.schedule == "trapezoid" else {"warmup_steps", "cool_down"}
        shares = {"data_share": self.data_share, "width_share": self.width_share}
        apart |= {name for name, share in shares.items() if share == _WHOLE}
        return self.identity_data(exclude=apart)

    def trunk_epochs(self, epochs: int) -> int:
        """Epochs at the start that a training of `epochs` shares with every longer one."""
        return math.floor((1 - self.cool_down) * epochs) if self.schedule == "trapezoid" else 0

    def shift_at(self, resolution: int) -> int:
        """The largest shift in pixels for images of `resolution` pixels."""
        return resolution // _SHIFT_SHARE if self.shift is None else self.shift


RECIPES: dict[str, Recipe] = {
    "short": Recipe(),
    "standard": Recipe(epochs=30, drop_path=0.05, ema=0.999),
}
"""Named recipes: `short` ranks networks in seconds, `standard` trains small data to the end."""
