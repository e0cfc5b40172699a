"""End worker processes that hang or cannot use their device any more, and keep what they print."""

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from partialnas.search.executors import base
from partialnas.search.executors.base import ItemT
from partialnas.space.errors import DeviceFaultError
from partialnas.space.values import Value, digest


@dataclass(frozen=True)
class Watchdog:
    """Run items in this process, and end the process if an item hangs or its device fails.

    The process leaves a file. From a hang file, with the stacks of all threads, the process that
    retries the item returns a `timeout`. From a fault file, the driver knows the reason of a death.

    Attributes:
        log: file for tracebacks and everything that the process prints.
        marks: folder of these files; on a cluster, one that all nodes share.
        limit_s: seconds after which an item is considered hung; None disables the limit.
    """

    log: Path
    marks: Path
    limit_s: float | None = None

    def run_item(self, work: base.ItemFunction[ItemT], item: ItemT) -> base.ItemResult:
        """Run an item; see `run_item` in `search.executors.base`."""
        try:
            return self._run_within_limit(work, item)
        except DeviceFaultError as error:
            base.append_log(self.log, f"{base.describe_item(item)}: {error.reason}")
            self.mark_fault(item, error.reason)
            os._exit(1)

    def mark_fault(self, item: Value, reason: str) -> None:
        """Write the fault file of an item."""
        self.marks.mkdir(exist_ok=True)
        self._fault_file(item).write_text(reason, encoding="utf-8")

    def take_fault(self, item: Value) -> str | None:
        """Return the device fault that ended the last process of an item, or None; only once."""
        file = self._fault_file(item)
        if not file.exists():
            return None
        reason = file.read_text(encoding="utf-8")
        file.unlink()
        return reason

    def hang_file(self, item: Value) -> Path:
        """Return the path of an item's hang file."""
        return self.marks / digest(item.model_dump(mode="json"))

    def _fault_file(self, item: Value) -> Path:
        return self.hang_file(item).with_suffix(".fault")

    def _run_within_limit(self, work: base.ItemFunction[ItemT], item: ItemT) -> base.ItemResult:
        if self.limit_s is None:
            return base.run_item(work, item, self.log)
        file = self.hang_file(item)
        if file.exists() and (stacks := file.read_text(encoding="utf-8")):
            file.unlink()
            reason = f"no result after {self.limit_s:g} s"
            base.append_log(self.log, f"{base.describe_item(item)}: {reason}\n{stacks}")
            return base.failed_result(item, reason, "timeout", attempts=0)
        with _time_limit(file, self.limit_s):
            return base.run_item(work, item, self.log)

    def redirect_output(self) -> None:
        """Redirect the output of this process to the log, with a stack dump if it crashes."""
        with self.log.open("ab") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        faulthandler.enable(file=2)


@contextmanager
def _time_limit(hang_file: Path, limit_s: float) -> Iterator[None]:
    """Kill this process after `limit_s` seconds, even if no Python thread can run."""
    hang_file.parent.mkdir(exist_ok=True)
    with hang_file.open("w", encoding="utf-8") as file:
        faulthandler.dump_traceback_later(limit_s, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            hang_file.unlink()
