"""What the verb `report` does: write a study's page, once or again and again."""

import time
from pathlib import Path

from rich.console import Console

from partialnas.runs.ledger.file import LEDGER_FILE

_REST = 3
"""A page is not made again before so many times what making it took."""


def write_page(folder: Path, output: Path | None, *, watch: bool, every: int) -> None:
    """Write the report of a study, and name the file.

    Args:
        folder: of the study.
        output: the file; in the study's folder without it.
        watch: write it again whenever the ledger has changed, until Ctrl-C.
        every: seconds between looks at the ledger.
    """
    from partialnas.analysis.report.report import write_report

    path = output or folder / "report.html"
    console = Console(highlight=False)
    if watch:
        write_report(folder, path, refresh=every)
        told = f"writing {path} every {every} s while {folder} changes; Ctrl-C ends it"
        console.print(told, soft_wrap=True, markup=False)
        _keep_writing(folder, path, every)
    write_report(folder, path)
    size = path.stat().st_size / 1e6
    console.print(f"wrote {path} ({size:.1f} MB)", soft_wrap=True, markup=False)


def _keep_writing(folder: Path, path: Path, every: int) -> None:
    """Writes the page whenever the ledger has changed, until the user has seen enough."""
    from partialnas.analysis.report.report import write_report

    known, took = _state(folder), 0.0
    try:
        while True:
            time.sleep(max(every, _REST * took))
            if (now := _state(folder)) != known:
                began = time.monotonic()
                write_report(folder, path, refresh=every)
                known, took = now, time.monotonic() - began
    except KeyboardInterrupt:  # how watching ends; the page that stays does not load itself again
        return


def _state(folder: Path) -> list[tuple[int, int]]:
    """What changes whenever the ledger does: sizes and times of its files."""
    files = [folder / LEDGER_FILE, folder / f"{LEDGER_FILE}-wal"]
    stats = [file.stat() for file in files if file.exists()]
    return [(stat.st_mtime_ns, stat.st_size) for stat in stats]
