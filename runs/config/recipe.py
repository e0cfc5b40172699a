"""Recipes: settings of a training run, such as epochs, learning rate and augmentation."""

import math
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from partialnas.runs.config.protocol import Precision
from partialnas.space.values import Share, Value

Schedule = Literal["one_cycle", "cosine", "constant", "trapezoid"]
KeepWeights = Literal["all", "front", "none"]

_WHOLE = Fraction(1)
_SHIFT_SHARE = 14  # a shift of 2 pixels at 28x28, 16 at 224x224, none at 8x8


class Recipe(Value):
    """Settings of a training run. The defaults are those of the recipe `short`.

    Attributes:
        epochs: passes over the training split; the schedule spans all of them.
        data_share: share of the training images that is used, the same for every class.
        width_share: factor of the network's widths (see `space.arch.resizing`); a fidelity for the
            lower rungs of a search.
        batch_size: images per step; an incomplete last batch of an epoch is dropped.
        optimizer: optimizer of timm. `sgd` has Nesterov momentum 0.9. `muon` orthogonalizes the
            updates of weights between channels and uses `adamw` for all others and the classifier;
            it takes learning rates of `adamw`. Weight decay applies to matrices only.
        lr: peak learning rate.
        weight_decay: weight decay of matrices.
        schedule: learning-rate schedule: `one_cycle` (cosine warm-up, cosine decay to zero),
            `cosine` (linear warm-up), `constant` (linear warm-up) or `trapezoid` (linear warm-up of
            `warmup_steps`, constant, linear cool-down to zero). With `trapezoid`, training runs of
            different lengths are identical until the shorter one cools down.
        warmup: share of all steps for the warm-up; not used by `trapezoid`.
        warmup_steps: steps of the warm-up of `trapezoid`.
        cool_down: share of all steps for the cool-down of `trapezoid`.
        label_smoothing: share of each label that is spread over all classes.
        mixup: parameter of the Beta distribution of mixup's mixing weight; 0 disables mixup.
        cutmix: the same for CutMix; with both enabled, each batch uses one of them at random.
        shift: largest random shift in pixels in each direction, with zero padding; default: a
            fourteenth of the resolution.
        flip: whether images are mirrored horizontally at random; unsuitable for digits and text.
        drop_path: stochastic depth rate of the last block; rates rise linearly over the blocks.
        dropout: dropout rate inside self-attention.
        precision: data type; `bfloat16` and `float16` use automatic mixed precision, `tfloat32`
            float32 with TF32 arithmetic of GPUs.
        ema: decay of the exponential moving average of the weights, which is then evaluated and
            kept; 0 disables it.
        clip_grad: largest gradient norm; 0 disables clipping.
        deterministic: whether only kernels are used that repeat their results bit for bit. On CPUs
            results repeat without it. On GPUs it is slower, and operations without such a kernel
            fail. CUDA must not have started in the process, unless CUBLAS_WORKSPACE_CONFIG is set.
        cudnn_benchmark: whether cuDNN times its algorithms for each new shape of a convolution and
            takes the fastest; for GPUs.
        ratio_freeze: share of the steps after which learned ratios are frozen.
        ratio_every: steps from one move of learned ratios to the next, which uses the mean of their
            gradients. Ratios of every image do not depend on it.
        threads: CPU threads per trial.
        keep_weights: trials that keep their final weights on disk; `front` stands for those of
            networks on the front, of arms and of baselines.
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
    optimizer: Literal["adamw", "nadamw", "lamb", "lion", "sgd", "muon"] = "adamw"
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
    clip_grad: float = Field(default=0.0, ge=0, le=1e6)
    deterministic: bool = False
    cudnn_benchmark: bool = False
    ratio_freeze: float = Field(default=0.7, gt=0, lt=1)
    ratio_every: int = Field(default=1, ge=1, le=64)
    threads: int = Field(default=1, ge=1, le=1024)
    keep_weights: KeepWeights = "front"

    @model_validator(mode="after")
    def _check_batch_size(self) -> Self:
        if (self.mixup or self.cutmix) and self.batch_size < 2:
            raise ValueError("mixup and cutmix need a batch_size of at least 2")
        return self

    @model_validator(mode="after")
    def _check_deterministic(self) -> Self:
        if self.deterministic and self.cudnn_benchmark:
            raise ValueError(
                "cudnn_benchmark: the algorithm that is fastest changes from run to run; set it to "
                "false, or deterministic to false"
            )
        return self

    def identity(self, *, has_learned_ratios: bool) -> dict[str, Any]:
        """Return plain data of all settings that a result depends on.

        `keep_weights` is not among them, and `epochs` counts as the trial's fidelity.

        Args:
            has_learned_ratios: whether the network learns ratios; `ratio_freeze` and `ratio_every`
                matter only then.
        """
        excluded = {"epochs", "keep_weights"}
        excluded |= set() if has_learned_ratios else {"ratio_freeze", "ratio_every"}
        excluded |= {"warmup"} if self.schedule == "trapezoid" else {"warmup_steps", "cool_down"}
        shares = {"data_share": self.data_share, "width_share": self.width_share}
        excluded |= {name for name, share in shares.items() if share == _WHOLE}
        return self.identity_data(exclude=excluded)

    def trunk_epochs(self, epochs: int) -> int:
        """Return the epochs that a run of `epochs` shares with every longer one."""
        return math.floor((1 - self.cool_down) * epochs) if self.schedule == "trapezoid" else 0

    def shift_at(self, resolution: int) -> int:
        """Return the largest shift in pixels at a resolution in pixels."""
        return resolution // _SHIFT_SHARE if self.shift is None else self.shift


RECIPES: dict[str, Recipe] = {
    "short": Recipe(),
    "standard": Recipe(epochs=30, drop_path=0.05, ema=0.999),
    "gpu": Recipe(
        epochs=16,
        batch_size=512,
        warmup=0.2,
        precision="bfloat16",
        cudnn_benchmark=True,
    ),
}
"""Recipes by name: `short` ranks networks in seconds, `standard` trains to convergence, and `gpu`
is `short` for tens of thousands of images on a GPU.

`gpu` follows the fast trainings on CIFAR-10: batches of 512 images, a rate that rises over a fifth
of the steps, half precision and algorithms that cuDNN has timed (D. Page,
https://github.com/davidcpage/cifar10-fast; https://github.com/tysam-code/hlb-CIFAR10; K. Jordan,
arXiv 2404.00498). It keeps AdamW, whose step is a single fused kernel. Whether its ranks are those
of long trainings has not been validated on a GPU yet.
"""
