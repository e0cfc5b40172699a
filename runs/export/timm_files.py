"""Text files of an exported model: timm's configuration and the script for training in full."""

import json
import math
from typing import Any, NamedTuple

from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import Task
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.presets import DROP_PATH_RATES, preset
from partialnas.space.cost.cost import compute_cost
from partialnas.space.values import canonical_json

_SIZE, _CHANNELS, _CLASSES = 224, 3, 1000  # of ImageNet, as published


class _Recipe(NamedTuple):
    """Settings of the published recipe that depend on the size of the network."""

    batch_size: int
    lr: float
    weight_decay: float
    mixup: float
    rand_augment: int
    """Magnitude; 0 for none."""
    clip_grad: float = 0.0
    """Largest norm of the gradient; 0 for no limit."""


_RECIPES = {
    "partialnet_t0": _Recipe(4096, 0.004, 0.005, 0.05, 0),
    "partialnet_t1": _Recipe(4096, 0.004, 0.01, 0.1, 3),
    "partialnet_t2": _Recipe(4096, 0.004, 0.02, 0.1, 5),
    "partialnet_s": _Recipe(4096, 0.004, 0.03, 0.3, 7),
    "partialnet_m": _Recipe(2048, 0.002, 0.05, 0.5, 7, 1.0),
    "partialnet_l": _Recipe(2048, 0.002, 0.05, 0.7, 7, 0.01),
}
"""Settings by size of the released configurations, which are those of the parent family (arXiv
2303.03667)."""


def timm_config(architecture: Architecture, task: Task, splits: Splits) -> str:
    """Return `config.json` of timm and its hub: how to build the network and prepare images.

    Whole images are resized to the task's resolution, as in the training.
    """
    side = task.resolution
    pretrained_cfg = {
        "input_size": [task.channels, side, side],
        "pool_size": list(architecture.map_sizes(side, side)[-1]),
        "num_classes": task.classes,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": [round(float(value), 6) for value in splits.mean],
        "std": [round(float(value), 6) for value in splits.std],
        "first_conv": "stem.conv",
        "classifier": "classifier",
    }
    config: dict[str, Any] = {
        "architecture": "partialnet",
        "num_classes": task.classes,
        "num_features": architecture.widths[-1],
        "global_pool": "avg",
        "model_args": {"architecture": architecture.model_dump(mode="json")},
        "pretrained_cfg": pretrained_cfg,
    }
    return json.dumps(config, indent=2) + "\n"


def nearest_preset(architecture: Architecture) -> str:
    """Return the name of the published network with the nearest number of parameters, by ratio."""
    input_spec = InputSpec.square(_side(architecture), _CHANNELS, _CLASSES)
    params = compute_cost(architecture, input_spec).params

    def distance(name: str) -> float:
        published = compute_cost(preset(name), InputSpec.square(_SIZE, _CHANNELS, _CLASSES)).params
        return abs(math.log(published / params))

    return min(_RECIPES, key=distance)


def _side(architecture: Architecture) -> int:
    return max(_SIZE, architecture.smallest_resolution)


def train_script(architecture: Architecture, *, gpus: int = 1, batch_size: int = 256) -> str:
    """Return `train.sh`, which trains in full with timm's script and the published recipe.

    Args:
        architecture: the network.
        gpus: default number of GPUs, which the variable `GPUS` overrides.
        batch_size: default images per step on each GPU, which the variable `BATCH` overrides.
    """
    size = nearest_preset(architecture)
    recipe = _RECIPES[size]
    side = _side(architecture)
    macs = compute_cost(architecture, InputSpec.square(side, _CHANNELS, _CLASSES)).macs
    augment = f" --aa rand-m{recipe.rand_augment}-mstd0.5-inc1" if recipe.rand_augment else ""
    clipping = f" --clip-grad {recipe.clip_grad:g}" if recipe.clip_grad else ""
    return _SCRIPT.format(
        size=size,
        side=side,
        macs=macs,
        stride=architecture.stem_stride,
        classes=_CLASSES,
        drop_path=DROP_PATH_RATES[size],
        augment=augment,
        clipping=clipping,
        gpus=gpus,
        batch=batch_size,
        images=gpus * batch_size,
        scaled=f"{recipe.lr * gpus * batch_size / recipe.batch_size:.6g}",
        **recipe._asdict(),
    )


_SCRIPT = """\
#!/bin/sh
# Trains architecture.json in full from random weights, with the published recipe (arXiv
# 2502.01303) of {size}, the published network with the nearest number of parameters:
#     sh train.sh DATA [further arguments of timm's train.py, which override those below]
# DATA: a folder with train/ and validation/ and in each one folder per class, such as ImageNet-1K.
# TIMM: a checkout of https://github.com/huggingface/pytorch-image-models; its train.py is run.
# The learning rate is {lr} for {batch_size} images per step, scaled linearly to the total batch
# size GPUS x BATCH x STEPS: {scaled} for {gpus} x {batch} x 1 = {images} images.
# At {side}x{side} the network takes {macs:,} multiply-accumulates (stem stride {stride}; the
# published networks have stride 4: edit architecture.json to change it).
# Two things differ from the published training runs: they use 192 pixels until epoch 280, and their
# cosine schedule starts after the warm-up, that of timm's script in epoch 0.
set -eu
HERE=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
DATA=${{1:?name the folder of the images, with train/ and validation/}}
shift
# timm reads the values of --model-kwargs as Python literals.
ARCHITECTURE=$(python3 -IS -c 'import sys; print(ascii(sys.argv[1]).replace("=", r"\\x3d"))' \\
    "$HERE/architecture.json")
torchrun --standalone --nproc_per_node "${{GPUS:={gpus}}}" -m partialnas.space.timm \\
    "${{TIMM:=pytorch-image-models}}/train.py" "--data-dir=$DATA" \\
    --model partialnet --model-kwargs "architecture=$ARCHITECTURE" \\
    --num-classes {classes} --img-size {side} --crop-pct 0.9 --drop-path {drop_path} \\
    --batch-size "${{BATCH:={batch}}}" --grad-accum-steps "${{STEPS:=1}}" \\
    --opt adamw --weight-decay {weight_decay}{clipping} \\
    --lr-base {lr} --lr-base-size {batch_size} --lr-base-scale linear \\
    --sched cosine --epochs 300 --warmup-epochs 20 --warmup-lr 1e-6 --min-lr 1e-5 \\
    --smoothing 0.1 --cutmix 1.0 --mixup {mixup}{augment} \\
    --color-jitter 0 --train-interpolation bicubic \\
    --amp --channels-last --output "$HERE/training" "$@"
"""


def weights_metadata(architecture: Architecture) -> dict[str, str]:
    """Return the metadata of the weights file."""
    return {"format": "pt", "architecture": canonical_json(architecture.model_dump(mode="json"))}
