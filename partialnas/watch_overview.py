"""`status --watch`: how a study stands, again and again, read from its ledger while it runs."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from partialnas.overview import front_table, spent_line
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from partialnas.runs.ledger import Ledger

_REST = 3
"""Times as long as a look takes until the next one: a long ledger is not read all the time."""


def watch_status(folder: Path, every_s: float, console: Console | None = None) -> None:
    """Show how a study stands until nobody works on it any more, or until Ctrl-C.

    On a terminal the view is renewed in place; elsewhere each change is one plain line.

    Args:
        folder: the study's.
        every_s: seconds between two looks, at least.
        console: where it is shown; standard output unless given.

    Raises:
        UserError: there is no ledger in the folder.
        MachineError: it is damaged.
    """
    from partialnas.runs.ledger import Ledger

    console = console or Console()
    with Ledger.open(folder) as ledger:
        try:
            if console.is_terminal:
                with Live(console=console, auto_refresh=False) as live:
                    _watch(_Looks(folder, ledger), every_s, live, console)
            else:
                _watch(_Looks(folder, ledger), every_s, None, console)
        except KeyboardInterrupt:
            return


class _Looks:
    """Looks at a study: what has changed, and whether somebody works on it."""

    def __init__(self, folder: Path, ledger: "Ledger") -> None:
        self._folder = folder
        self._ledger = ledger
        self._seen = -1

    def changed(self) -> bool:
        """Whether the ledger has been written since this was last asked."""
        before, self._seen = self._seen, self._ledger.version()
        return before != self._seen

    def driven(self) -> bool:
        """Whether a driver works on the study."""
        from partialnas.runs.driver_lock import driver_of

        return driver_of(self._folder) is not None

    def line(self) -> str:
        """One line: trials by state, and what they took."""
        counts = self._ledger.counts()
        states = [f"{n} {state}" for state, n in counts.items() if n] or ["no trials yet"]
        name = self._ledger.meta.get("study", self._folder.name)
        return f"{name}: {', '.join(states)}; {spent_line(self._ledger)}"

    def view(self) -> RenderableType:
        """The line, and the front below it."""
        from partialnas.analysis import load

        parts: list[RenderableType] = [Text(self.line(), overflow="ellipsis")]
        try:
            frame = load(self._folder)
            parts.append(front_table(frame))
        except UserError as error:  # there is no front yet
            parts.append(Text(f"no front: {error}"))
        return Group(*parts)


def _watch(looks: _Looks, every_s: float, live: Live | None, console: Console) -> None:
    while True:
        driven = looks.driven()  # asked first, so that its last words are seen
        began = time.monotonic()
        if looks.changed():
            if live is not None:
                live.update(looks.view(), refresh=True)
            else:
                console.print(looks.line(), markup=False, highlight=False, soft_wrap=True)
        if not driven:
            return
        time.sleep(max(every_s, _REST * (time.monotonic() - began)))
