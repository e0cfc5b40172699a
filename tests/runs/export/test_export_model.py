"""The exported network computes what the trained one did, and timm loads it."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from trained_studies import (
    FILES,
    NUMBERS,
    QUICK,
    TASK,
    TRAINED,
    create_trained_study,
    export_model,
    is_close,
    job_of,
    learned,
    planned,
    randomize,
    trained_logits,
    trained_weights,
)

import partialnas.space.timm  # noqa: F401
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.export import export_model as exporting
from partialnas.runs.export.export_model import ExportResult
from partialnas.runs.export.verification import ExportVerification
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.trials.checkpoint import load_weights
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.ratio import LearnedRatio
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.errors import MachineError
from partialnas.space.nn.network import Network


@pytest.mark.parametrize("name", ["threshold", "gates"])
def test_kept_weights_restore_the_learned_ratios(name: str, study: Path) -> None:
    key = job_of(TRAINED[name]).trial_keys[0]
    network = Network(TRAINED[name], in_chans=1, num_classes=10)
    load_weights(trained_weights(study, key), network, load_splits(TASK))
    with Ledger.open(study) as ledger:
        last = ledger.ratios(key)[-1]
    mixers = learned_mixers(network)
    assert len(mixers) == len(last.channels) == 4
    for (stage, block), mixer in mixers.items():
        assert mixer.fixed
        assert mixer.sizes[0] == last.channels[f"stage {stage + 1}, block {block + 1}"]


@pytest.mark.parametrize("name", TRAINED)
def test_the_exported_static_network_computes_the_same(
    name: str, study: Path, exports: dict[str, ExportResult], images: Tensor
) -> None:
    folder = study.parent / name
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert sorted(exports[name].files) == [folder / file for file in FILES]
    architecture = Architecture.from_file(folder / "architecture.json")
    assert architecture.learned is None
    network = Network(architecture, in_chans=1, num_classes=10)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.inference_mode():
        logits = network.eval()(images)
    assert is_close(trained_logits(study, name, images), logits)
    with Ledger.open(study) as ledger:
        row, ratios = (
            ledger.trial(NUMBERS[name]),
            ledger.ratios(job_of(TRAINED[name]).trial_keys[0]),
        )
    assert architecture.digest == (ratios[-1].frozen if ratios else TRAINED[name].digest)
    with torch.no_grad():
        flops = FlopCountAnalysis(network, torch.zeros(1, 1, 8, 8))
        assert flops.unsupported_ops_warnings(False).total() == row.cost["macs"]


@pytest.mark.parametrize("name", TRAINED)
def test_timm_builds_the_network_and_loads_its_weights(
    name: str, study: Path, exports: dict[str, ExportResult], images: Tensor
) -> None:
    folder = exports[name].files[0].parent
    expected = trained_logits(study, name, images)
    by_folder = timm.create_model(f"local-dir:{folder}", pretrained=True)
    by_file = timm.create_model(
        "partialnet",
        architecture=folder / "architecture.json",
        checkpoint_path=folder / "model.safetensors",
        in_chans=1,
        num_classes=10,
    )
    with torch.inference_mode():
        assert all(is_close(expected, model.eval()(images)) for model in (by_folder, by_file))


def test_the_exported_network_is_a_feature_extractor_of_timm(
    exports: dict[str, ExportResult], images: Tensor
) -> None:
    folder = f"local-dir:{exports['threshold'].files[0].parent}"
    whole = timm.create_model(folder, pretrained=True).eval()
    with torch.inference_mode():
        expected = whole.forward_intermediates(images, intermediates_only=True)
        for feature_class in ("list", "getter"):
            extractor = timm.create_model(
                folder, pretrained=True, features_only=True, feature_cls=feature_class
            )
            torch.testing.assert_close(extractor.eval()(images), expected)


def test_timm_reads_the_data_config_and_adapts_to_another_task(
    exports: dict[str, ExportResult],
) -> None:
    folder = exports["threshold"].files[0].parent
    splits = load_splits(TASK)
    data = resolve_model_data_config(timm.create_model(f"local-dir:{folder}"))
    assert tuple(data["input_size"]) == (1, 8, 8)
    assert data["mean"] == pytest.approx(splits.mean.tolist(), abs=1e-6)
    assert data["std"] == pytest.approx(splits.std.tolist(), abs=1e-6)
    other = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=3, in_chans=3)
    assert other(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
    weight = load_file(folder / "model.safetensors")["head_conv.weight"]
    assert torch.equal(other.head_conv.weight, weight)


def test_the_model_can_be_saved_for_the_hub(
    exports: dict[str, ExportResult], tmp_path: Path, images: Tensor
) -> None:
    folder = exports["threshold"].files[0].parent
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    timm.models.save_for_hf(model, tmp_path / "hub", safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    with torch.inference_mode():
        assert torch.equal(model(images), again(images))


@pytest.mark.parametrize("name", TRAINED)
def test_the_proof_file_holds_the_verification(
    name: str, study: Path, exports: dict[str, ExportResult], images: Tensor
) -> None:
    text = (study.parent / name / "proof.json").read_text()
    proof = ExportVerification.model_validate_json(text)
    assert proof == exports[name].verification
    with Ledger.open(study) as ledger:
        row = ledger.trial(NUMBERS[name])
    assert proof.outputs.images == len(images) == 180
    assert proof.outputs.difference <= proof.outputs.at_most == 1e-5
    assert proof.outputs.val_accuracy == pytest.approx(row.metrics["val_accuracy"])
    assert (proof.trial, proof.key) == (f"{study}:{row.number}", row.key)
    assert proof.cost.macs == proof.cost.macs_counted == proof.cost.macs_recorded
    assert proof.cost.params == proof.cost.params_counted == row.cost["params"]
    weights = (study.parent / name / "model.safetensors").read_bytes()
    assert proof.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert proof.environment["torch"] == torch.__version__.partition("+")[0]


@pytest.mark.parametrize("name", TRAINED)
def test_the_trained_network_is_timed_relative_to_the_exported_one(
    name: str, exports: dict[str, ExportResult]
) -> None:
    speed: Measurement = exports[name].verification.speed
    assert speed.reference_digest == exports[name].verification.digest
    assert speed.form == speed.reference_form == "deploy"
    assert (speed.batch_size, speed.resolution, speed.device) == (4, 8, "cpu")
    assert speed.relative_throughput is not None
    interval = (speed.relative_low, speed.relative_throughput, speed.relative_high)
    if name == "static":
        assert interval == (1, 1, 1)
    else:
        assert interval[1] != 1  # two different networks were timed
        assert speed.digest == TRAINED[name].digest != speed.reference_digest


def sizes_of(network: nn.Module) -> list[list[float]]:
    return [list(mixer.sizes) for mixer in learned_mixers(network).values()]


PARTS = st.sampled_from(
    [
        {"attention": {"channel": "stages 1-2", "self": "stage 3"}},
        {"attention": "none", "pat_sp": True},
        {"operations": ["conv", "spatial"]},
        {"operations": ["conv", "pool"]},
        {"operations": ["channel", "conv"]},
        {"parts": 3, "operations": ["conv", "channel", "identity"], "ratio": ["1/4", "1/4"]},
    ]
)


@pytest.mark.slow
@given(parts=PARTS, seed=st.integers(0, 9999), width=st.sampled_from([8, 12, 16]))
@settings(max_examples=12, deadline=None, suppress_health_check=[*HealthCheck])
def test_any_frozen_network_is_exported_and_verified(
    parts: dict[str, Any], seed: int, width: int
) -> None:
    ratios = [learned(budget=None)] * len(parts.get("ratio", ()))
    subject = planned(width=width, **parts | {"ratio": ratios or learned(budget=None)})
    assert isinstance(subject.learned, LearnedRatio)
    network = randomize(subject, seed)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        number = create_trained_study(folder / "study", subject, network)
        export_model(folder / "study", number, folder / "out", max_seconds=0.1)
        model = timm.create_model(f"local-dir:{folder / 'out'}", pretrained=True).eval()
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        assert is_close(network.eval()(x), model(x)), sizes_of(network)


def test_an_earlier_or_unfinished_export_is_replaced(
    trained_study: tuple[Path, Network],
    exports: dict[str, ExportResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = trained_study
    speed = exports["threshold"].verification.speed
    monkeypatch.setattr(exporting, "time_exported", lambda *_: speed)
    write: Callable[[Path, bytes | str], Path] = exporting.write_file

    def fail_on_config(path: Path, content: bytes | str) -> Path:
        if path.name == "config.json":
            raise MachineError("the disk is full")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "write_file", fail_on_config)
        with pytest.raises(MachineError, match="disk is full"):
            export_model(folder, 1, folder / "out", max_seconds=QUICK)
    (folder / "out" / "notes.txt").write_text("mine")
    export_model(folder, 1, folder / "out", max_seconds=QUICK)
    assert sorted(p.name for p in (folder / "out").iterdir()) == sorted([*FILES, "notes.txt"])
    assert (folder / "out" / "notes.txt").read_text() == "mine"


def test_the_weights_file_holds_the_architecture(exports: dict[str, ExportResult]) -> None:
    folder = exports["threshold"].files[0].parent
    with safe_open(folder / "model.safetensors", "pt") as stored:
        architecture = Architecture.from_json(stored.metadata()["architecture"])
    assert architecture == Architecture.from_file(folder / "architecture.json")
