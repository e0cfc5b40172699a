"""Networks of subjects fit their task, and their cost is what is counted."""

import warnings

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.subject import TimmModel
from partialnas.runs.trials.build import build_network, check_subject, subject_cost
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.presets import preset
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError

DIGITS = Task(data="digits", resolution=8, channels=1, classes=10)
PHOTOS = Task(data="folder:/photos", resolution=32, channels=3, classes=7)
FASTERNET, TIMMS = preset("fasternet_t0"), TimmModel(timm="fasternet_t0")


def test_the_error_of_an_unknown_timm_model_names_similar_ones() -> None:
    check_subject(FASTERNET)
    check_subject(TIMMS)
    with pytest.raises(UserError, match=r"did you mean .*mobilenetv3_small_100"):
        check_subject(TimmModel(timm="mobilenetv3_smal_100"))
    with pytest.raises(UserError, match="list_models"):
        check_subject(TimmModel(timm="zzzzzzzzzz"))
    with pytest.raises(UserError, match="has no model"):
        build_network(TimmModel(timm="fasternet_t9"), PHOTOS)


# accepts drop path, has a fixed image size, accepts no drop path
@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "dla46x_c"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_timm_model_fits_the_task(name: str, channels: int) -> None:
    task = PHOTOS.model_copy(update={"channels": channels})
    network = build_network(TimmModel(timm=name), task, Recipe()).eval()
    with torch.no_grad():
        assert network(torch.randn(2, channels, 32, 32)).shape == (2, task.classes)


def test_an_architecture_fits_the_task_and_the_recipe() -> None:
    network = build_network(FASTERNET, PHOTOS, Recipe(drop_path=0.3, dropout=0.2))
    rates = {m.drop_prob for m in network.modules() if isinstance(m, timm.layers.DropPath)}
    assert max(rates) == pytest.approx(0.3)
    dropped = build_network(preset("partialnet_t0"), PHOTOS, Recipe(dropout=0.2))
    assert 0.2 in {m.p for m in dropped.modules() if isinstance(m, torch.nn.Dropout)}
    with torch.no_grad():
        assert network.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_drop_path_follows_the_recipe_and_not_the_default_of_timm(rate: float) -> None:
    assert max(drop_path_rates(timm.create_model("fasternet_t1"))) > 0
    network = build_network(TimmModel(timm="fasternet_t1"), PHOTOS, Recipe(drop_path=rate))
    assert max(drop_path_rates(network), default=0.0) == pytest.approx(rate)


def drop_path_rates(network: torch.nn.Module) -> list[float]:
    return [m.drop_prob for m in network.modules() if isinstance(m, timm.layers.DropPath)]


def test_drop_path_for_a_model_without_it_is_rejected() -> None:
    with pytest.raises(UserError, match=r"dla46x_c .* set recipe\.drop_path to 0"):
        build_network(TimmModel(timm="dla46x_c"), PHOTOS, Recipe(drop_path=0.1))


def test_the_error_of_too_small_images_names_the_smallest_size() -> None:
    with pytest.raises(UserError, match="32x32"):
        build_network(FASTERNET, DIGITS)


def test_architectures_are_counted_by_formula() -> None:
    whole = compute_cost(FASTERNET, InputSpec.square(32, 3, 7))
    assert subject_cost(FASTERNET, PHOTOS) == {
        "params": whole.params,
        "macs": whole.macs,
        "macs_core": whole.macs_core,
        "activations": whole.activations,
    }


def test_timm_models_are_counted_by_fvcore() -> None:
    network = timm.create_model("fasternet_t0", num_classes=7).eval()
    analysis = FlopCountAnalysis(network, torch.zeros(1, 3, 32, 32))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert subject_cost(TIMMS, PHOTOS)["macs"] == analysis.total()


def test_our_fasternet_and_that_of_timm_cost_the_same() -> None:
    assert subject_cost(FASTERNET, PHOTOS) == subject_cost(TIMMS, PHOTOS)


def test_fused_attention_counts_as_two_matrix_products_without_output(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings(record=True) as raised:
        counts = subject_cost(TimmModel(timm="vit_tiny_patch16_224"), PHOTOS)
    tokens, width, layers = (32 // 16) ** 2 + 1, 192, 12
    per_layer = tokens * width * 12 * width + 2 * tokens**2 * width
    embedding = (tokens - 1) * 16 * 16 * 3 * width
    assert counts["macs_core"] == layers * per_layer + embedding + width * PHOTOS.classes
    assert counts["macs"] > counts["macs_core"]
    assert all(type(count) is int for count in counts.values())
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not [warning for warning in raised if "fvcore" in warning.filename]
    assert torch.equal(torch.get_rng_state(), before)
