"""Progress of a study: a live line on a terminal, plain lines elsewhere."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from partialnas.search.driver.running_front import FrontPoint

_WARNINGS = 3
"""So many of the last warnings stay in sight."""

_TIMEFUL = 3
"""Trials that must have ended before the time left is told."""


@dataclass
class Tally:
    """What a study has done so far.

    Attributes:
        total: trials that the study will have, as far as is known.
        done: trials that ended well, in all sittings.
        failed: trials that ended as failed or timeout.
        early: trials on the rungs of a search below the last one.
        running: trials at work now.
        repeats: proposals answered from the ledger.
        best: the best value of each objective so far.
        front: networks of the front so far, a few of them.
        warnings: the last of what a reader should look at.
        ended_this_session: trials that ended in this sitting.
        began: when this sitting began (monotonic seconds).
    """

    total: int | None = None
    done: int = 0
    failed: int = 0
    early: int = 0
    running: int = 0
    repeats: int = 0
    best: dict[str, float] = field(default_factory=dict)
    front: Sequence[FrontPoint] = ()
    warnings: deque[str] = field(default_factory=lambda: deque(maxlen=_WARNINGS))
    ended_this_session: int = 0
    began: float = field(default_factory=monotonic)

    @property
    def ended(self) -> int:
        """Trials that have their record."""
        return self.done + self.failed + self.early

    def line(self) -> str:
        """One line for a reader."""
        ended = f"{self.ended}/{self.total}" if self.total else f"{self.ended}"
        parts = [ended, f"{self.running} running"]
        parts += [f"{self.early} early"] if self.early else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.repeats} repeated"] if self.repeats else []
        parts += [f"best {name} {value:.4g}" for name, value in self.best.items()]
        return " · ".join([*parts, *self._times()])

    def _times(self) -> list[str]:
        elapsed = monotonic() - self.began
        if self.ended_this_session < _TIMEFUL:
            return []
        rate = self.ended_this_session / elapsed
        left = [] if self.total is None else [self.total - self.ended]
        return [f"{rate * 60:.1f} trials/min", *(f"{clock(n / rate)} left" for n in left)]


def clock(seconds: float) -> str:
    """`75` as `1:15`, hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def render(tally: Tally) -> Group:
    """What the terminal shows of a tally: a line, the front, the last warnings."""
    line = Text(tally.line(), no_wrap=True, overflow="ellipsis")
    warnings = [
        Text(f"! {each}", style="yellow", no_wrap=True, overflow="ellipsis")
        for each in tally.warnings
    ]
    return Group(*([_table(tally.front)] if tally.front else []), *warnings, line)


def _table(front: Sequence[FrontPoint]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("front so far", no_wrap=True)
    for name in front[0].values:
        table.add_column(name, justify="right")
    for each in front:
        table.add_row(Text(each.name), *(f"{value:,.4g}" for value in each.values.values()))
    return table


class Progress:
    """Shows a tally: live on a terminal, otherwise one plain line per event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    @property
    def is_live(self) -> bool:
        """Whether there is a live view to be kept up to date."""
        return self._live is not None

    @contextmanager
    def live_display(self) -> Iterator[None]:
        """Keep the live line on the terminal for as long as the study runs."""
        if not self._console.is_terminal:
            yield
            return
        with Live(Text(""), console=self._console, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def update(self, tally: Tally) -> None:
        """Bring the live line up to date; silent where there is no terminal."""
        if self._live is not None:
            self._live.update(render(tally))

    def event(self, text: str) -> None:
        """Write one line that stays."""
        self._console.print(Text(text), soft_wrap=True, highlight=False)
