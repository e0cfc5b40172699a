"""Precision of training and measuring: data types, autocast, and TF32 arithmetic of GPUs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from partialnas.runs.config.protocol import Precision
from partialnas.space.errors import UserError

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "tfloat32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Data types of weights and feature maps."""

_AMPERE = (8, 0)  # compute capability
_BACKENDS: Any = torch.backends  # torch's type hints lack most switches
_MATMUL = _BACKENDS.cuda.matmul
_CUDNN = (_BACKENDS.cudnn.conv, _BACKENDS.cudnn.rnn)
_CPU_MATMUL = _BACKENDS.mkldnn.matmul


@contextmanager
def precision_settings(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute float32 convolutions and matrix products alike, and restore torch's settings.

    With `tfloat32` both run in TF32; otherwise both are strict, whatever torch's defaults are.
    These settings belong to the process, not to a thread.

    Raises:
        UserError: the device has no TF32.
    """
    tf32 = precision == "tfloat32"
    if tf32 and not (device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE):
        raise UserError(
            "precision tfloat32 needs an NVIDIA GPU of the Ampere generation or later, and "
            f"{device} is none; choose float32"
        )
    switches = (_MATMUL, *_CUDNN, _CPU_MATMUL)
    before, older = [switch.fp32_precision for switch in switches], _older_matmul_precision()
    value = "tf32" if tf32 else "ieee"
    _set_older("high" if tf32 else "highest", cudnn=tf32)
    for switch in (_MATMUL, *_CUDNN):
        switch.fp32_precision = value
    try:
        yield
    finally:
        _set_older(older, cudnn=before[1] == "tf32")
        for switch, setting in zip(switches, before, strict=True):
            switch.fp32_precision = setting


def precision_facts(precision: Precision, device: torch.device) -> dict[str, str | int]:
    """Return what a record's environment says of the precision: on a GPU, whether TF32 was on."""
    return {"tf32": "on" if precision == "tfloat32" else "off"} if device.type == "cuda" else {}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return automatic mixed precision for `bfloat16` and `float16`; disabled for the others."""
    dtype = DTYPES[precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def _older_matmul_precision() -> str:
    """Return torch's precision of matrix products by the older of its two interfaces."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the process has used both interfaces, so that they disagree
        return "highest"


def _set_older(matmul: str, *, cudnn: bool) -> None:
    """Set torch's older switches, which set the newer ones, too.

    Libraries read either kind, and reading an older one is an error if the kinds disagree.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are deprecated
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn
