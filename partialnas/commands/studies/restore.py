"""The verb `restore`: put an intact copy in the place of a damaged ledger."""

from pathlib import Path

from partialnas.commands.terminal import make_console, print_lines
from partialnas.runs.ledger.file import LEDGER_FILE
from partialnas.runs.ledger.restore import Restoration, restore_ledger

_MAX_NUMBERS = 12


def restore(folder: Path, source: Path | None) -> None:
    """Restore the ledger of a study, and print what was moved and what is lost."""
    restored = restore_ledger(folder, source)
    last = f", the last at {restored.last}" if restored.last else ""
    trials = f"{restored.finished} finished trials{last}"
    lines = [f"{folder / LEDGER_FILE}: restored from {restored.copy} ({trials})"]
    if restored.aside:
        lines.append(
            f"the previous ledger is in {restored.aside}; delete it when nothing is missing"
        )
    print_lines(make_console(), *lines, _lost_line(restored))


def _lost_line(restored: Restoration) -> str:
    if restored.lost is None:
        when = f" that finished after {restored.last}" if restored.last else ""
        return f"lost: all trials{when}; `partialnas run` trains them again"
    if not restored.lost:
        return "lost: no finished trial that could be read in the previous ledger"
    numbers = [f"#{row.number}" for row in restored.lost]
    more = ", ..." if len(numbers) > _MAX_NUMBERS else ""
    listed = ", ".join(numbers[:_MAX_NUMBERS])
    return (
        f"lost: {len(numbers)} finished trials ({listed}{more}); `partialnas run` trains them again"
    )
