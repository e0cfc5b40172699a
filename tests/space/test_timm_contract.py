"""What timm expects of every model, of a small network and (slow) of the six presets."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.feature_extraction import create_feature_extractor

import partialnas.space.timm  # noqa: F401
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import DROP_PATH_RATES
from partialnas.space.arch.ratio import LearnedRatio
from partialnas.space.deploy.released import load_released
from partialnas.space.errors import UserError

Shake = Callable[[nn.Module, int], None]

ATTENTION: Any = {"channel": "stages 1-3", "self": "stage 4"}
SMALL = Plan(width=16, depths=(1, 1, 2, 1), attention=ATTENTION, pat_sp=True, head_width=24)
FEATURE_CLASSES = ("list", "dict", "hook", "getter", "fx")
NAMES = ["partialnet", *(pytest.param(n, marks=pytest.mark.slow) for n in DROP_PATH_RATES)]

every_model = pytest.mark.parametrize("name", NAMES)


def create(name: str = "partialnet", **arguments: Any) -> Any:
    """Return a model of timm; `partialnet` is the small network."""
    if name == "partialnet":
        arguments = {"architecture": SMALL.architecture(), **arguments}
    return timm.create_model(name, **arguments)


def stage_outputs(model: Any, x: Tensor) -> list[Tensor]:
    """Return the maps of the stages, observed from outside while the model runs."""
    maps: list[Tensor] = []
    handles = [s.register_forward_hook(lambda *args: maps.append(args[-1])) for s in model.stages]
    model(x)
    for handle in handles:
        handle.remove()
    return maps


def as_list(features: Any) -> list[Tensor]:
    return list(features.values()) if isinstance(features, dict) else features


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 96)


@every_model
@torch.no_grad()
def test_intermediates_are_the_outputs_of_the_stages(name: str, images: Tensor) -> None:
    model = create(name).eval()
    maps = stage_outputs(model, images)
    info = FeatureInfo(model.feature_info, out_indices=4)
    assert [m.shape[1] for m in maps] == info.channels()
    assert [64 // m.shape[2] for m in maps] == info.reduction() == [4, 8, 16, 32]
    for indices, positions in [(None, [0, 1, 2, 3]), (2, [2, 3]), ([0, -2], [0, 2]), ((1,), [1])]:
        expected = [maps[position] for position in positions]
        final, chosen = model.forward_intermediates(images, indices)
        torch.testing.assert_close((final, chosen), (maps[-1], expected), rtol=0, atol=0)
        final, chosen = model.forward_intermediates(images, indices, stop_early=True)
        torch.testing.assert_close((final, chosen), (expected[-1], expected), rtol=0, atol=0)
        only = model.forward_intermediates(images, indices, norm=True, intermediates_only=True)
        torch.testing.assert_close(only, expected, rtol=0, atol=0)
    model.set_grad_checkpointing()
    torch.testing.assert_close(model.forward_intermediates(images)[0], maps[-1])


@pytest.mark.parametrize("indices", [0, 5, [4], [-5], []])
def test_stages_that_do_not_exist_are_refused(indices: Any, images: Tensor) -> None:
    model = create()
    for method in (
        lambda i: model.forward_intermediates(images, i),
        model.prune_intermediate_layers,
    ):
        with pytest.raises(UserError, match="choose from the 4 stages, 0 to 3"):
            method(indices)


def test_pooling_that_changes_the_width_is_refused() -> None:
    with pytest.raises(UserError, match="invalid global_pool 'catavgmax'"):
        create(global_pool="catavgmax")
    with pytest.raises(UserError, match="invalid global_pool 'catavgmax'"):
        create().reset_classifier(3, "catavgmax")


def test_other_layouts_are_refused(images: Tensor) -> None:
    with pytest.raises(UserError, match=r"'NHWC'.*NCHW"):
        create().forward_intermediates(images, output_fmt="NHWC")


def test_pruning_keeps_what_the_chosen_maps_need(images: Tensor) -> None:
    model = create(output_norms=True)
    with torch.no_grad():
        maps = model.eval().forward_intermediates(images, norm=True, intermediates_only=True)
        logits = model(images)
        whole = copy.deepcopy(model)
        assert whole.prune_intermediate_layers([3], prune_head=False) == [3]
        assert torch.equal(whole(images), logits)
    for index in range(4):
        pruned = copy.deepcopy(model)
        assert pruned.prune_intermediate_layers([index - 4]) == [index]
        (chosen,) = pruned.forward_intermediates(images, [index], True, intermediates_only=True)
        torch.testing.assert_close(chosen, maps[index], rtol=0, atol=0)
        features = pruned.forward_features(images)
        assert torch.equal(pruned(images), features)
        assert features.shape[1] == pruned.num_features == pruned.head_hidden_size
        chosen.square().sum().backward()
        unused = [n for n, parameter in pruned.named_parameters() if parameter.grad is None]
        assert not unused
        pruned.reset_classifier(0, "avg")
        torch.testing.assert_close(pruned(images), features.mean((2, 3)))
        pruned.reset_classifier(3)
        assert pruned(images).shape == (2, 3)
        pruned.prune_intermediate_layers([index], prune_norm=True)
        assert not [n for n, _ in pruned.named_parameters() if "norms" in n]


@torch.no_grad()
def test_norms_of_the_outputs_are_applied_on_request(shake: Shake, images: Tensor) -> None:
    model = create(output_norms=True).eval()
    shake(model, 0)
    maps = stage_outputs(model, images)
    expected = [
        functional.batch_norm(m, n.running_mean, n.running_var, n.weight, n.bias)
        for m, n in zip(maps, model.output_norms, strict=True)
    ]
    assert torch.equal(model.forward_intermediates(images)[1][0], maps[0])
    normalized = model.forward_intermediates(images, norm=True, intermediates_only=True)
    torch.testing.assert_close(normalized, expected)
    features = create(output_norms=True, features_only=True, out_indices=(1, 3)).eval()
    features.model.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(features(images), [expected[1], expected[3]])


@pytest.mark.filterwarnings("ignore:NOTE. The nodes obtained by tracing")
@torch.no_grad()
def test_all_feature_extractors_agree(images: Tensor) -> None:
    torch.manual_seed(1)
    maps = stage_outputs(create().eval(), images)
    for feature_class in FEATURE_CLASSES:
        torch.manual_seed(1)
        model = create(features_only=True, feature_cls=feature_class, out_indices=(0, 2))
        assert model.feature_info.channels() == [maps[0].shape[1], maps[2].shape[1]]
        torch.testing.assert_close(as_list(model.eval()(images)), [maps[0], maps[2]])


@pytest.mark.filterwarnings("ignore:NOTE. The nodes obtained by tracing")
@pytest.mark.parametrize("feature_class", FEATURE_CLASSES)
def test_small_images_are_refused_where_a_stage_needs_more(feature_class: str) -> None:
    model = create(features_only=True, feature_cls=feature_class, out_indices=(0, 2)).eval()
    assert [m.shape[-1] for m in as_list(model(torch.zeros(1, 3, 16, 16)))] == [4, 1]
    with pytest.raises(UserError, match=r"too small.*at least 32x32 pixels"):
        model(torch.zeros(1, 3, 16, 15))


@pytest.mark.filterwarnings("ignore:NOTE. The nodes obtained by tracing")
@every_model
def test_traced_graphs_compute_the_same(name: str, images: Tensor) -> None:
    model = create(name, num_classes=5, drop_path_rate=0.0, attention_dropout=0.0)
    extractor = create_feature_extractor(model, {"classifier": "logits", "stages.1": "maps"})
    traced = torch.fx.symbolic_trace(model.eval())
    smaller = images[:1, :, :32, :64]
    for x in (images, smaller):
        assert torch.equal(traced(x), model(x))
        assert torch.equal(extractor.eval()(x)["logits"], model(x))
    assert torch.equal(extractor.train()(images)["logits"], model.train()(images))
    extractor(images)["logits"].square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@every_model
def test_factory_arguments_place_all_tensors(name: str) -> None:
    model = create(name, device="meta", dtype=torch.bfloat16)
    tensors = [*model.parameters(), *model.buffers()]
    assert {t.device.type for t in tensors} == {"meta"}
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.bfloat16}
    model.requires_grad_(False).eval().reset_classifier(0, "")
    assert model(torch.empty(1, 3, 64, 64, device="meta", dtype=torch.bfloat16)).ndim == 4
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.reset_classifier(3, "avg")
    assert (model.classifier.weight.device.type, model.classifier.training) == ("meta", False)
    with pytest.raises(TypeError, match="not_an_argument"):
        create(name, not_an_argument=1)


def test_weights_do_not_depend_on_the_factory_arguments() -> None:
    models = []
    for arguments in ({}, {"device": "cpu", "dtype": torch.float64}):
        torch.manual_seed(2)
        models.append(create(**arguments).state_dict())
    for tensor, again in zip(*(model.values() for model in models), strict=True):
        assert torch.equal(tensor.to(again.dtype), again)


def test_models_of_any_name_are_created_without_arguments() -> None:
    names = timm.list_models("partialnet*")
    assert {"partialnet", *DROP_PATH_RATES} == {*names}
    for name in names:
        assert timm.create_model(name, device="meta").default_cfg["architecture"] == name


@pytest.mark.parametrize("size", [(3, 224, 224), (1, 64, 96)])
def test_the_configuration_states_the_size_of_the_last_maps(size: tuple[int, int, int]) -> None:
    model = create(pretrained_cfg_overlay={"input_size": size})
    maps = model.forward_features(torch.zeros(1, *size))
    assert (model.in_chans, maps.shape[-2:]) == (size[0], model.default_cfg["pool_size"])


def test_the_images_of_a_deep_network_are_large_enough() -> None:
    stage = {"width": 2, "blocks": [{"parts": [{"op": "conv"}]}]}
    deep = Architecture.from_data({"stages": [stage] * 8, "head_width": 2})
    model = timm.create_model("partialnet", architecture=deep, device="meta")
    assert model.default_cfg["input_size"] == (3, 512, 512)
    assert model.default_cfg["pool_size"] == (1, 1)


def test_learned_ratios_come_with_a_warning() -> None:
    learned = Plan(width=16, depths=(1, 1, 1, 1), ratio=LearnedRatio()).architecture()
    with pytest.warns(UserWarning, match="learned ratios, which only trials of partialnas learn"):
        timm.create_model("partialnet", architecture=learned)


ORACLE = Path(__file__).parent / "oracle"
CASE = "small-channel-self-spatial-relu"


class Released:
    """A checkpoint of the released code with an image and the logits that it computed."""

    def __init__(self, folder: Path) -> None:
        with np.load(ORACLE / f"{CASE}.npz") as arrays:
            self.images = torch.from_numpy(arrays["input/0"])
            self.logits = torch.from_numpy(arrays["logits/0"])
            names = [name for name in arrays if name.startswith("state/")]
            weights = {n.removeprefix("state/"): torch.from_numpy(arrays[n]) for n in names}
        self.weights = weights
        self.network = load_released(weights, activation="relu").eval()
        self.file = folder / "released.pth"
        wrapped = {f"model.{name}": tensor for name, tensor in weights.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, self.file)
        classes = json.loads((ORACLE / "cases.json").read_text())[CASE]["num_classes"]
        self.source = {"file": str(self.file), "num_classes": classes}

    def create(self, **arguments: Any) -> Any:
        return timm.create_model(
            "partialnet", architecture=self.network.architecture, **arguments
        ).eval()


@pytest.fixture
def released(tmp_path: Path) -> Released:
    return Released(tmp_path)


@torch.no_grad()
def test_released_files_load_through_timm(released: Released) -> None:
    overlay = {"pretrained": True, "pretrained_cfg_overlay": released.source}
    for arguments in ({"checkpoint_path": released.file, "num_classes": 10}, overlay):
        logits = released.create(**arguments)(released.images)
        assert (logits - released.logits).abs().max() <= 1e-5 * released.logits.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("feature_class", FEATURE_CLASSES[:4])
def test_released_files_load_into_feature_extractors(
    released: Released, feature_class: str
) -> None:
    model = released.create(
        features_only=True,
        feature_cls=feature_class,
        pretrained=True,
        pretrained_cfg_overlay=released.source,
    )
    expected = stage_outputs(released.network, released.images)
    torch.testing.assert_close(as_list(model(released.images)), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "partialnet_t0"])
def test_features_load_by_the_overlay_alone_as_for_models_of_timm(
    tmp_path: Path, name: str
) -> None:
    file = str(tmp_path / "weights.pth")
    model = timm.create_model(name).eval()
    torch.save(model.state_dict(), file)
    with pytest.raises(RuntimeError, match="loading state_dict"):
        timm.create_model(name, checkpoint_path=file, features_only=True)
    backbone = timm.create_model(
        name, features_only=True, pretrained=True, pretrained_cfg_overlay={"file": file}
    ).eval()
    images = torch.rand(1, *model.default_cfg["input_size"])
    features = model.forward_intermediates(images, intermediates_only=True)
    torch.testing.assert_close(backbone(images)[-1], features[-1])


def test_released_files_adapt_to_other_images_and_classes(released: Released) -> None:
    model = released.create(
        in_chans=1, num_classes=3, pretrained=True, pretrained_cfg_overlay=released.source
    )
    gray = released.images[:, :1]
    features = released.network.forward_features(gray.expand(-1, 3, -1, -1))
    torch.testing.assert_close(model.forward_features(gray), features)
    assert model(gray).shape == (len(gray), 3)


def test_released_detectors_need_norms_of_the_outputs(released: Released) -> None:
    norms = {
        f"norm{2 * index}.{name}": torch.rand(width) + 0.5
        for index, width in enumerate(released.network.architecture.widths)
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    backbone = {n: t for n, t in released.weights.items() if "head" not in n} | norms
    torch.save({"state_dict": {f"backbone.{n}": t for n, t in backbone.items()}}, released.file)
    arguments = {
        "features_only": True, "pretrained": True, "pretrained_cfg_overlay": released.source
    }  # fmt: skip
    with pytest.raises(UserError, match="pass output_norms=True"):
        released.create(**arguments)
    maps = released.create(**arguments, output_norms=True)(released.images)
    network = load_released(released.file, activation="relu").eval()
    expected = network.forward_intermediates(released.images, norm=True, intermediates_only=True)
    torch.testing.assert_close(maps, expected)
