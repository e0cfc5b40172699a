"""The precision of float32 arithmetic on GPUs; torch keeps its switches without a GPU, too."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from partialnas.runs.config.protocol import Precision, Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplits
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.devices.precision import precision_facts, precision_settings
from partialnas.runs.measure import prepared_model
from partialnas.runs.measure.measure import measure
from partialnas.runs.ratio_learning.tracking import relative_logit_gap
from partialnas.runs.records.job import Job
from partialnas.runs.trials import trial, trial_run
from partialnas.runs.trials.context import Context
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network

TASK = resolve_task("digits")
SMALL: dict[str, Any] = {"width": 4, "depths": (1, 1, 1, 1), "stem_stride": 1, "head_width": 16}
SUBJECT = Plan(**SMALL).architecture()
STRICT, TF32 = ["ieee"] * 3, ["tf32"] * 3
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def switches() -> list[str]:
    """Return the precision of matrix products, convolutions and recurrent layers."""
    backends = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    return [part.fp32_precision for part in parts]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give each test the switches of a fresh process, and check that they are restored."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.mkldnn.matmul.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = True
    yield
    assert switches() == ["none", "tf32", "tf32"]
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"
    assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


class Spy(Network):
    """A network that records the switches that its passes run under."""

    seen: list[list[str]]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(switches())
        return super().forward(x)


def spy() -> Spy:
    network = Spy(SUBJECT, TASK.channels, TASK.classes)
    network.seen = []
    return network


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_is_strict(
    precision: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = spy()
    monkeypatch.setattr(trial_run, "build_network", lambda *_: network)
    recipe = Recipe.model_validate({"precision": precision})
    job = Job(subject=SUBJECT, task=TASK, recipe=recipe, fidelity=1, seeds=(0,))
    (record,) = trial.run_job(job, context)
    assert record.state == "done", record.reason
    assert network.seen
    assert all(seen == STRICT for seen in network.seen)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measuring_is_strict(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    network = spy()
    monkeypatch.setattr(prepared_model, "build_network", lambda *_: network)
    settings = {"precision": precision, "form": "training", "batch_size": 2, "max_seconds": 0.1}
    measure(SUBJECT, TASK, Protocol.model_validate(settings))
    assert network.seen
    assert all(seen == STRICT for seen in network.seen)


def test_the_gap_between_forms_is_strict(few_digits: Splits) -> None:
    network = spy()
    data = DeviceSplits.from_splits(few_digits, Recipe(), CPU)
    assert relative_logit_gap(network, data.val) < 1e-5
    assert network.seen == [STRICT]


def test_tfloat32_switches_convolutions_and_products_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    with precision_settings("tfloat32", GPU):
        assert switches() == TF32
        assert torch.backends.cudnn.allow_tf32  # torch raises if both kinds of switches disagree
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
        with precision_settings("float32", GPU):
            assert switches() == STRICT
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
        assert switches() == TF32


@pytest.mark.parametrize("device", [CPU, GPU])
def test_tfloat32_is_refused_where_the_device_has_none(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with (
        pytest.raises(UserError, match=r"tfloat32 needs an NVIDIA GPU.*choose float32"),
        precision_settings("tfloat32", device),
    ):
        pass


def test_strict_arithmetic_overrides_the_general_switch() -> None:
    torch.backends.fp32_precision = "tf32"
    try:
        with precision_settings("float32", CPU):
            assert switches() == STRICT
    finally:
        torch.backends.fp32_precision = "none"
        torch.backends.cuda.matmul.fp32_precision = "none"  # restored as the value it had
        torch.backends.mkldnn.matmul.fp32_precision = "none"


def test_settings_of_either_kind_are_restored() -> None:
    torch.set_float32_matmul_precision("medium")  # bfloat16 on CPUs that have it
    with precision_settings("float32", CPU):
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    assert torch.get_float32_matmul_precision() == "medium"
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"

    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = "tf32"  # now the older switch cannot be read
    with precision_settings("float32", CPU):
        assert switches() == STRICT
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.mkldnn.matmul.fp32_precision = "none"


def test_tfloat32_is_measured_on_gpus_only() -> None:
    assert Protocol.model_validate({"device": "cuda", "precision": "tfloat32"})
    assert Recipe.model_validate({"precision": "tfloat32"})
    with pytest.raises(ValueError, match="tfloat32 needs a GPU"):
        Protocol.model_validate({"precision": "tfloat32"})


def test_records_of_gpus_state_whether_tf32_was_on() -> None:
    assert precision_facts("float32", GPU) == {"tf32": "off"}
    assert precision_facts("tfloat32", GPU) == {"tf32": "on"}
    assert precision_facts("float32", CPU) == {}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tfloat32"])
def test_on_a_gpu_convolutions_and_products_are_equally_exact(precision: Precision) -> None:
    """Compare with float64; TF32 keeps 10 bits of the mantissa, float32 23."""
    images, weights = torch.randn(8, 64, 16, 16), torch.randn(64, 64, 3, 3)
    left, right = torch.randn(512, 512), torch.randn(512, 512)
    exact = functional.conv2d(images.double(), weights.double()), left.double() @ right.double()
    with precision_settings(precision, GPU):
        computed = functional.conv2d(images.to(GPU), weights.to(GPU)), left.to(GPU) @ right.to(GPU)
    errors = [float((c.cpu() - e).norm() / e.norm()) for c, e in zip(computed, exact, strict=True)]
    low, high = (1e-8, 1e-5) if precision == "float32" else (1e-5, 1e-2)
    assert all(low < error < high for error in errors), errors
