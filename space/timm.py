"""Register PartialNets with timm.

After `import partialnas.space.timm`:

- `timm.create_model("partialnet_t0")` builds a published network, with timm's usual arguments.
  There are no pretrained weights to download; `partialnas.space.deploy.released` loads the
  published checkpoints.
- `timm.create_model("partialnet", architecture="net.json")` builds any architecture.
- `timm.create_model("local-dir:FOLDER", pretrained=True)` loads the output of
  `partialnas export-model`.

`python -m partialnas.space.timm train.py ...` runs a script that builds models by name, such as
timm's training script, with these models registered.
"""

import runpy
import sys
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.presets import DROP_PATH_RATES, preset
from partialnas.space.nn.network import Network

default_cfgs = generate_default_cfgs(
    {
        name: {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "crop_pct": 0.9,
            "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "stem.conv",
            "classifier": "classifier",
            "paper_ids": "arXiv:2502.01303",
        }
        for name in ("partialnet", *DROP_PATH_RATES)
    }
)
"""timm's default configurations: image size, normalization, test crop, names of layers."""


def _build(name: str, pretrained: bool, architecture: Architecture, **arguments: Any) -> nn.Module:
    features = {"out_indices": tuple(range(len(architecture.stages))), "flatten_sequential": True}
    model: nn.Module = build_model_with_cfg(
        Network, name, pretrained, feature_cfg=features, architecture=architecture, **arguments
    )
    return model


def _create(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    defaults = {"architecture": preset(name), "drop_path_rate": DROP_PATH_RATES[name]}
    return _build(name, pretrained, **{**defaults, **arguments})


@register_model
def partialnet(
    pretrained: bool = False,
    *,
    architecture: Architecture | Mapping[str, Any] | str | PathLike[str],
    **arguments: Any,
) -> nn.Module:
    """Build any architecture: an `Architecture`, its plain data, or the path of its JSON file.

    Raises:
        UserError: The architecture is invalid; the message lists all errors.
    """
    if isinstance(architecture, str | PathLike):
        architecture = Architecture.from_file(Path(architecture))
    architecture = Architecture.from_data(architecture)
    return _build("partialnet", pretrained, architecture=architecture, **arguments)


@register_model
def partialnet_t0(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """PartialNet-T0: 3.6 M parameters, 0.25 G multiply-accumulates."""
    return _create("partialnet_t0", pretrained, **arguments)


@register_model
def partialnet_t1(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """PartialNet-T1: 6.1 M parameters, 0.55 G multiply-accumulates."""
    return _create("partialnet_t1", pretrained, **arguments)


@register_model
def partialnet_t2(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """PartialNet-T2: 12.3 M parameters, 1.04 G multiply-accumulates."""
    return _create("partialnet_t2", pretrained, **arguments)


@register_model
def partialnet_s(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """PartialNet-S: 28.0 M parameters, 2.72 G multiply-accumulates."""
    return _create("partialnet_s", pretrained, **arguments)


@register_model
def partialnet_m(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """PartialNet-M: 59.2 M parameters, 6.69 G multiply-accumulates."""
    return _create("partialnet_m", pretrained, **arguments)


@register_model
def partialnet_l(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """PartialNet-L: 100.6 M parameters, 11.91 G multiply-accumulates."""
    return _create("partialnet_l", pretrained, **arguments)


if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
