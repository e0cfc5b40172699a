"""The running epoch of a training: how far it is, and its time limit."""

from dataclasses import dataclass

from partialnas.runs.training.pool import Row
from partialnas.space.errors import TrialEndedError


@dataclass
class EpochProgress:
    """The running epoch.

    Attributes:
        first: number of its first step in the whole training.
        rows: rows of its steps.
        rates: learning rates.
        shares: shares of the new weights in the weight average.
        limit_s: seconds that all epochs together may take.
        done: steps that are done.
        seconds: seconds that the epoch has taken so far.
        by_counter: whether the last step read its row by the counter.
    """

    first: int
    rows: list[Row]
    rates: list[float]
    shares: list[float]
    limit_s: float
    done: int = 0
    seconds: float = 0.0
    by_counter: bool = False

    def check_limit(self, seconds: float, epoch: int) -> None:
        """Raise an error if the time limit is reached.

        Args:
            seconds: seconds of all epochs so far, with this one.
            epoch: this epoch, from 0.

        Raises:
            TrialEndedError: The time limit is reached.
        """
        if seconds > self.limit_s:
            where = f"epoch {epoch + 1} (step {self.done})"
            reason = f"time limit of {self.limit_s:g} s reached in {where}"
            raise TrialEndedError("timeout", reason)
