"""Records: what is known of a trial. Plain values, no torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from partialnas.space.values import Value

TrialState = Literal["planned", "running", "done", "early", "failed", "timeout"]
"""Where a trial is: not begun, under way, or how it ended."""

CurveRow = dict[str, float]
"""One epoch of a curve: epoch, lr, train_nll, val_nll, val_accuracy, seconds."""

_Amount = Annotated[FiniteFloat, Field(ge=0)]
_Amounts = dict[str, _Amount]


class RatioEpoch(Value):
    """The learned ratios of a network after one epoch.

    Each boundary (a learned ratio) goes by its name, as `stage 2, block 1`.

    Attributes:
        epoch: from 1.
        channels: of each learned part: whole numbers once frozen; where every image has its own,
            the mean over the validation images.
        ratios: the same over the width of the block.
        used_macs: of all parts of the blocks with learned ratios, for one image.
        budget_macs: that these may cost; None without a budget.
        multiplier: of the budget.
        gradient_norm: of the loss with respect to what is learned, root mean square over the epoch.
        ramp: channels over which a boundary is soft; 0 once it is frozen and exact.
        distribution: where every image has its own: of each boundary, by number of channels, the
            share of the validation images that have so many.
        per_class: likewise the mean ratio of the validation images of each class.
        per_kind: likewise, in the last epoch, the mean ratio of clean, blurred, noisy and
            low-resolution validation images.
        warnings: signs of failure seen in this epoch, as sentences.
        gap: in the last epoch, how far the trained and the frozen form are apart: the largest
            difference of their logits over the largest logit.
        frozen: in the last epoch, where there is one ratio for all images: digest of the static
            network that the network has become.
    """

    epoch: int = Field(ge=1)
    channels: _Amounts
    ratios: _Amounts
    used_macs: _Amount
    budget_macs: _Amount | None
    multiplier: FiniteFloat = 0.0
    gradient_norm: _Amount = 0.0
    ramp: _Amount = 0.0
    distribution: dict[str, _Amounts] = Field(default_factory=dict)
    per_class: dict[str, _Amounts] = Field(default_factory=dict)
    per_kind: dict[str, _Amounts] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    gap: float | None = None
    frozen: str | None = None

    @model_validator(mode="after")
    def _speaks_of_the_same_boundaries(self) -> Self:
        if different := sorted(self.channels.keys() ^ self.ratios.keys()):
            raise ValueError(
                f"channels and ratios name the same boundaries; only one names {different[0]}"
            )
        return self


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
            `val_nll`, `test_nll` and `train_nll`, negative log-likelihoods in nats. With learned
            ratios also `ratio_gap`, the largest difference between the logits of the network as
            trained and as frozen, over the largest logit, and with a budget `budget_error`, what
            is used over what may be, less 1.
        curve: one row per epoch: `epoch`, `lr`, `train_nll`, `val_nll`, `val_accuracy`, `seconds`.
        ratios: one value per epoch of a trial with learned ratios.
        cost: `params`, `macs`, `macs_core`, `activations` for one image of the task; with
            learned ratios, of the frozen network.
        seconds: that it took, what came before an interruption included.
        device: that it ran on, as `cpu` or `cuda:1`.
        environment: machine, library versions and code.
    """

    key: str
    digest: str
    name: str
    seed: int
    fidelity: int
    state: TrialState
    reason: str | None = None
    metrics: dict[str, FiniteFloat] = Field(default_factory=dict)
    curve: tuple[dict[str, FiniteFloat], ...] = ()
    ratios: tuple[RatioEpoch, ...] = ()
    cost: dict[str, int] = Field(default_factory=dict)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    device: str = "cpu"
    environment: dict[str, str | int] = Field(default_factory=dict)

    @property
    def results(self) -> dict[str, float]:
        """Its metrics and cost."""
        return {**self.metrics, **self.cost}

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.state in ("early", "failed", "timeout") and not self.reason:
            raise ValueError(f"a trial that is {self.state!r} states its reason")
        return self
