"""Progress of a study: a live view on a terminal and in notebooks, plain lines elsewhere."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from partialnas.search.driver.running_front import FrontPoint
from partialnas.space.errors import printable_message

_MAX_WARNINGS = 3
"""Number of recent warnings in the live view."""

_BAR_WIDTH = 60
_MIN_TRIALS = 3
"""Trials that must have ended before the remaining time is estimated."""


@dataclass
class Tally:
    """Counts and intermediate results of a running study.

    Attributes:
        total: number of trials that the study will have, or None if unknown.
        done: number of successful trials in all sessions.
        failed: number of trials that ended as failed or timeout.
        early: number of trials that ended on lower rungs.
        running: number of trials in flight.
        repeats: number of proposals answered from the ledger.
        best: best value of each objective so far.
        front: some networks of the front so far.
        warnings: most recent warnings.
        ended_this_session: number of trials that ended in this session.
        started_at: start of this session (monotonic seconds).
    """

    total: int | None = None
    done: int = 0
    failed: int = 0
    early: int = 0
    running: int = 0
    repeats: int = 0
    best: dict[str, float] = field(default_factory=dict)
    front: Sequence[FrontPoint] = ()
    warnings: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_WARNINGS))
    ended_this_session: int = 0
    started_at: float = field(default_factory=monotonic)

    @property
    def ended(self) -> int:
        """Number of trials that have ended."""
        return self.done + self.failed + self.early

    def line(self) -> str:
        """Return a one-line summary."""
        ended = f"{self.ended}/{self.total}" if self.total else f"{self.ended}"
        parts = [ended, f"{self.running} running"]
        parts += [f"{self.early} early"] if self.early else []
        parts += [f"{self.failed} failed"] if self.failed else []
        repeated = f"{self.repeats} repeated proposal{'s' * (self.repeats != 1)}"
        parts += [repeated] if self.repeats else []
        parts += [f"best {name} {value:.4g}" for name, value in self.best.items()]
        return " · ".join([*parts, *self._times()])

    def _times(self) -> list[str]:
        elapsed = monotonic() - self.started_at
        if self.ended_this_session < _MIN_TRIALS:
            return []
        rate = self.ended_this_session / elapsed
        left = [] if self.total is None else [self.total - self.ended]
        return [f"{rate * 60:.1f} trials/min", *(f"{clock(n / rate)} left" for n in left)]


def clock(seconds: float) -> str:
    """Format seconds as `1:15`, or `2:01:15` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def render(tally: Tally) -> Group:
    """Return the live view of a tally: front, recent warnings, progress bar and summary line."""
    one_line = partial(_text, no_wrap=True, overflow="ellipsis")
    warnings = [one_line(f"! {warning}", style="yellow") for warning in tally.warnings]
    table = [_table(tally.front)] if tally.front else []
    bar = [ProgressBar(tally.total, tally.ended, width=_BAR_WIDTH)] if tally.total else []
    return Group(*table, *warnings, *bar, one_line(tally.line()))


def _table(front: Sequence[FrontPoint]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("front so far", overflow="fold")
    for name in front[0].values:
        table.add_column(_text(name), justify="right", overflow="fold")
    for point in front:
        table.add_row(_text(point.name), *(f"{value:,.4g}" for value in point.values.values()))
    return table


def _text(text: str, **options: Any) -> Text:
    """Return a text that controls no terminal, whatever names are in it."""
    return Text(printable_message(text), **options)


class Progress:
    """Show a study's progress: a live view on a terminal and in notebooks, else plain lines.

    A live view in a notebook needs ipywidgets.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    @property
    def is_live(self) -> bool:
        """Whether a live view is shown."""
        return self._live is not None

    @contextmanager
    def live_display(self) -> Iterator[None]:
        """Show the live view for the duration of the context, where it can be updated."""
        in_notebook = self._console.is_jupyter and find_spec("ipywidgets") is not None
        if not self._console.is_terminal and not in_notebook:
            yield
            return
        with Live(Text(""), console=self._console, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def update(self, tally: Tally) -> None:
        """Update the live view, if there is one."""
        if self._live is not None:
            self._live.update(render(tally))

    def event(self, text: str) -> None:
        """Print a permanent line."""
        self._console.print(_text(text), soft_wrap=True, highlight=False)
