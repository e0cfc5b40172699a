"""Register PartialNets with timm.

After `import partialnas.space.timm`:

- `timm.create_model("partialnet_t0")` builds a published network, with timm's usual arguments.
  There are no pretrained weights to download. Files of the released code are loaded by
  `checkpoint_path=FILE`, or `pretrained=True, pretrained_cfg_overlay={"file": FILE}`, which also
  works for another number of classes or channels and with `features_only=True`.
- `timm.create_model("partialnet", architecture="net.json")` builds any architecture.
- `timm.create_model("local-dir:FOLDER", pretrained=True)` loads the output of
  `partialnas export-model`.

`python -m partialnas.space.timm train.py ...` runs a script that builds models by name, such as
timm's training script, with these models registered.
"""

import runpy
import sys
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.presets import DROP_PATH_RATES, preset
from partialnas.space.deploy.released import released_state
from partialnas.space.deploy.released_tensors import has_released_tensors
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


def checkpoint_filter_fn(state_dict: dict[str, Any], model: Network) -> dict[str, Any]:
    """Return a checkpoint of the released code by the names of `model`, any other as it is.

    Raises:
        UserError: It is a checkpoint of the released code that cannot be loaded.
    """
    return released_state(state_dict, model) if has_released_tensors(state_dict) else state_dict


def _build(name: str, pretrained: bool, architecture: Architecture, **arguments: Any) -> nn.Module:
    features: dict[str, Any] = {"out_indices": tuple(range(len(architecture.stages)))}
    if arguments.get("output_norms"):
        features |= {"feature_cls": "getter", "norm": True}
    else:
        features["flatten_sequential"] = True
    model: nn.Module = build_model_with_cfg(
        _network,
        name,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg=features,
        architecture=architecture,
        **arguments,
    )
    return model


def _network(
    device: torch.device | str | None = None, dtype: torch.dtype | None = None, **arguments: Any
) -> Network:
    with nullcontext() if device is None else torch.device(device):
        network = Network(**arguments)
    network.register_load_state_dict_pre_hook(_rename_released)  # type: ignore[no-untyped-call]
    return network.to(dtype=dtype)


def _rename_released(model: Network, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Replace the contents of a released checkpoint in place, before `model` loads it."""
    if not prefix and has_released_tensors(state_dict):
        state = released_state(state_dict, model)
        state_dict.clear()
        state_dict.update(state)


def _create(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    defaults = {"architecture": preset(name), "drop_path_rate": DROP_PATH_RATES[name]}
    return _build(name, pretrained, **{**defaults, **arguments})


@register_model
def partialnet(
    pretrained: bool = False,
    *,
    architecture: Architecture | Mapping[str, Any] | str | PathLike[str] | None = None,
    **arguments: Any,
) -> nn.Module:
    """Build any architecture: an `Architecture`, its plain data, or the path of its JSON file.

    By default it is PartialNet-T0, so that loops over `timm.list_models("partialnet*")` can build
    all of them without arguments.

    Raises:
        UserError: The architecture is invalid; the message lists all errors.
    """
    if isinstance(architecture, str | PathLike):
        architecture = Architecture.from_file(Path(architecture))
    if architecture is None:
        architecture = preset("partialnet_t0")
    architecture = Architecture.from_data(architecture)
    if architecture.learned is not None:
        warnings.warn(
            "the architecture has learned ratios, which only trials of partialnas learn. Other "
            "training scripts, such as timm's, neither learn ratios per layer nor meet the budget "
            "of any: train the architecture in a study and export the trial",
            stacklevel=3,
        )
    if arguments.get("pretrained_cfg") is None:
        overlay = arguments.get("pretrained_cfg_overlay") or {}
        arguments["pretrained_cfg_overlay"] = _map_sizes(architecture, overlay)
    return _build("partialnet", pretrained, architecture=architecture, **arguments)


def _map_sizes(architecture: Architecture, overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the sizes of the images and of the last maps."""
    side = max(224, architecture.smallest_resolution)
    size = overlay.get("input_size", (3, side, side))
    return {"input_size": size, "pool_size": architecture.map_sizes(*size[1:])[-1], **overlay}


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
