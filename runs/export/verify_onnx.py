"""A network as an ONNX file whose logits were compared with its own."""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import torch

from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.export.verification import OnnxCheck
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.deploy.fuse import deploy
from partialnas.space.deploy.onnx_export import OPSET, export_onnx
from partialnas.space.errors import MachineError
from partialnas.space.nn.network import Network

LARGEST_DIFFERENCE = 1e-4
"""Of two logits over the largest one: other kernels round otherwise, and norms are folded."""

_BATCH = 250
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def missing_packages() -> list[str]:
    """Packages that ONNX files are written and run with, and that are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


def export_verified_onnx(name: str, network: Network, splits: Splits) -> tuple[bytes, OnnxCheck]:
    """The deploy form of a network as an ONNX file, and how far its logits are from the network's.

    Args:
        name: of the trial, for messages.
        network: in evaluation mode.
        splits: whose validation images are compared, all of them.

    Raises:
        MachineError: they differ by more than rounding.
    """
    _, channels, height, width = splits.val_x.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(deploy(network), path, InputSpec(channels, height, width, network.num_classes))
        content = path.read_bytes()
    proof = _prove(name, content, network, splits)
    return content, proof


@torch.inference_mode()
def _prove(name: str, content: bytes, network: Network, splits: Splits) -> OnnxCheck:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    pool = DeviceSplit(splits.val_x, splits.val_y, splits, 0, torch.device("cpu"))
    apart = largest = 0.0
    for images, _ in pool.sequential_batches(_BATCH):
        own = network(images).numpy()
        (other,) = session.run(["logits"], {"image": images.contiguous().numpy()})
        # maximum, unlike max, hands a NaN on
        apart = float(np.maximum(apart, np.abs(other - own).max()))
        largest = float(np.maximum(largest, np.abs(own).max()))
    difference = apart / largest if largest else float("nan")
    if not difference <= LARGEST_DIFFERENCE:
        raise MachineError(
            f"{name}: the ONNX file does not compute what the network does: logits differ by "
            f"{difference:.2g} of the largest one on {len(pool)} validation images, at most "
            f"{LARGEST_DIFFERENCE:g} is rounding. Nothing was written"
        )
    return OnnxCheck(
        images=len(pool),
        difference=difference,
        at_most=LARGEST_DIFFERENCE,
        opset=OPSET,
        runtime=str(onnxruntime.__version__),
    )
