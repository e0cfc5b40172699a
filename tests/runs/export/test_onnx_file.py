"""The ONNX file beside an exported model."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trained_studies import FILES, NUMBERS, TRAINED, export_model, trained_logits

import partialnas.space.timm  # noqa: F401
from partialnas.runs.export import export_model as exporting
from partialnas.runs.export import verify_onnx
from partialnas.space.deploy.fuse import deploy
from partialnas.space.errors import MachineError, UserError
from partialnas.space.nn.network import Network


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_onnx_file_computes_the_same(
    name: str, study: Path, tmp_path: Path, images: Tensor
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export = exporting.export_model(study, NUMBERS[name], tmp_path / "out", max_seconds=0.1)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    logits = torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0])
    expected = trained_logits(study, name, images)
    difference = float((expected - logits).abs().max() / expected.abs().max())
    assert difference <= 1e-4
    assert export.verification.onnx is not None
    assert export.verification.onnx.difference == pytest.approx(difference, abs=2e-6)
    assert export.verification.onnx.images == 180
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`model.onnx` is its deploy form" in card
    export_model(study, NUMBERS[name], tmp_path / "out", max_seconds=0.1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES


@pytest.mark.slow
def test_the_sizes_of_the_onnx_file_are_free_on_request(study: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    x = torch.randn(3, 1, 27, 18, generator=torch.Generator().manual_seed(0))
    expected = trained_logits(study, "threshold", x)
    for dynamic, shape, text in (
        ("all", ["batch", 1, "height", "width"], "any batch and image size"),
        ("none", [1, 1, 8, 8], "one image"),
    ):
        out, number = tmp_path / dynamic, NUMBERS["threshold"]
        export = exporting.export_model(study, number, out, max_seconds=0.1, dynamic=dynamic)
        assert export.verification.onnx is not None
        assert export.verification.onnx.dynamic == dynamic
        session = onnxruntime.InferenceSession(out / "model.onnx")
        assert session.get_inputs()[0].shape == shape
        assert text in (out / "README.md").read_text()
        if dynamic == "all":
            logits = torch.from_numpy(session.run(["logits"], {"image": x.numpy()})[0])
            assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_unknown_free_sizes_are_rejected(study: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dynamic": "width"}
    with pytest.raises(UserError, match="invalid dynamic 'width': choose none, batch or all"):
        export_model(study, NUMBERS["static"], tmp_path / "out", **settings)


@pytest.mark.slow
def test_an_onnx_file_with_other_outputs_is_never_written(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")

    def change_weights(network: Network) -> nn.Module:
        changed = deploy(network)
        changed.get_submodule("classifier").get_parameter("weight").data.mul_(1.01)
        return changed

    monkeypatch.setattr(verify_onnx, "deploy", change_weights)
    with pytest.raises(MachineError, match=r"differ by 0\.0[\s\S]*Nothing was written"):
        exporting.export_model(study, NUMBERS["static"], tmp_path / "out", max_seconds=0.1)
    assert not (tmp_path / "out").exists()


def test_no_onnx_file_is_written_without_its_packages(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    export = exporting.export_model(study, NUMBERS["static"], tmp_path / "out", max_seconds=0.1)
    assert export.verification.onnx is None
    assert sorted(path.name for path in export.files) == FILES
