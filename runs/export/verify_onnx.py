"""ONNX export of a network, with a comparison of logits."""

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits
from partialnas.runs.export.verification import BATCH_SIZE, OnnxCheck
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.deploy.fuse import deploy
from partialnas.space.deploy.onnx_export import OPSET, Dynamic, export_onnx
from partialnas.space.errors import MachineError
from partialnas.space.nn.network import Network

MAX_LOGIT_DIFFERENCE = 1e-4
"""Largest difference of logits that rounding explains, as a share of the largest logit; other
kernels and folded norms round differently."""

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def missing_packages() -> list[str]:
    """Return the packages for ONNX export that are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


def export_verified_onnx(
    name: str, network: Network, splits: Splits, dynamic: Dynamic = "batch"
) -> tuple[bytes, OnnxCheck]:
    """Return the ONNX file of a network's deploy form, and the comparison of its logits.

    Args:
        name: name of the trial for messages.
        network: network in evaluation mode.
        splits: splits with the validation images; all of them are compared.
        dynamic: sizes of the input that are free. With `all`, images of another size are compared
            too: the first batch, higher and narrower.

    Raises:
        MachineError: the logits differ by more than rounding.
    """
    _, channels, height, width = splits.val_x.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        input_spec = InputSpec(channels, height, width, network.num_classes)
        export_onnx(deploy(network), path, input_spec, dynamic)
        content = path.read_bytes()
    return content, _verify(name, content, network, splits, dynamic)


@torch.inference_mode()
def _verify(
    name: str, content: bytes, network: Network, splits: Splits, dynamic: Dynamic
) -> OnnxCheck:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    pool = DeviceSplit(splits.val_x, splits.val_y, splits, 0, torch.device("cpu"))
    deviation = largest = 0.0
    for images in _batches(pool, network, dynamic):
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
        dynamic=dynamic,
    )


def _batches(pool: DeviceSplit, network: Network, dynamic: Dynamic) -> Iterator[torch.Tensor]:
    """Yield the batches to compare; if no size is free, single images."""
    size = 1 if dynamic == "none" else BATCH_SIZE
    for index, (images, _) in enumerate(pool.sequential_batches(size)):
        yield images
        if dynamic == "all" and not index:
            height, width = images.shape[-2:]
            smallest = network.architecture.smallest_resolution
            other = height + 2 * smallest + 1, max(width - smallest, smallest)
            yield functional.interpolate(images, size=other, mode="bilinear")
