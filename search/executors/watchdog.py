"""What guards the work in a worker process: a limit of time, and a log of what it prints."""

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from partialnas.search.executors.base import (
    ItemFunction,
    ItemResult,
    ItemT,
    append_log,
    describe_item,
    failed_result,
    run_item,
)
from partialnas.space.values import Value, digest


@dataclass(frozen=True)
class Watchdog:
    """Has items worked on in this process, and ends the process when one hangs.

    A process that hangs cannot say so. It leaves a mark, a file with the stacks of its threads, and
    who is handed the item next finds it and answers `timeout`.

    Attributes:
        log: file for tracebacks and for what the process prints.
        marks: folder of the marks; on a cluster, one that all nodes share.
        limit_s: seconds after which an item is taken to hang; None lets it take its time.
    """

    log: Path
    marks: Path
    limit_s: float | None = None

    def run_item(self, work: ItemFunction[ItemT], item: ItemT) -> ItemResult:
        """See `executor.attempt`."""
        if self.limit_s is None:
            return run_item(work, item, self.log)
        mark = self.hang_file(item)
        if mark.exists() and (stacks := mark.read_text(encoding="utf-8")):
            mark.unlink()
            append_log(
                self.log, f"{describe_item(item)}: no result after {self.limit_s:g} s\n{stacks}"
            )
            return failed_result(item, f"no result after {self.limit_s:g} s", "timeout")
        with _watched(mark, self.limit_s):
            return run_item(work, item, self.log)

    def hang_file(self, item: Value) -> Path:
        """Where an item's mark would be."""
        return self.marks / digest(item.model_dump(mode="json"))

    def redirect_output(self) -> None:
        """Sends what this process prints to the log, with its stacks should it crash."""
        with self.log.open("ab") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        faulthandler.enable(file=2)


@contextmanager
def _watched(mark: Path, limit_s: float) -> Iterator[None]:
    """Ends this process after so many seconds, even if no thread of Python can run any more."""
    mark.parent.mkdir(exist_ok=True)
    with mark.open("w", encoding="utf-8") as file:
        faulthandler.dump_traceback_later(limit_s, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            mark.unlink()
