"""Losses of the steps of an epoch, searched for non-finite ones without waiting for the device."""

import math

import torch

from partialnas.space.errors import TrialEndedError


class LossTable:
    """Losses of an epoch, in device memory that stays the same in all epochs.

    Args:
        steps: steps of an epoch.
        device: device of the losses.

    Attributes:
        values: losses by step.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.values = torch.zeros(steps, device=device)
        on_gpu = device.type == "cuda"
        self._is_finite = torch.ones((), dtype=torch.bool, pin_memory=on_gpu)
        self._copied = torch.cuda.Event() if on_gpu else None
        self._pending = 0

    def restart(self) -> None:
        """Forget the losses of the last epoch."""
        self._pending = 0

    def check(self, done: int, epoch: int) -> None:
        """Raise an error at a loss that is not finite, as soon as the device has told.

        Args:
            done: steps that are done, or under way on the device.
            epoch: epoch, from 0.

        Raises:
            TrialEndedError: A loss is not finite.
        """
        self._read(epoch)
        if not self._pending:
            self._pending = done
            self._is_finite.copy_(self.values[:done].isfinite().all(), non_blocking=True)
            if self._copied is not None:
                self._copied.record()
            self._read(epoch)

    def _read(self, epoch: int) -> None:
        if self._pending and (self._copied is None or self._copied.query()):
            if not self._is_finite:
                self._raise(epoch, self._pending)
            self._pending = 0

    def mean(self, epoch: int) -> float:
        """Wait for all steps, and return the mean loss.

        Raises:
            TrialEndedError: A loss is not finite.
        """
        mean = float(self.values.double().mean())
        if not math.isfinite(mean):
            self._raise(epoch, len(self.values))
        return mean

    def _raise(self, epoch: int, done: int) -> None:
        values = self.values[:done]
        step = int((~values.isfinite()).nonzero()[0])
        name = non_finite_name(float(values[step]))
        reason = f"loss became {name} in epoch {epoch + 1} (step {step + 1})"
        raise TrialEndedError("failed", reason)


def non_finite_name(value: float) -> str:
    """Return what a number is that is not finite."""
    return "NaN" if math.isnan(value) else "infinite"
