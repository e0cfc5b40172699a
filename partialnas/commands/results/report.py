"""The verb `report`: write the page of a study, once or repeatedly."""

import time
from pathlib import Path

from partialnas.analysis.report.report import write_report
from partialnas.commands.terminal import make_console, print_lines
from partialnas.runs.datasets.memory import format_bytes
from partialnas.runs.ledger.file import LEDGER_FILE

_PAUSE_FACTOR = 3
"""Minimum pause before the page is rewritten, relative to the time that writing took."""


def write_page(folder: Path, output: Path | None, *, watch: bool, every: int) -> None:
    """Write the report of a study, and name the file.

    Args:
        folder: the study's folder.
        output: file to write; by default in the study's folder.
        watch: whether to rewrite it whenever the ledger changes, until Ctrl-C.
        every: seconds between checks of the ledger.
    """
    path = output or folder / "report.html"
    console = make_console()
    if watch:
        write_report(folder, path, refresh=every)
        message = f"rewriting {path} while {folder} changes, checked every {every} s"
        print_lines(console, f"{message}; stop with Ctrl-C")
        _watch(folder, path, every)
    write_report(folder, path)
    print_lines(console, f"wrote {path} ({format_bytes(path.stat().st_size)})")


def _watch(folder: Path, path: Path, every: int) -> None:
    """Rewrite the page whenever the ledger changes, until Ctrl-C."""
    state, seconds = _ledger_state(folder), 0.0
    try:
        while True:
            time.sleep(max(every, _PAUSE_FACTOR * seconds))
            if (now := _ledger_state(folder)) != state:
                start = time.monotonic()
                write_report(folder, path, refresh=every)
                state, seconds = now, time.monotonic() - start
    except KeyboardInterrupt:  # the caller writes a last page, which does not reload
        return


def _ledger_state(folder: Path) -> list[tuple[int, int]]:
    """Return modification times and sizes of the ledger's files, which change with every write."""
    files = [folder / LEDGER_FILE, folder / f"{LEDGER_FILE}-wal"]
    stats = [file.stat() for file in files if file.exists()]
    return [(stat.st_mtime_ns, stat.st_size) for stat in stats]
