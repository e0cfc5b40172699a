"""Export of networks as `torch.export` programs and ONNX files with a dynamic batch size."""

import importlib.util
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.errors import UserError
from partialnas.space.nn.network import blank_images, evaluating

OPSET = 20
"""ONNX operator set version (the first with GELU)."""


def export_program(network: nn.Module, input_spec: InputSpec) -> ExportedProgram:
    """Return the network in evaluation mode as a `torch.export` program for any batch size.

    The network itself does not change. Export `deploy(network)` for a program without norms.
    """
    # Two images: a batch of one would be exported as a fixed size.
    images = blank_images(network, input_spec, batch=2)
    with evaluating(network):
        return torch.export.export(network, (images,), dynamic_shapes=({0: Dim("batch")},))


def export_onnx(network: nn.Module, path: Path, input_spec: InputSpec) -> None:
    """Write the network in evaluation mode as an ONNX file (`image` in, `logits` out).

    Raises:
        UserError: The packages that write ONNX are not installed.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"ONNX export needs {' and '.join(missing)}: run pip install 'partialnas[onnx]'"
        )
    program = export_program(network, input_spec)
    temporary = path.with_name(path.name + ".part")
    try:
        torch.onnx.export(
            program,
            f=temporary,
            input_names=["image"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
