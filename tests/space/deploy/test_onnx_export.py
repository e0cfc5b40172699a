"""Exported programs and ONNX files compute what the network computes, for any batch."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.parts import Part
from partialnas.space.arch.presets import preset
from partialnas.space.deploy.fuse import deploy
from partialnas.space.deploy.onnx_export import export_onnx, export_program
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network

Shake = Callable[[nn.Module, int], None]
SIZE = (8, 12)
SPEC = InputSpec(1, *SIZE, classes=10)


@pytest.fixture
def network(shake: Shake) -> Network:
    """Return two blocks with all operations and a merge between them."""
    attention = (Part(op="channel", ratio="1/4"), Part(op="spatial", ratio="1/2"), Part(op="conv"))
    rest = (Part(op="pool", ratio="1/4"), Part(op="self", ratio="1/2"), Part(op="identity"))
    architecture = Architecture(
        stem_stride=2,
        stages=(
            Stage(width=8, blocks=(Block(parts=attention, pat_sp=True),)),
            Stage(width=16, blocks=(Block(parts=rest),)),
        ),
        head_width=16,
    )
    network = Network(architecture, in_chans=1, num_classes=4)
    shake(network, 0)
    return network


def agree(network: nn.Module, other: Callable[[torch.Tensor], torch.Tensor], *image: int) -> bool:
    """Check that logits of `other` agree within 1e-4 of the largest one, for several batches."""
    for batch in (1, 2, 5):
        x = torch.randn(batch, *image)
        with torch.no_grad():
            expected, logits = network(x), other(x)
        if (logits - expected).abs().max() > 1e-4 * expected.abs().max():
            return False
    return True


def onnx_runtime(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    return lambda x: torch.from_numpy(session.run(["logits"], {"image": x.numpy()})[0])


def test_programs_accept_any_batch_size(network: Network) -> None:
    program = export_program(network, SPEC)
    assert network.training
    assert agree(network.eval(), program.module(), 1, *SIZE)


def test_onnx_files_accept_any_batch_size(network: Network, tmp_path: Path) -> None:
    deployed = deploy(network)
    export_onnx(deployed, tmp_path / "network.onnx", SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]
    assert agree(deployed, onnx_runtime(tmp_path / "network.onnx"), 1, *SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["training", "deploy"])
@pytest.mark.parametrize("name", ["partialnet_t0", "fasternet_t0"])
def test_presets_are_exported_to_onnx(shake: Shake, tmp_path: Path, name: str, form: str) -> None:
    network: nn.Module = Network(preset(name))
    shake(network, 0)
    network = deploy(network) if form == "deploy" else network.eval()
    export_onnx(network, tmp_path / "network.onnx", InputSpec.square(64))
    assert agree(network, onnx_runtime(tmp_path / "network.onnx"), 3, 64, 64)


def test_the_error_of_missing_packages_names_the_extra(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"partialnas\[onnx\]"):
        export_onnx(network, tmp_path / "network.onnx", SPEC)
