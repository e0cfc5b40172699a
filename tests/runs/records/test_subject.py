import json
import subprocess
import sys
import warnings
from typing import Any

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.subject import (
    Subject,
    TimmModel,
    parse_subject,
    subject_data,
    subject_digest,
    subject_name,
)
from partialnas.runs.training.build import build_network, check_subject, subject_cost
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.presets import preset
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError

DIGITS = Task(data="digits", resolution=8, channels=1, classes=10)
PHOTOS = Task(data="folder:/photos", resolution=32, channels=3, classes=7)
FASTERNET, TIMMS = preset("fasternet_t0"), TimmModel(timm="fasternet_t0")
SUBJECTS: list[Subject] = [FASTERNET, preset("partialnet_t0"), TIMMS]


@pytest.mark.parametrize("subject", SUBJECTS, ids=subject_name)
def test_plain_data_bring_a_subject_back(subject: Subject) -> None:
    told = json.dumps(subject_data(subject))
    assert parse_subject(json.loads(told)) == subject
    assert parse_subject(subject) is subject
    assert subject_digest(parse_subject(json.loads(told))) == subject_digest(subject)


def test_timm_is_named_as_in_a_study() -> None:
    assert parse_subject("timm:fasternet_t0") == TIMMS
    assert subject_name(TIMMS) == "timm:fasternet_t0"


def test_digests_tell_networks_apart_and_not_names() -> None:
    digests = [subject_digest(subject) for subject in SUBJECTS]
    assert len(set(digests)) == len(digests)
    assert all(len(bytes.fromhex(digest)) == 8 for digest in digests)
    renamed = FASTERNET.model_copy(update={"name": "other"})
    assert subject_digest(renamed) == subject_digest(FASTERNET)


def test_a_nameless_architecture_goes_by_its_digest() -> None:
    nameless = Architecture.from_data({**subject_data(FASTERNET), "name": ""})
    assert subject_name(nameless) == subject_digest(nameless)
    assert subject_name(FASTERNET) == "fasternet_t0"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"timm": "resnet18.a1_in1k"}, "resnet18.a1_in1k"),
        ("timm:hf-hub:someone/model", "hf-hub:someone/model"),
        ("timm:../../model", "../../model"),
        ("timm:", "''"),
        ({"timm": "resnet18", "pretrained": True}, "pretrained: unknown key"),
        ({"stages": [{"width": 4}]}, "stages[0].blocks: missing"),
        ("fasternet_t0", "timm:NAME"),
        (7, "timm:NAME"),
    ],
)
def test_what_is_no_subject_is_refused(data: Any, told: str) -> None:
    with pytest.raises(UserError) as error:
        parse_subject(data)
    assert told in str(error.value)


def test_a_model_that_timm_lacks_is_told_with_its_neighbours() -> None:
    check_subject(FASTERNET)
    check_subject(TIMMS)
    with pytest.raises(UserError, match=r"did you mean .*mobilenetv3_small_100"):
        check_subject(TimmModel(timm="mobilenetv3_smal_100"))
    with pytest.raises(UserError, match="list_models"):
        check_subject(TimmModel(timm="zzzzzzzzzz"))
    with pytest.raises(UserError, match="has no model"):
        build_network(TimmModel(timm="fasternet_t9"), PHOTOS)


# takes drop path, is made for one size of images, takes no drop path
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
def test_drop_path_is_the_recipes_and_not_timms_own(rate: float) -> None:
    assert max(drop_path_rates(timm.create_model("fasternet_t1"))) > 0
    network = build_network(TimmModel(timm="fasternet_t1"), PHOTOS, Recipe(drop_path=rate))
    assert max(drop_path_rates(network), default=0.0) == pytest.approx(rate)


def drop_path_rates(network: torch.nn.Module) -> list[float]:
    return [m.drop_prob for m in network.modules() if isinstance(m, timm.layers.DropPath)]


def test_drop_path_for_a_model_without_is_refused() -> None:
    with pytest.raises(UserError, match=r"dla46x_c .* recipe\.drop_path must be 0"):
        build_network(TimmModel(timm="dla46x_c"), PHOTOS, Recipe(drop_path=0.1))


def test_too_small_images_are_refused_with_what_works() -> None:
    with pytest.raises(UserError, match="32x32"):
        build_network(FASTERNET, DIGITS)


def test_an_architecture_costs_what_the_formula_says() -> None:
    whole = compute_cost(FASTERNET, InputSpec.square(32, 3, 7))
    assert subject_cost(FASTERNET, PHOTOS) == {
        "params": whole.params,
        "macs": whole.macs,
        "macs_core": whole.macs_core,
        "activations": whole.activations,
    }


def test_a_timm_model_is_counted_as_fvcore_counts_it() -> None:
    network = timm.create_model("fasternet_t0", num_classes=7).eval()
    analysis = FlopCountAnalysis(network, torch.zeros(1, 3, 32, 32))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert subject_cost(TIMMS, PHOTOS)["macs"] == analysis.total()


def test_ours_and_timms_network_of_one_name_cost_the_same() -> None:
    assert subject_cost(FASTERNET, PHOTOS) == subject_cost(TIMMS, PHOTOS)


def test_fused_attention_counts_as_its_two_matrix_products_and_in_silence(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings(record=True) as raised:
        figures = subject_cost(TimmModel(timm="vit_tiny_patch16_224"), PHOTOS)
    tokens, width, layers = (32 // 16) ** 2 + 1, 192, 12
    per_layer = tokens * width * 12 * width + 2 * tokens**2 * width
    embedding = (tokens - 1) * 16 * 16 * 3 * width
    assert figures["macs_core"] == layers * per_layer + embedding + width * PHOTOS.classes
    assert figures["macs"] > figures["macs_core"]
    assert all(type(figure) is int for figure in figures.values())
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not [each for each in raised if "fvcore" in each.filename]
    assert torch.equal(torch.get_rng_state(), before)


def test_subjects_are_told_without_torch() -> None:
    program = (
        "import sys; from partialnas.runs.records.subject import *;"
        "from partialnas.space.arch.presets import preset;"
        "s = [parse_subject('timm:resnet18'), preset('partialnet_t0')];"
        "[(parse_subject(subject_data(x)), subject_digest(x), subject_name(x)) for x in s];"
        "assert not {'torch', 'timm', 'fvcore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
