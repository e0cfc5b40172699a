"""Export of networks as `torch.export` programs and ONNX files with fixed or free input sizes."""

import importlib.util
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from partialnas.installation import install_command
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.deploy.freeze import learned_sizes
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network, blank_images, evaluating

OPSET = 20
"""ONNX operator set version (the first with GELU)."""

Dynamic = Literal["none", "batch", "all"]
"""Free sizes of an exported network's images: none, the batch, or batch, height and width."""


def check_dynamic(dynamic: object) -> None:
    """Check that a value names free sizes.

    Raises:
        UserError: It does not.
    """
    if dynamic not in (None, *get_args(Dynamic)):
        raise UserError(f"invalid dynamic {dynamic!r}: choose none, batch or all")


def export_program(
    network: nn.Module, input_spec: InputSpec, dynamic: Dynamic | None = "batch"
) -> ExportedProgram:
    """Return the network in evaluation mode as a `torch.export` program.

    The network itself does not change. Export `deploy(network)` for a program without norms.

    Args:
        network: network to export.
        input_spec: shape of the images; with `dynamic="all"` an example that sets the channels.
        dynamic: sizes of the input that are free. `none` or None: a single image of this shape.
            `batch`: any number of images of this shape. `all`: any number of images of any size
            for which the map of the last stage is at least 2x2.

    Raises:
        UserError: The ratios depend on the input or are still being learned, or a size that shall
            be free is fixed by the network.
    """
    check_dynamic(dynamic)
    learned_sizes(network)  # raises an error if there are no fixed ratios
    images, dimensions = _example(network, input_spec, dynamic or "none")
    with evaluating(network):
        try:
            return torch.export.export(network, (images,), dynamic_shapes=(dimensions,))
        except (RuntimeError, ValueError, AssertionError) as error:
            if not dimensions:
                raise
            raise UserError(
                f"the network cannot be exported with dynamic={dynamic}, because an operation "
                f"needs images of a fixed size: {_reason(error)}"
            ) from error


def _example(
    network: nn.Module, input_spec: InputSpec, dynamic: Dynamic
) -> tuple[torch.Tensor, dict[int, Any]]:
    """Return images, and the dimensions of them that are free."""
    if dynamic == "none":
        return blank_images(network, input_spec), {}
    # Torch takes a size of 1 as fixed, and equal sizes as one: two images, and another height than
    # width on the last map.
    images, batch = blank_images(network, input_spec, batch=2), {0: Dim("batch")}
    if dynamic == "batch":
        return images, batch
    smallest = 2 * _total_stride(network)
    height, width = max(input_spec.height, smallest), max(input_spec.width, smallest)
    if height // smallest == width // smallest:
        width += smallest
    sides = {2: Dim("height", min=smallest), 3: Dim("width", min=smallest)}
    return images.new_zeros(2, input_spec.channels, height, width), batch | sides


def _total_stride(network: nn.Module) -> int:
    """Return the stride of the last map in pixels; for other networks that of most of them."""
    return network.architecture.smallest_resolution if isinstance(network, Network) else 32


def _reason(error: Exception) -> str:
    """Return the first line of an error that is about a size."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "size()" in line), lines[0] if lines else repr(error))


def export_onnx(
    network: nn.Module, path: Path, input_spec: InputSpec, dynamic: Dynamic | None = "batch"
) -> None:
    """Write the network in evaluation mode as an ONNX file (`image` in, `logits` out).

    Args:
        network: network to export.
        path: the file.
        input_spec: shape of the images; with `dynamic="all"` an example that sets the channels.
        dynamic: sizes of the input that are free; see `export_program`.

    Raises:
        UserError: The packages that write ONNX are not installed, the ratios depend on the input or
            are still being learned, or a size that shall be free is fixed by the network.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX export needs {' and '.join(missing)}: run {install_command('onnx')}")
    program = export_program(network, input_spec, dynamic)
    names = {0: "batch", 2: "height", 3: "width"}
    free = {"none": (), "batch": (0,), "all": (0, 2, 3)}[dynamic or "none"]
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
            dynamic_shapes=({axis: names[axis] for axis in free},),
            verbose=False,
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
