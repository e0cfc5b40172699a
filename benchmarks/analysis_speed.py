"""Time the analysis of a ledger: `python benchmarks/analysis_speed.py [DIR...]`.

Without folders, a ledger of `--records` trials is built first (see `large_ledger.py`). Prints CPU
and wall-clock seconds of each step, the minimum of `--repeats` runs; the report runs once. A second
table compares what readers of the first ledger take with all their checks and without any, in CPU
seconds: medians of runs that alternate. `--only steps` or `--only checks` prints one table.
"""

import argparse
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

from large_ledger import build
from rich.console import Console
from rich.table import Table

from partialnas.analysis import front, load, load_trials, pareto_figure, pareto_table
from partialnas.analysis.report.report import write_report
from partialnas.runs.ledger import checked_rows, file
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.schema import LEDGER_COLUMNS
from partialnas.runs.system.environment import load_average

READERS: dict[str, Callable[[Ledger], object]] = {
    "state_counts": Ledger.state_counts,
    "trial_results": Ledger.trial_results,
    "environments": Ledger.environments,
    "usage_rows": Ledger.usage_rows,
    "proposal_keys": Ledger.proposal_keys,
    "measurement_table": Ledger.measurement_table,
    "count_measured_networks": Ledger.count_measured_networks,
    "count_repeated_proposals": Ledger.count_repeated_proposals,
}
"""Methods of a ledger that read all of its rows."""

MAX_RATIO = 1.3
"""Most that the checks of a reader may cost, as a multiple of the time without them."""

AIMS_S = {"load": 3.0, "front": 0.1, "Pareto figure, table and caption": 5.0, "report": 30.0}


def timed(repeats: int, step: Callable[[], Any]) -> tuple[float, float]:
    """Return the least CPU and wall-clock seconds of several runs."""
    cpu, wall = [], []
    for _ in range(repeats):
        start = process_time(), perf_counter()
        step()
        cpu.append(process_time() - start[0])
        wall.append(perf_counter() - start[1])
    return min(cpu), min(wall)


def measure(folders: list[Path], repeats: int, output: Path) -> None:
    """Print the table; files are written to `output`."""
    trials = load_trials(folders)
    frame, objectives = trials.frame, trials.objectives
    table = Table(title=f"{len(frame):,} trials, load average {load_average()} before")
    for head in ("step", "CPU (s)", "wall clock (s)", "aim (s)"):
        table.add_column(head, justify="left" if head == "step" else "right")
    report = output / "report.html"
    steps: dict[str, Callable[[], Any]] = {
        "load": lambda: load(folders),
        "front": lambda: front(frame, objectives),
        "Pareto table": lambda: pareto_table(frame),
        "Pareto figure, table and caption": lambda: pareto_figure(frame, output / "front.pdf"),
        "report": lambda: write_report(folders[0], report),
    }
    for name, step in steps.items():
        cpu, wall = timed(1 if name == "report" else repeats, step)
        aim = f"{AIMS_S[name]:g}" if name in AIMS_S else ""
        table.add_row(name, f"{cpu:.2f}", f"{wall:.2f}", aim)
    Console().print(table)
    print(f"report: {report.stat().st_size / 1e6:.1f} MB (aim: 30)")


@contextmanager
def without_checks() -> Iterator[None]:
    """Read ledgers without comparing any checksum, total, number or schema."""

    def unchecked_rows(
        connection: sqlite3.Connection, table: str, where: str, *parameters: object
    ) -> Iterator[tuple[Any, ...]]:
        names = ", ".join(LEDGER_COLUMNS[table])
        yield from connection.execute(f"SELECT {names}, seal FROM {table} {where}", parameters)

    def pass_all(*_: object) -> None:
        """Check nothing."""

    with ExitStack() as stack:
        stack.enter_context(patch.object(checked_rows, "_checked_rows", unchecked_rows))
        for module, name in (
            *((checked_rows, check) for check in ("check_total", "check_numbers")),
            *((file, check) for check in ("check_schema", "_check_header", "_check_version")),
        ):
            stack.enter_context(patch.object(module, name, pass_all))
        yield


def compare_checks(folder: Path, repeats: int) -> None:
    """Print what each reader takes with and without its checks; opening the ledger counts."""
    table = Table(title=f"readers of {folder}, load average {load_average()} before")
    for head in ("reader", "without checks (s)", "with checks (s)", "ratio", "aim"):
        table.add_column(head, justify="left" if head == "reader" else "right")

    def read(reader: Callable[[Ledger], object]) -> float:
        start = process_time()
        with Ledger.open(folder) as ledger:
            reader(ledger)
        return process_time() - start

    for name, reader in READERS.items():
        read(reader)  # fills the cache of the file system
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(repeats):
            seconds[True].append(read(reader))
            with without_checks():
                seconds[False].append(read(reader))
        plain, checked = (median(seconds[key]) for key in (False, True))
        ratio = f"{checked / plain:.2f}"
        table.add_row(name, f"{plain:.3f}", f"{checked:.3f}", ratio, f"{MAX_RATIO:g}")
    Console().print(table)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument(
        "--records", type=int, default=100_000, help="trials of a ledger that is built"
    )
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--check-repeats", type=int, default=15, help="runs of each reader")
    parser.add_argument("--only", choices=("steps", "checks"), help="print one table only")
    options = parser.parse_args()
    with TemporaryDirectory(prefix=".analysis-", dir=".") as scratch:
        output = Path(scratch)
        if not options.folders:
            build(output / "large", options.records)
        folders = options.folders or [output / "large"]
        if options.only != "checks":
            measure(folders, options.repeats, output)
        if options.only != "steps":
            compare_checks(folders[0], options.check_repeats)


if __name__ == "__main__":
    main()
