"""PartialNets as timm's users meet them."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.optim import create_optimizer_v2

import partialnas.space.timm
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import DROP_PATH_RATES, preset
from partialnas.space.errors import UserError


def test_all_published_networks_are_registered() -> None:
    assert timm.list_models("partialnet_*") == sorted(DROP_PATH_RATES)


@pytest.mark.filterwarnings("ignore:Overwriting")
def test_importing_again_is_harmless() -> None:
    importlib.import_module("partialnas.space.timm")
    importlib.reload(partialnas.space.timm)
    assert timm.create_model("partialnet_t0", num_classes=2).architecture == preset("partialnet_t0")


@pytest.mark.parametrize("name", ["partialnet_t0", "partialnet_t1", "partialnet_t2"])
def test_models_are_the_presets(name: str) -> None:
    model = timm.create_model(name)
    assert model.architecture == preset(name)
    rate = getattr(model.stages[-1].blocks[-1].drop_path, "drop_prob", 0.0)
    assert rate == DROP_PATH_RATES[name]


def test_timm_arguments_are_accepted() -> None:
    model = timm.create_model(
        "partialnet_t0", num_classes=7, in_chans=1, drop_path_rate=0.3, drop_rate=0.1
    )
    assert model(torch.zeros(2, 1, 32, 64)).shape == (2, 7)
    assert model.stages[-1].blocks[-1].drop_path.drop_prob == pytest.approx(0.3)
    assert (model.num_classes, model.num_features, model.head_hidden_size) == (7, 256, 1280)


def test_the_classifier_can_be_replaced_and_removed() -> None:
    model = timm.create_model("partialnet_t0").eval()
    x = torch.randn(2, 3, 64, 64)
    features = model.forward_features(x)
    assert features.shape == (2, 256, 2, 2)
    pooled = model.forward_head(features, pre_logits=True)
    assert torch.equal(model.classifier(pooled), model(x))
    model.reset_classifier(5)
    assert model.get_classifier()(pooled).shape == (2, 5)
    model.reset_classifier(0)
    assert torch.equal(model(x), pooled)
    model.reset_classifier(0, global_pool="")
    assert model(x).shape == (2, 1280, 2, 2)


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 3)])
def test_features_are_the_outputs_of_the_stages(out_indices: tuple[int, ...]) -> None:
    model = timm.create_model("partialnet_t0", features_only=True, out_indices=out_indices)
    strides = [(4, 8, 16, 32)[index] for index in out_indices]
    assert model.feature_info.reduction() == strides
    maps = model(torch.zeros(1, 3, 64, 96))
    sizes = [(64 // stride, 96 // stride) for stride in strides]
    assert [tuple(m.shape[-2:]) for m in maps] == sizes
    assert [m.shape[1] for m in maps] == model.feature_info.channels()


def test_the_data_configuration_is_the_published_one() -> None:
    config = resolve_model_data_config(timm.create_model("partialnet_t0"))
    assert config["crop_pct"] == 0.9
    assert config["input_size"] == (3, 224, 224)
    assert config["mean"] == (0.485, 0.456, 0.406)


def test_weight_decay_applies_to_matrices_only() -> None:
    model = timm.create_model("partialnet_t0")
    optimizer = create_optimizer_v2(model, "adamw", weight_decay=0.05)
    decayed = {
        parameter
        for group in optimizer.param_groups
        if group["weight_decay"] > 0
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        table = name.endswith("position.table")
        assert (parameter in decayed) == (parameter.dim() > 1 and not table), name


def test_layers_are_grouped_from_stem_to_head() -> None:
    model = timm.create_model("partialnet_t0")
    optimizer = create_optimizer_v2(model, "sgd", lr=1.0, layer_decay=0.5)
    scales = {p: g["lr_scale"] for g in optimizer.param_groups for p in g["params"]}
    blocks = [model.stem, *(b for s in model.stages for b in s.blocks), model.classifier]
    layer_scales = [scales[next(module.parameters())] for module in blocks]
    assert layer_scales == sorted(layer_scales)
    assert len(set(layer_scales)) == 15


def test_there_are_no_pretrained_weights_to_download() -> None:
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        timm.create_model("partialnet_t0", pretrained=True)


LARGER = Plan(width=8, depths=(1, 2, 1, 1), stem_stride=2, head_width=16).architecture()
SMALL = LARGER.model_copy(update={"stages": LARGER.stages[:2]})


def written(folder: Path) -> Path:
    path = folder / "net.json"
    path.write_text(SMALL.to_json())
    return path


def test_any_architecture_is_built_from_a_value_data_or_a_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    ways: list[Any] = [SMALL, SMALL.model_dump(mode="json"), path, str(path)]
    for way in ways:
        model = timm.create_model("partialnet", architecture=way, num_classes=5, in_chans=1)
        assert model.architecture == SMALL
        assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 5)


def test_features_of_any_architecture_are_the_outputs_of_its_stages() -> None:
    model = timm.create_model("partialnet", architecture=SMALL, features_only=True)
    assert model.feature_info.reduction() == [2, 4]
    assert [m.shape[1:] for m in model(torch.zeros(1, 3, 8, 8))] == [(8, 4, 4), (16, 2, 2)]


def test_an_invalid_architecture_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent.json"):
        timm.create_model("partialnet", architecture=tmp_path / "absent.json")
    with pytest.raises(UserError, match="stages"):
        timm.create_model("partialnet", architecture={"head_width": 3})


@pytest.mark.slow
def test_a_script_that_uses_only_timm_can_build_them(tmp_path: Path) -> None:
    script = tmp_path / "builds.py"
    script.write_text(
        "import sys, timm\n"
        "assert __name__ == '__main__'\n"
        "print(timm.create_model('partialnet', architecture=sys.argv[1]).architecture.digest)\n"
    )
    command = [sys.executable, "-m", "partialnas.space.timm", script, written(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == SMALL.digest
