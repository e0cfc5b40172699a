"""How a network is measured: form, precision, runtime, device."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from partialnas.space.values import Value

Form = Literal["training", "deploy"]
"""The network as it is trained (in evaluation mode), or as it is shipped: norms folded."""


Precision = Literal["float32", "bfloat16", "float16"]


Runtime = Literal["eager", "cuda_graph", "compiled", "onnxruntime"]
"""What executes the network: PyTorch's operators one by one, or as one captured CUDA graph; code
that `torch.compile` generates for the whole network (captured, too, where it can be); ONNX Runtime,
on a board that runs a bundle.
"""


DeviceKind = Literal["cpu", "cuda", "other"]
"""Other devices are those of a board's ONNX Runtime."""


class Protocol(Value):
    """How the speed of a network is measured.

    Attributes:
        device: "cpu", "cuda" or "cuda:1".
        threads: CPU threads of one forward pass; on a GPU those that feed it.
        batch_size: images of one forward pass.
        precision: type of weights, maps and input.
        form: which form of the network runs.
        runtime: what executes it. `auto` is the fastest that compiles nothing: captured graphs on a
            GPU, where networks can be captured, else PyTorch's operators one by one.
        max_seconds: when to stop at the latest, warm-up included.
        target_half_width: stop when the 95 % interval reaches no further than this share of the
            value to either side.
        when: a study measures networks as they are trained (`during`), or all after the last
            training (`after`). `auto` measures during only where the search must know.
        retries: how often a noisy or tainted measurement is tried again, at the end of a run.
    """

    identity_fields: ClassVar[frozenset[str]] = frozenset(
        (
            *("device", "threads", "batch_size", "precision", "form", "runtime"),
            *("max_seconds", "target_half_width", "when", "retries"),
        )
    )

    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    threads: int = Field(default=1, ge=1)
    batch_size: int = Field(default=32, ge=1)
    precision: Precision = "float32"
    form: Form = "deploy"
    runtime: Literal["auto", "eager", "cuda_graph", "compiled"] = "auto"
    max_seconds: float = Field(default=20.0, gt=0)
    target_half_width: float = Field(default=0.02, gt=0, lt=1)
    when: Literal["auto", "during", "after"] = "auto"
    retries: int = Field(default=1, ge=0, le=10)

    @model_validator(mode="after")
    def _graphs_are_of_a_gpu(self) -> Self:
        if self.runtime == "cuda_graph" and self.device == "cpu":
            raise ValueError("runtime: cuda_graph is for a GPU; expected eager or compiled on cpu")
        return self
