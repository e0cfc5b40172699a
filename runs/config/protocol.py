"""Measurement protocols: device, form, precision, runtime."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from partialnas.space.values import Value

Form = Literal["training", "deploy"]
"""The trained network in evaluation mode, or the deployed one with batch norms folded."""


Precision = Literal["float32", "tfloat32", "bfloat16", "float16"]
"""Data type of weights and feature maps. Convolutions and matrix products of `float32` are strict;
`tfloat32` is float32 with TF32 arithmetic on tensor cores, which keeps 10 bits of the mantissa.
"""


Runtime = Literal["eager", "cuda_graph", "compiled", "onnxruntime"]
"""Runtime of a network: eager PyTorch; one captured CUDA graph; code from `torch.compile`,
captured, too, on a GPU; or ONNX Runtime, on a board that runs a bundle.
"""


DeviceKind = Literal["cpu", "cuda", "other"]
"""Kind of a device; `other` is a device of ONNX Runtime on a board."""


class Protocol(Value):
    """How the speed of a network is measured.

    Attributes:
        device: `cpu`, `cuda` or, for example, `cuda:1`.
        threads: CPU threads of a forward pass; on a GPU, of the process that feeds it.
        batch_size: images per forward pass.
        precision: data type of weights, feature maps and input.
        form: form of the network.
        runtime: runtime of the network. `auto` is the fastest one without compilation: a CUDA graph
            on a GPU if the network can be captured, else eager.
        max_seconds: time limit in seconds, warm-up included. A study in which no speed decides
            shortens it to 5 seconds unless it is stated.
        target_half_width: half-width of the 95 % interval, as a share of the value, at which to
            stop.
        when: `during` measures each network after its training, `after` measures all at the end.
            `auto` measures during a search that decides by measured quantities, else at the end;
            in a study with `trial`, it measures nothing. `never` measures nothing; `measure: none`
            is short for it.
        retries: how often to repeat a noisy, tainted or throttled measurement at the end of a run.
    """

    shorthands: ClassVar[tuple[str, ...]] = ("use",)
    identity_fields: ClassVar[frozenset[str]] = frozenset(
        (
            *("device", "threads", "batch_size", "precision", "form", "runtime"),
            *("max_seconds", "target_half_width", "when", "retries"),
        )
    )

    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:[0-9]{1,4})?)$")
    threads: int = Field(default=1, ge=1, le=1024)
    batch_size: int = Field(default=32, ge=1, le=65_536)
    precision: Precision = "float32"
    form: Form = "deploy"
    runtime: Literal["auto", "eager", "cuda_graph", "compiled"] = "auto"
    max_seconds: float = Field(default=20.0, gt=0, le=1e6)
    target_half_width: float = Field(default=0.02, gt=0, lt=1)
    when: Literal["auto", "during", "after", "never"] = "auto"
    retries: int = Field(default=1, ge=0, le=10)

    @model_validator(mode="after")
    def _check_gpu_settings(self) -> Self:
        if self.runtime == "cuda_graph" and self.device == "cpu":
            raise ValueError("runtime: cuda_graph needs a GPU; use eager or compiled on cpu")
        if self.precision == "tfloat32" and self.device == "cpu":
            raise ValueError("precision: tfloat32 needs a GPU; use float32 on cpu")
        return self


PROTOCOLS: dict[str, Protocol] = {
    "gpu-latency": Protocol(device="cuda", batch_size=1, precision="bfloat16"),
    "gpu-throughput": Protocol(device="cuda", batch_size=256, precision="bfloat16"),
}
"""Protocols by name: the time of one image, and the speed with a full GPU."""
