"""Load checkpoints of the released PartialNet code (arXiv 2502.01303)."""

import re
from collections.abc import Mapping
from fractions import Fraction
from os import PathLike
from typing import Any

from torch import Tensor

from partialnas.space.arch.architecture import Activation, Architecture
from partialnas.space.arch.presets import DROP_PATH_RATES, preset
from partialnas.space.deploy.released_tensors import ReleasedTensors, read_released
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network

_CLASSIFIER = {"head.weight": "classifier.weight", "head.bias": "classifier.bias"}
_HEAD_CONV = {"avgpool_pre_head.1.weight": "head_conv.weight"}

_OUTSIDE_STAGES = {
    "stem.conv.": "patch_embed.proj.",
    "stem.norm.": "patch_embed.norm.",
    "head_conv.": "avgpool_pre_head.1.",
    "classifier.": "head.",
}

_IN_BLOCKS = {
    "mixer.parts.0.": "spatial_mixing.partial_conv3.",
    "mixer.parts.1.gate.": "spatial_mixing.attn.cfc1.",
    "mixer.parts.1.gate_norm.": "spatial_mixing.attn.bn.",
    "mixer.parts.1.position.table": "spatial_mixing.attn.rpe_k.lookup_table_bias",
    "mixer.parts.1.norm.": "spatial_mixing.norm.",
    "mixer.parts.1.": "spatial_mixing.attn.",
    "mlp.expand.": "mlp.0.",
    "mlp.norm.": "mlp.1.",
    "mlp.project.": "mlp.3.",
    "mlp.pat_sp.attention.gate.": "mlp.4.conv_attn.",
    "mlp.pat_sp.attention.norm.": "mlp.4.norm.",
    "mlp.pat_sp.norm.": "mlp.4.norm2.",
    "mlp.pat_sp.conv.": "mlp.4.conv.",
}


def load_released(
    checkpoint: Mapping[str, Any] | str | PathLike[str],
    architecture: Architecture | None = None,
    activation: Activation | None = None,
    *,
    num_classes: int | None = None,
    strict_head: bool = True,
) -> Network:
    """Return the network of a checkpoint of the released code, with its weights, in float32.

    The tensors may lie in nested dictionaries (such as `state_dict` or `model_ema`), and their
    names may begin with any prefix (such as `module.` or `backbone.`). Averaged weights (EMA) are
    preferred, as in timm. The backbone of a detector becomes a network without head, with
    `output_norms`: `network.forward_intermediates(x, norm=True, intermediates_only=True)` returns
    the maps that the detector gets.

    Args:
        checkpoint: path of a file of `torch.save` or safetensors, or its contents.
        architecture: network to build; by default inferred from the names and shapes.
        activation: activation of the network, which the weights do not determine. It is needed if
            no architecture is given and no published network has these widths and depths.
        num_classes: classes of the network; by default those of the checkpoint. 0 for no
            classifier.
        strict_head: whether the head must be complete and have `num_classes` classes. Otherwise
            what is missing or does not fit keeps its random initial weights; without
            `num_classes`, a network without classifier or without head is returned.

    Raises:
        UserError: The file cannot be read, or the checkpoint is not one of such a network, or does
            not fit the architecture or the number of classes.
    """
    tensors = read_released(checkpoint)
    architecture = architecture or _infer(tensors, activation)
    stored = tensors["head.weight"].shape[0] if "head.weight" in tensors else 0
    classes = stored if num_classes is None else num_classes
    has_head_conv = _HEAD_CONV.keys() <= tensors.keys()
    headless = tensors.for_detection and not classes
    if strict_head and not headless:
        _check_head(tensors, classes, stored)
    network = Network(
        architecture,
        in_chans=tensors["patch_embed.proj.weight"].shape[1],
        num_classes=classes,
        output_norms=tensors.for_detection,
    )
    if not classes and not has_head_conv:
        network.prune_intermediate_layers(len(network.stages))
    free = set() if strict_head else {*_HEAD_CONV, *_CLASSIFIER}
    unused = set() if classes == stored else {*_CLASSIFIER}
    state = _matching_state(tensors, network, free, unused)
    # checked above; the norms' counters and parts of the head may be missing
    network.load_state_dict(state, strict=False)
    return network


