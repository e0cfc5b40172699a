"""ONNX export of a network, with a comparison of logits."""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import torch

from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.export.verification import BATCH_SIZE, OnnxCheck
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.deploy.fuse import deploy
from partialnas.space.deploy.onnx_export import OPSET, export_onnx
from partialnas.space.errors import MachineError
from partialnas.space.nn.network import Network

MAX_LOGIT_DIFFERENCE = 1e-4
"""Largest difference of logits that rounding explains, as a share of the largest logit; other
kernels and folded norms round differently."""

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def missing_packages() -> list[str]:
    """Return the packages for ONNX export that are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


def export_verified_onnx(name: str, network: Network, splits: Splits) -> tuple[bytes, OnnxCheck]:
    """Return the ONNX file of a network's deploy form, and the comparison of its logits.

    Args:
        name: name of the trial for messages.
        network: network in evaluation mode.
        splits: splits with the validation images; all of them are compared.

    Raises:
        MachineError: the logits differ by more than rounding.
    """
    _, channels, height, width = splits.val_x.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(deploy(network), path, InputSpec(channels, height, width, network.num_classes))
        content = path.read_bytes()
    return content, _verify(name, content, network, splits)


@torch.inference_mode()
def _verify(name: str, content: bytes, network: Network, splits: Splits) -> OnnxCheck:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    pool = DeviceSplit(splits.val_x, splits.val_y, splits, 0, torch.device("cpu"))
    deviation = largest = 0.0
    for images, _ in pool.sequential_batches(BATCH_SIZE):
        expected = network(images).numpy()
        (logits,) = session.run(["logits"], {"image": images.contiguous().numpy()})
        # unlike `max`, `maximum` propagates NaN
        deviation = float(np.maximum(deviation, np.abs(logits - expected).max()))
        largest = float(np.maximum(largest, np.abs(expected).max()))
    difference = deviation / largest if largest else float("nan")
    if not difference <= MAX_LOGIT_DIFFERENCE:
        raise MachineError(
            f"{name}: the outputs of the ONNX file and the network differ: logits differ by "
            f"{difference:.2g} of the largest logit on {len(pool)} validation images, but rounding "
            f"explains at most {MAX_LOGIT_DIFFERENCE:g}. Nothing was written"
        )
    return OnnxCheck(
        images=len(pool),
        difference=difference,
        at_most=MAX_LOGIT_DIFFERENCE,
        opset=OPSET,
        runtime=str(onnxruntime.__version__),
    )
