"""Checkpoints of the released code, against logits that it computed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from partialnas.space.arch.presets import preset
from partialnas.space.deploy.released import load_released
from partialnas.space.errors import UserError

ORACLE = Path(__file__).parents[1] / "oracle"
CASES: dict[str, Any] = json.loads((ORACLE / "cases.json").read_text())


def checkpoint(case: str) -> dict[str, Tensor]:
    with np.load(ORACLE / f"{case}.npz") as arrays:
        return {
            name.removeprefix("state/"): torch.from_numpy(arrays[name])
            for name in arrays
            if name.startswith("state/")
        }


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return checkpoint("small-ndiv2-spatial-relu")


@pytest.mark.parametrize("case", CASES)
def test_logits_match_the_released_code(case: str) -> None:
    network = load_released(checkpoint(case), activation=CASES[case]["act_layer"].lower()).eval()
    assert sum(p.numel() for p in network.parameters()) == CASES[case]["params"]
    assert network.architecture.depths == tuple(CASES[case]["depths"])
    with np.load(ORACLE / f"{case}.npz") as arrays:
        for index in (0, 1):
            with torch.no_grad():
                logits = network(torch.from_numpy(arrays[f"input/{index}"])).numpy()
            expected = arrays[f"logits/{index}"]
            assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_given_architecture_must_fit(weights: dict[str, Tensor]) -> None:
    architecture = load_released(weights, activation="relu").architecture
    assert load_released(weights, architecture).architecture is architecture
    with pytest.raises(UserError, match=r"patch_embed\.proj\.weight has shape \(16, 3, 4, 4\)"):
        load_released(weights, preset("partialnet_t0"))


def released_shapes(e: int, depths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a released checkpoint with PAT_sp."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (e, 3, 4, 4),
        "avgpool_pre_head.1.weight": (1280, 8 * e, 1, 1),
        "head.weight": (1000, 1280),
        "head.bias": (1000,),
    }
    shapes |= _norm("patch_embed.norm", e)
    for stage, depth in enumerate(depths):
        width = e * 2**stage
        if stage:
            merge = f"stages.{2 * stage - 1}"
            shapes[f"{merge}.reduction.weight"] = (width, width // 2, 2, 2)
            shapes |= _norm(f"{merge}.norm", width)
        for index in range(depth):
            shapes |= _block(f"stages.{2 * stage}.blocks.{index}", width, stage == 3)
    return shapes


def _block(at: str, width: int, last_stage: bool) -> dict[str, tuple[int, ...]]:
    c1, c2, half = width // 4, width - width // 4, width // 2
    mixing, spatial = f"{at}.spatial_mixing", f"{at}.mlp.4"
    shapes: dict[str, tuple[int, ...]] = {
        f"{mixing}.partial_conv3.weight": (c1, c1, 3, 3),
        f"{at}.mlp.0.weight": (2 * width, width, 1, 1),
        f"{at}.mlp.3.weight": (width, 2 * width, 1, 1),
        f"{spatial}.conv.weight": (half, half, 1, 1),
        f"{spatial}.conv_attn.weight": (1, half, 1, 1),
    }
    shapes |= _norm(f"{at}.mlp.1", 2 * width)
    shapes |= _norm(f"{spatial}.norm", half) | _norm(f"{spatial}.norm2", half)
    if not last_stage:
        shapes[f"{mixing}.attn.cfc1.weight"] = (c2, c2, 1, 2)
        return shapes | _norm(f"{mixing}.attn.bn", c2) | _norm(f"{mixing}.norm", c2)
    return shapes | {
        f"{mixing}.attn.qkv.weight": (3 * c2, c2),
        f"{mixing}.attn.proj.weight": (c2, c2),
        f"{mixing}.attn.proj.bias": (c2,),
        f"{mixing}.attn.rpe_k.lookup_table_bias": (4, 81),
        f"{mixing}.norm.weight": (c2,),
        f"{mixing}.norm.bias": (c2,),
    }


def _norm(at: str, channels: int) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{at}.{name}": (channels,) for name in names}


def test_a_published_network_is_recognized() -> None:
    shapes = released_shapes(48, (1, 2, 8, 2))
    network = load_released({name: torch.zeros(shape) for name, shape in shapes.items()})
    assert network.architecture.digest == preset("partialnet_t1").digest


def test_an_unknown_activation_must_be_given(weights: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="pass activation="):
        load_released(weights)


@pytest.mark.parametrize(
    ("without", "more", "message"),
    [
        ("patch_embed.proj", "", "no tensor for stem.conv.weight"),
        ("blocks.0.mlp.0", "", "no tensor for stages.0.blocks.0.mlp.expand.weight"),
        ("mlp.1.running_mean", "", "running_mean is missing"),
        ("nothing", "stages.0.blocks.0.gates", "stages.0.blocks.0.gates is unexpected"),
        ("stages.6.blocks.0.spatial_mixing.attn", "", "no self-attention"),
    ],
)
def test_other_checkpoints_are_rejected(
    weights: dict[str, Tensor], without: str, more: str, message: str
) -> None:
    kept = {name: tensor for name, tensor in weights.items() if without not in name}
    if more:
        kept[more] = torch.zeros(1)
    with pytest.raises(UserError, match=message):
        load_released(kept, activation="relu")