def released_state(checkpoint: Mapping[str, Any], network: Network) -> dict[str, Tensor]:
    """Return the tensors of a released checkpoint by the names of `network`.

    Names that the network does not have stay as they are.

    Raises:
        UserError: It is not a checkpoint of a released network, or one of a detector while the
            network has no norms for the outputs of its stages.
    """
    tensors = read_released(checkpoint)
    if tensors.for_detection and not network.output_norms:
        raise UserError(
            "the checkpoint is that of a detector, with norms for the outputs of the stages: pass "
            "output_norms=True"
        )
    names = {_released_name(name): name for name in network.state_dict()}
    names |= _HEAD_CONV | _CLASSIFIER
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def _released_name(name: str) -> str:
    """Return what the released code calls a tensor of a network."""
    if match := re.fullmatch(r"stages\.(\d+)\.merge\.(conv|norm)\.(.+)", name):
        layer = "reduction" if match[2] == "conv" else "norm"
        return f"stages.{2 * int(match[1]) - 1}.{layer}.{match[3]}"
    if match := re.fullmatch(r"stages\.(\d+)\.(blocks\.\d+\.)(.+)", name):
        return f"stages.{2 * int(match[1])}.{match[2]}{_renamed(match[3], _IN_BLOCKS)}"
    if match := re.fullmatch(r"output_norms\.(\d+)\.(.+)", name):
        return f"norm{2 * int(match[1])}.{match[2]}"
    return _renamed(name, _OUTSIDE_STAGES)


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    for ours, theirs in prefixes.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _check_head(tensors: ReleasedTensors, classes: int, stored: int) -> None:
    missing = [name for name in (*_HEAD_CONV, *_CLASSIFIER) if name not in tensors]
    problem = f"the classifier of the checkpoint has {stored} classes, not {classes}"
    if missing:
        problem = f"the checkpoint has no complete head: {tensors.prefix}{missing[0]} is missing"
    if missing or classes != stored:
        raise UserError(f"{problem}; pass strict_head=False to load the other weights")


def _infer(tensors: ReleasedTensors, activation: Activation | None) -> Architecture:
    count = (tensors.count(r"stages\.(\d+)\.") + 1) // 2
    stages = [_stage(tensors, index) for index in range(count)]
    last = [block["parts"][-1]["op"] for stage in stages[-1:] for block in stage["blocks"]]
    if any(op != "self" for op in last):
        raise UserError(
            "the last stage has no self-attention. The released code adds the mixer's input twice "
            "there, the code of FasterNet does not, and the weights do not show which of the two "
            "trained them. For a FasterNet checkpoint, pass the architecture"
        )
    data: dict[str, Any] = {
        "stem_stride": tensors["patch_embed.proj.weight"].shape[2],
        "stages": stages,
        "activation": activation or _published_activation(stages),
    }
    if head_conv := tensors.keys() & _HEAD_CONV.keys():
        data["head_width"] = tensors[head_conv.pop()].shape[0]
    return Architecture.from_data(data)


def _published_activation(stages: list[dict[str, Any]]) -> Activation:
    shape = [(stage["width"], len(stage["blocks"])) for stage in stages]
    for name in DROP_PATH_RATES:
        published = preset(name)
        if shape == list(zip(published.widths, published.depths, strict=True)):
            return published.activation
    raise UserError(
        f"no published network has widths and depths {shape}, and the weights do not determine "
        "the activation: pass activation='gelu', 'relu', 'silu' or 'hardswish'"
    )


def _stage(tensors: ReleasedTensors, index: int) -> dict[str, Any]:
    stem = f"stages.{2 * index - 1}.reduction.weight" if index else "patch_embed.proj.weight"
    width = tensors[stem].shape[0]
    depth = tensors.count(rf"stages\.{2 * index}\.blocks\.(\d+)\.")
    blocks = [_block(tensors, width, f"stages.{2 * index}.blocks.{i}.") for i in range(depth)]
    return {"width": width, "blocks": blocks}


def _block(tensors: ReleasedTensors, width: int, at: str) -> dict[str, Any]:
    mixing = f"{at}spatial_mixing"
    convolved = tensors[f"{mixing}.partial_conv3.weight"].shape[0]
    rest: dict[str, Any] = {"op": "identity"}
    if f"{mixing}.attn.cfc1.weight" in tensors:
        rest = {"op": "channel"}
    elif f"{mixing}.attn.qkv.weight" in tensors:
        heads = tensors[f"{mixing}.attn.rpe_k.lookup_table_bias"].shape[0]
        rest = {"op": "self", "heads": heads}
    return {
        "parts": [{"op": "conv", "ratio": Fraction(convolved, width)}, rest],
        "mlp_ratio": Fraction(tensors[f"{at}mlp.0.weight"].shape[0], width),
        "pat_sp": f"{at}mlp.4.conv.weight" in tensors,
    }


def _matching_state(
    tensors: ReleasedTensors, network: Network, free: set[str], unused: set[str]
) -> dict[str, Tensor]:
    """Return the tensors by the names of a network that they match, but for the exceptions.

    Args:
        tensors: the checkpoint.
        network: the network.
        free: names in the checkpoint that may be missing.
        unused: names in the checkpoint that are left out.
    """
    state = network.state_dict()
    names = {_released_name(name): name for name in state}
    shapes = {name: tuple(state[ours].shape) for name, ours in names.items()}
    given = {name: tensor for name, tensor in tensors.items() if name not in unused}
    counters = {name for name in names if name.endswith("num_batches_tracked")}
    problems = [
        f"{tensors.prefix}{name} has shape {tuple(given[name].shape)}, expected {shape}"
        for name, shape in shapes.items()
        if name in given and given[name].shape != shape
    ]
    problems += [f"{tensors.prefix}{name} is unexpected" for name in given if name not in names]
    required = names.keys() - counters - free
    problems += [f"{tensors.prefix}{n} is missing" for n in names if n in required - given.keys()]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        listed = "; ".join(problems[:5])
        raise UserError(f"the checkpoint does not fit the network: {listed}{more}")
    return {names[name]: tensor for name, tensor in given.items()}
