"""Exported programs, traces and ONNX files compute what the network does, for all free sizes."""

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from partialnas.space.arch.architecture import Architecture, Block, Stage
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.parts import Part
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import preset
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.deploy.fuse import deploy
from partialnas.space.deploy.onnx_export import Dynamic, export_onnx, export_program
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import count_ops

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


@pytest.mark.parametrize("dynamic", [None, "none"])
def test_without_free_sizes_a_program_takes_one_image(
    network: Network, dynamic: Dynamic | None
) -> None:
    program = export_program(network, SPEC, dynamic)
    x = torch.randn(1, 1, *SIZE)
    torch.testing.assert_close(program.module()(x), network.eval()(x))
    with pytest.raises(AssertionError, match="Guard failed"):
        program.module()(torch.randn(2, 1, *SIZE))


SIDES = [(8, 8), (8, 9), (9, 31), (17, 8), (33, 40), (40, 33)]
"""Heights and widths for a network that divides them by 4."""


def test_programs_accept_any_height_and_width(network: Network) -> None:
    program = export_program(network, SPEC, "all").module()
    network.eval()
    assert all(agree(network, program, 1, *sides) for sides in SIDES)


@pytest.mark.slow
def test_onnx_files_accept_any_height_and_width(network: Network, tmp_path: Path) -> None:
    deployed = deploy(network)
    export_onnx(deployed, tmp_path / "network.onnx", SPEC, "all")
    onnx = onnx_runtime(tmp_path / "network.onnx")
    assert all(agree(deployed, onnx, 1, *sides) for sides in [*SIDES, (4, 4), (5, 12), (30, 4)])


def frozen(shake: Shake) -> Network:
    """Return a network whose ratios were learned and are fixed at 3 of 8 channels."""
    plan = {"attention": {"channel": "stages 1-2", "self": "stages 3-4"}, "stem_stride": 1}
    sizes = {"width": 8, "depths": (1, 1, 1, 1), "head_width": 16}
    ratio = {"learned": {"grain": 1}}
    architecture = Plan.model_validate(plan | sizes | {"ratio": ratio}).architecture()
    network = Network(architecture, in_chans=1, num_classes=4)
    shake(network, 0)
    for (stage, _), mixer in learned_mixers(network).items():
        mixer.set_sizes([3.0 * 2**stage, 5.0 * 2**stage], ramp=0.0)
    return network.eval()


@pytest.mark.slow
def test_fixed_learned_ratios_are_exported_with_free_sizes(shake: Shake) -> None:
    network = frozen(shake)
    program = export_program(network, InputSpec.square(16, 1), "all").module()
    assert all(agree(network, program, 1, *sides) for sides in [(16, 16), (17, 40), (33, 24)])


def trace_of(network: nn.Module, *image: int) -> Callable[[torch.Tensor], torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of checks of the input
        warnings.simplefilter("ignore", FutureWarning)
        trace: Any = torch.jit.trace(network, (torch.randn(2, *image),), check_trace=False)
    return trace


@pytest.mark.parametrize("form", ["training", "deploy"])
def test_traces_hold_for_other_sizes(network: Network, form: str) -> None:
    module = deploy(network) if form == "deploy" else network.eval()
    trace = trace_of(module, 1, 13, 21)
    assert all(agree(module, trace, 1, *sides) for sides in [*SIDES, (4, 4), (5, 12)])


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.from_type(Architecture))
def test_traces_of_all_networks_hold_for_other_sizes(
    shake: Shake, architecture: Architecture
) -> None:
    network = Network(architecture, in_chans=2, num_classes=3).eval()
    shake(network, 0)
    smallest = architecture.smallest_resolution
    trace = trace_of(network, 2, smallest + 3, 2 * smallest + 1)
    for sides in [(smallest, smallest), (3 * smallest, smallest), (2 * smallest, 5 * smallest)]:
        assert agree(network, trace, 2, *sides)


def test_traces_of_learned_ratios_hold_for_other_sizes(shake: Shake) -> None:
    network = frozen(shake)
    trace = trace_of(network, 1, 16, 24)
    assert all(agree(network, trace, 1, *sides) for sides in [(8, 8), (33, 17), (16, 40)])


def test_input_dependent_ratios_are_neither_exported_nor_traced(tmp_path: Path) -> None:
    sizes = {"width": 8, "depths": (1, 1, 1, 1), "stem_stride": 1, "head_width": 16}
    plan = Plan.model_validate(sizes | {"ratio": {"learned": {"per": "input"}}})
    network = Network(plan.architecture(), in_chans=1).eval()
    x, spec = torch.randn(2, 1, 8, 8), InputSpec.square(8, 1)
    for export in (
        lambda: export_program(network, spec),
        lambda: export_onnx(network, tmp_path / "network.onnx", spec),
        lambda: torch.export.export(network, (x,)),
        lambda: trace_of(network, 1, 8, 8),
    ):
        with pytest.raises(UserError, match="ratios depend on the input"):
            export()
    assert count_ops(network, spec).macs > 0  # counts of one image are exact
    with pytest.raises(UserError, match="ratios depend on the input"):
        trace_of(network, 1, 8, 8)


def test_ratios_that_are_still_learned_are_not_exported(shake: Shake) -> None:
    network = frozen(shake)
    next(iter(learned_mixers(network).values())).set_sizes([3.0, 5.0], ramp=2.0)
    with pytest.raises(UserError, match="still being learned"):
        export_program(network, InputSpec.square(16, 1))


class FixedSize(nn.Module):
    """A layer with one weight per position, as absolute position encodings have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).mean((2, 3))


def test_the_reason_why_a_size_cannot_be_free_is_given() -> None:
    export_program(FixedSize(), InputSpec.square(64, 1))
    with pytest.raises(UserError, match=r"dynamic=all, because .* fixed size: .*\(64\)"):
        export_program(FixedSize(), InputSpec.square(64, 1), "all")
    with pytest.raises(UserError, match="invalid dynamic 'width': choose none, batch or all"):
        export_program(FixedSize(), InputSpec.square(64, 1), "width")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_preset_is_exported_with_free_sizes(shake: Shake, tmp_path: Path) -> None:
    network = Network(preset("partialnet_t0"))
    shake(network, 0)
    deployed = deploy(network.eval())
    export_onnx(deployed, tmp_path / "network.onnx", InputSpec.square(64), "all")
    onnx = onnx_runtime(tmp_path / "network.onnx")
    assert all(agree(deployed, onnx, 3, *sides) for sides in [(32, 32), (96, 65), (64, 160)])


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
    with pytest.raises(UserError, match=r"pip install .*\[onnx\]"):
        export_onnx(network, tmp_path / "network.onnx", SPEC)
