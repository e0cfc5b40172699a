"""Checkpoints of the released code, against logits that it computed."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from partialnas.space.arch.presets import preset
from partialnas.space.deploy.released import load_released
from partialnas.space.deploy.released_tensors import read_released
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network

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
        ("patch_embed.proj", "", r"no tensor patch_embed\.proj\.weight; it has patch_embed\.norm"),
        ("blocks.0.mlp.0", "", r"no tensor stages\.0\.blocks\.0\.mlp\.0\.weight"),
        ("mlp.1.running_mean", "", r"stages\.0\.blocks\.0\.mlp\.1\.running_mean is missing"),
        ("nothing", "stages.0.blocks.0.gates", r"stages\.0\.blocks\.0\.gates is unexpected"),
        ("stages.6.blocks.0.spatial_mixing.attn", "", "no self-attention"),
        ("nothing", "stages.0.blocks.0.spatial_mixing.gate", "DPConv"),
        ("stages.1.", "", r"no tensor stages\.1\.reduction\.weight"),
        ("head.bias", "", r"no complete head: head\.bias is missing; pass strict_head=False"),
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


def test_errors_name_tensors_as_the_checkpoint_does(weights: dict[str, Tensor]) -> None:
    del weights["stages.5.norm.weight"]
    wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}
    with pytest.raises(UserError, match=r"module\.stages\.5\.norm\.weight is missing"):
        load_released(wrapped, activation="relu")


PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "backbone.")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prefixes=st.lists(st.sampled_from(PREFIXES), max_size=3),
    keys=st.lists(st.sampled_from(["state_dict", "model", "model_ema", "ema"]), max_size=3),
)
def test_the_tensors_lie_in_any_dictionary_under_any_prefix(
    weights: dict[str, Tensor], prefixes: list[str], keys: list[str]
) -> None:
    prefix = "".join(prefixes)
    wrapped: dict[str, Any] = {prefix + name: tensor for name, tensor in weights.items()}
    if prefix:
        wrapped["neck.weight"] = torch.zeros(1)
    for key in keys:
        wrapped = {"epoch": 3, key: wrapped, "optimizer": {"state": {}, "lr": 0.1}}
    tensors = read_released(wrapped)
    assert tensors.prefix == prefix
    assert tensors == weights


def test_averaged_weights_are_preferred(weights: dict[str, Tensor]) -> None:
    averaged = {name: tensor / 2 for name, tensor in weights.items()}
    for key in ("model_ema", "state_dict_ema", "ema"):
        assert read_released({"model": weights, key: averaged}) == averaged
    together = {f"model.{name}": tensor for name, tensor in weights.items()}
    together |= {f"ema.module.{name}": tensor for name, tensor in averaged.items()}
    assert read_released({"state_dict": together}) == averaged


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: {"student": w, "teacher": w}, "several networks.*student / …; teacher / …"),
        (lambda w: {name: tensor.numpy() for name, tensor in w.items()}, r"torch\.from_numpy"),
        (lambda w: {name: tensor.to("meta") for name, tensor in w.items()}, "meta device"),
        (lambda w: w | {"head.bias": None}, r"head\.bias is not a tensor but of type NoneType"),
        (lambda w: [w], "no tensor patch_embed.proj.weight; it is of type list"),
        (lambda _: {}, "it is empty"),
        (lambda _: nn.Identity(), r"state_dict\(\)"),
        (lambda _: Network(preset("partialnet_t0"), 1, 1).state_dict(), "weights of partialnas"),
    ],
)
def test_what_is_no_checkpoint_is_described(
    weights: dict[str, Tensor], spoil: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_released(spoil(weights), activation="relu")


def test_files_of_torch_and_safetensors_are_read(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    checkpoint = {"state_dict": weights, "args": argparse.Namespace(lr=0.1), "epoch": 3}
    torch.save(checkpoint, tmp_path / "last.pth.tar")
    save_file(weights, tmp_path / "weights.safetensors")
    for path in (tmp_path / "last.pth.tar", str(tmp_path / "weights.safetensors")):
        tensors = read_released(path)
        assert tensors.keys() == weights.keys()
        assert all(torch.equal(tensors[name], tensor) for name, tensor in weights.items())


class _Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


def test_files_never_run_code(
    weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": weights, "callback": _Harmful()}, "harmful.ckpt")
    with pytest.raises(UserError, match=r"harmful\.ckpt: holds objects.*mkdir.*weights_only=False"):
        load_released("harmful.ckpt")
    assert not Path("harm").exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_unreadable_files_are_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{suffix}"
    with pytest.raises(UserError, match=rf"net\.{suffix}: cannot be read: No such file"):
        load_released(path)
    for content in (b"", b"no weights", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"net\.{suffix}: not a checkpoint, or damaged"):
            load_released(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(weights: dict[str, Tensor], dtype: torch.dtype) -> None:
    half = {name: tensor.to(dtype) for name, tensor in weights.items()}
    network = load_released(half, activation="relu")
    stored = half["patch_embed.proj.weight"]
    assert network.stem.conv.weight.dtype == torch.float32
    assert torch.equal(network.stem.conv.weight, stored.float())


def test_another_number_of_classes_needs_leave(weights: dict[str, Tensor]) -> None:
    whole = load_released(weights, activation="relu")
    with pytest.raises(UserError, match="has 10 classes, not 3; pass strict_head=False"):
        load_released(weights, activation="relu", num_classes=3)
    network = load_released(weights, activation="relu", num_classes=3, strict_head=False)
    x = torch.randn(2, 3, 32, 32)
    assert network.eval()(x).shape == (2, 3)
    expected = whole.eval().forward_head(whole.forward_features(x), pre_logits=True)
    features = network.forward_head(network.forward_features(x), pre_logits=True)
    assert torch.equal(features, expected)


@pytest.mark.parametrize(
    ("missing", "width"), [("head.", 64), (("head.", "avgpool_pre_head."), 128)]
)
def test_a_missing_head_needs_leave(
    weights: dict[str, Tensor], missing: str | tuple[str, ...], width: int
) -> None:
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(missing)}
    network = load_released(kept, activation="relu", strict_head=False).eval()
    x = torch.randn(2, 3, 64, 64)
    assert network(x).shape[:2] == (2, width)
    whole = load_released(weights, activation="relu").eval()
    assert torch.equal(network.forward_features(x), whole.forward_features(x))
    again = load_released(kept, activation="relu", num_classes=5, strict_head=False)
    assert again(x).shape == (2, 5)


def test_the_backbone_of_a_detector_returns_normalized_maps(weights: dict[str, Tensor]) -> None:
    network = load_released(weights, activation="relu").eval()
    x = torch.randn(1, 3, 64, 64)
    expected, norms = [], {}
    maps = network.stem(x)
    for index, stage in enumerate(network.stages):
        maps = stage(maps)
        norm = {name: torch.rand(maps.shape[1]) + 0.5 for name in ("weight", "bias")}
        norm |= {name: torch.rand(maps.shape[1]) + 0.5 for name in ("running_mean", "running_var")}
        expected.append(functional.batch_norm(maps, **norm))
        norms |= {f"norm{2 * index}.{name}": tensor for name, tensor in norm.items()}
    kept = {name: tensor for name, tensor in weights.items() if "head" not in name}
    detector = {f"backbone.{name}": tensor for name, tensor in (kept | norms).items()}
    detector["rpn_head.rpn_conv.weight"] = torch.zeros(1)
    backbone = load_released({"state_dict": detector, "meta": {}}, activation="relu").eval()
    normalized = backbone.forward_intermediates(x, norm=True, intermediates_only=True)
    torch.testing.assert_close(normalized, expected)
    assert torch.equal(backbone(x), maps)
    assert not [name for name, _ in backbone.named_parameters() if "head" in name]
