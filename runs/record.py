"""Records: what is known of a trial. Plain values, no torch."""

from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from partialnas.space.values import Value

State = Literal["planned", "running", "done", "early", "failed", "timeout"]
"""Where a trial is: not begun, under way, or how it ended."""


class Record(Value):
    """A trial, and what came of it.

    Attributes:
        key: identity of the trial, 16 hex digits.
        digest: identity of the network.
        name: what people call the network.
        seed: of weights, data order and augmentation.
        fidelity: epochs of the schedule.
        state: how it ended.
        reason: why it did not end well; None for a trial that is done.
        metrics: of a training that is done: `val_accuracy` and `test_accuracy` in percent;
            `val_nll`, `test_nll` and `train_nll`, negative log-likelihoods in nats.
        curve: one row per epoch: `epoch`, `lr`, `train_nll`, `val_nll`, `val_accuracy`, `seconds`.
        cost: `params`, `macs`, `macs_core`, `activations` for one image of the task.
        seconds: that it took, what came before an interruption included.
        device: that it ran on, as `cpu` or `cuda:1`.
        environment: machine, library versions and code.
    """

    key: str
    digest: str
    name: str
    seed: int
    fidelity: int
    state: State
    reason: str | None = None
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    curve: tuple[dict[str, FiniteFloat], ...] = ()
    cost: dict[str, int] = Field(default_factory=dict)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    device: str = "cpu"
    environment: dict[str, str | int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.state in ("early", "failed", "timeout") and not self.reason:
            raise ValueError(f"a trial that is {self.state!r} states its reason")
        return self
