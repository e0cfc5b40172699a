"""Records: the results of trials."""

import errno
import os
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from partialnas.space.values import Value

TrialState = Literal["planned", "running", "done", "early", "failed", "timeout"]
"""State of a trial: not started, running, or its outcome."""

SOURCE_KEY = "trial_source"
"""Key of a record's environment: digest of the source of the function that replaced training."""

CurveRow = dict[str, float]
"""One epoch of a learning curve: epoch, lr, train_nll, val_nll, val_accuracy, seconds."""

_ENVIRONMENT_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
    *(errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOTCONN),
)
"""Errors of a machine, whatever it runs: disk, files, processes, mounted folders."""

_Amount = Annotated[FiniteFloat, Field(ge=0)]
_Amounts = dict[str, _Amount]


def is_environment_failure(reason: str) -> bool:
    """Return whether a trial failed because of the software or the machine, not of its network.

    A module that cannot be imported and an error of the machine are repaired, and the trial is run
    again; another exception of a network is its result.

    Args:
        reason: reason of the failure: type and message of an exception.
    """
    if reason.startswith(("ImportError: ", "ModuleNotFoundError: ")):
        return True
    return any(os.strerror(number) in reason for number in _ENVIRONMENT_ERRORS)


class RatioEpoch(Value):
    """The learned ratios of a network after one epoch.

    Each boundary (a learned ratio) is identified by its name, such as `stage 2, block 1`.

    Attributes:
        epoch: epoch, from 1.
        channels: channels of each learned part; integers once frozen. If every image has its own
            ratio, the mean over the validation images.
        ratios: `channels` divided by the width of the block.
        used_macs: multiply–accumulates per image of all parts in blocks with learned ratios.
        budget_macs: budget of these, or None without a budget.
        multiplier: Lagrange multiplier of the budget.
        gradient_norm: gradient norm of the loss with respect to the learned parameters, root mean
            square over the epoch.
        ramp: width in channels of the soft boundary; 0 once it is frozen and exact.
        distribution: for ratios per image: share of the validation images by boundary and number of
            channels.
        per_class: for ratios per image: mean ratio by boundary and class of validation images.
        per_kind: for ratios per image, in the last epoch: mean ratio by boundary of clean, blurred,
            noisy and low-resolution validation images.
        warnings: failure signs of this epoch, as sentences.
        gap: in the last epoch, the largest difference between the logits of the trained and the
            frozen network, divided by the largest logit.
        frozen: in the last epoch, for ratios per layer: digest of the frozen network.
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
    def _check_boundaries(self) -> Self:
        if different := sorted(self.channels.keys() ^ self.ratios.keys()):
            raise ValueError(
                f"expected the same boundaries in channels and ratios; only one has {different[0]}"
            )
        return self


class Record(Value):
    """A finished trial and its result.

    Attributes:
        key: identity of the trial, 16 hex digits.
        digest: identity of the network.
        name: name of the network.
        seed: seed of weights, data order and augmentation.
        fidelity: epochs of the schedule.
        state: outcome.
        reason: why it stopped early, failed or timed out; None for a trial that is done.
        metrics: metrics of a finished training run: `val_accuracy` and `test_accuracy` in percent;
            `val_nll`, `test_nll` and `train_nll`, negative log-likelihoods in nats. With learned
            ratios also `ratio_gap` (see `RatioEpoch.gap`) and, with a budget, `budget_error`, the
            used over the allowed multiply–accumulates, minus 1.
        curve: one row per epoch: `epoch`, `lr`, `train_nll`, `val_nll`, `val_accuracy`, `seconds`.
        ratios: learned ratios by epoch.
        cost: `params`, `macs`, `macs_core`, `activations` for one image of the task; with
            learned ratios, of the frozen network.
        seconds: duration, including the time before an interruption.
        device: device that it ran on, such as `cpu` or `cuda:1`.
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
        """Metrics and cost."""
        return {**self.metrics, **self.cost}

    @model_validator(mode="after")
    def _check_reason(self) -> Self:
        if self.state in ("early", "failed", "timeout") and not self.reason:
            raise ValueError(f"expected a reason for the state {self.state!r}")
        return self


def ratio_metrics(rows: Sequence[RatioEpoch]) -> dict[str, float]:
    """Return the metrics of the learned ratios of all epochs; none without learned ratios."""
    if not rows:
        return {}
    last = rows[-1]
    assert last.gap is not None  # set in the last epoch
    metrics = {"ratio_gap": last.gap}
    if last.budget_macs is not None:
        metrics["budget_error"] = last.used_macs / last.budget_macs - 1
    return metrics
