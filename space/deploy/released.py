"""Load checkpoints of the released PartialNet code (arXiv 2502.01303)."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from torch import Tensor

from partialnas.space.arch.architecture import Activation, Architecture
from partialnas.space.arch.presets import DROP_PATH_RATES, preset
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network

_STAGE = re.compile(r"stages\.(\d+)\.(.+)")

_PREFIXES = {
    "patch_embed.proj.": "stem.conv.",
    "patch_embed.norm.": "stem.norm.",
    "avgpool_pre_head.1.": "head_conv.",
    "head.": "classifier.",
}

_IN_STAGES = {
    "reduction.": "conv.",
    "spatial_mixing.partial_conv3.": "mixer.parts.0.",
    "spatial_mixing.attn.cfc1.": "mixer.parts.1.gate.",
    "spatial_mixing.attn.bn.": "mixer.parts.1.gate_norm.",
    "spatial_mixing.attn.rpe_k.lookup_table_bias": "mixer.parts.1.position.table",
    "spatial_mixing.attn.": "mixer.parts.1.",
    "spatial_mixing.norm.": "mixer.parts.1.norm.",
    "mlp.0.": "mlp.expand.",
    "mlp.1.": "mlp.norm.",
    "mlp.3.": "mlp.project.",
    "mlp.4.conv_attn.": "mlp.pat_sp.attention.gate.",
    "mlp.4.norm.": "mlp.pat_sp.attention.norm.",
    "mlp.4.norm2.": "mlp.pat_sp.norm.",
    "mlp.4.conv.": "mlp.pat_sp.conv.",
}


def load_released(
    state_dict: Mapping[str, Tensor],
    architecture: Architecture | None = None,
    activation: Activation | None = None,
) -> Network:
    """Return the network of a checkpoint of the released code, with its weights.

    Args:
        state_dict: tensors by the names of the released code.
        architecture: network to build; by default inferred from the names and shapes.
        activation: activation of the network, which the weights do not determine. It is needed if
            no architecture is given and no published network has these widths and depths.

    Raises:
        UserError: The checkpoint is not one of such a network, or does not fit the architecture.
    """
    names = {_our_name(name): name for name in state_dict}
    state = {ours: state_dict[name] for ours, name in names.items()}
    shapes = _Shapes({ours: tuple(tensor.shape) for ours, tensor in state.items()}, names)
    in_chans, classes = shapes["stem.conv.weight"][1], shapes["classifier.weight"][0]
    network = Network(architecture or _infer(shapes, activation), in_chans, classes)
    _check(network, shapes)
    # checked above; the norms' counters may be missing
    network.load_state_dict(state, strict=False)
    return network


def _our_name(name: str) -> str:
    if match := _STAGE.fullmatch(name):
        index, rest = int(match[1]), match[2]
        for theirs, ours in _IN_STAGES.items():
            rest = re.sub(rf"(^|\.){re.escape(theirs)}", rf"\g<1>{ours}", rest, count=1)
        return f"stages.{(index + 1) // 2}." + ("merge." if index % 2 else "") + rest
    for theirs, ours in _PREFIXES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


class _Shapes(dict[str, tuple[int, ...]]):
    """Shapes by our names; a missing name raises a `UserError`."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], names: dict[str, str]) -> None:
        super().__init__(shapes)
        self.names = names

    def __missing__(self, name: str) -> tuple[int, ...]:
        raise UserError(f"not a checkpoint of the released code: it has no tensor for {name}")

    def count(self, pattern: str) -> int:
        """Return the largest number that the group of the pattern matches, plus 1."""
        numbers = [int(match[1]) for name in self if (match := re.match(pattern, name))]
        return max(numbers, default=-1) + 1


def _infer(shapes: _Shapes, activation: Activation | None) -> Architecture:
    stages = [_stage(shapes, index) for index in range(shapes.count(r"stages\.(\d+)\."))]
    last = [block["parts"][-1]["op"] for stage in stages[-1:] for block in stage["blocks"]]
    if any(op != "self" for op in last):
        raise UserError(
            "the last stage has no self-attention. The released code adds the mixer's input twice "
            "there, the code of FasterNet does not, and the weights do not show which of the two "
            "trained them. For a FasterNet checkpoint, pass the architecture"
        )
    return Architecture.from_data(
        {
            "stem_stride": shapes["stem.conv.weight"][2],
            "stages": stages,
            "activation": activation or _published_activation(stages),
            "head_width": shapes["head_conv.weight"][0],
        }
    )


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


def _stage(shapes: _Shapes, index: int) -> dict[str, Any]:
    width = shapes[f"stages.{index}.merge.conv.weight" if index else "stem.conv.weight"][0]
    depth = shapes.count(rf"stages\.{index}\.blocks\.(\d+)\.")
    blocks = [_block(shapes, width, f"stages.{index}.blocks.{i}.") for i in range(depth)]
    return {"width": width, "blocks": blocks}


def _block(shapes: _Shapes, width: int, at: str) -> dict[str, Any]:
    convolved = shapes[f"{at}mixer.parts.0.weight"][0]
    rest: dict[str, Any] = {"op": "identity"}
    if f"{at}mixer.parts.1.gate.weight" in shapes:
        rest = {"op": "channel"}
    elif f"{at}mixer.parts.1.qkv.weight" in shapes:
        rest = {"op": "self", "heads": shapes[f"{at}mixer.parts.1.position.table"][0]}
    return {
        "parts": [{"op": "conv", "ratio": Fraction(convolved, width)}, rest],
        "mlp_ratio": Fraction(shapes[f"{at}mlp.expand.weight"][0], width),
        "pat_sp": f"{at}mlp.pat_sp.conv.weight" in shapes,
    }


def _check(network: Network, shapes: _Shapes) -> None:
    """Check that the checkpoint has all weights of the network, in their shapes, and no others."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    problems = [
        f"{shapes.names[name]} has shape {shapes[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    problems += [f"{shapes.names[name]} is unexpected" for name in shapes if name not in expected]
    problems += [f"{name} is missing" for name in expected if name not in counters | set(shapes)]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        listed = "; ".join(problems[:5])
        raise UserError(f"the checkpoint does not fit the network: {listed}{more}")
