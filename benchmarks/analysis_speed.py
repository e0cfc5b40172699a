"""How long analysis takes of a ledger: `python benchmarks/analysis_speed.py [DIR...]`.

Without folders a ledger of `--records` trials is built first (see `large_ledger.py`). Prints
processor time and time on the clock of each step, the better of `--repeats`; once for the report.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from large_ledger import build
from rich.console import Console
from rich.table import Table

from partialnas.analysis import front, load, load_trials, pareto_figure, pareto_table
from partialnas.analysis.report.report import write_report
from partialnas.runs.system.environment import load_average as load_of_machine

AIMS_S = {"load": 3.0, "front": 0.1, "Pareto figure, table and caption": 5.0, "report": 30.0}


def timed(repeats: int, step: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the processor and on the clock, the least of several runs."""
    cpu, wall = [], []
    for _ in range(repeats):
        began = process_time(), perf_counter()
        step()
        cpu.append(process_time() - began[0])
        wall.append(perf_counter() - began[1])
    return min(cpu), min(wall)


def measure(folders: list[Path], repeats: int, place: Path) -> None:
    """Print the table; files are written to `place`."""
    trials = load_trials(folders)
    frame, objectives = trials.frame, trials.objectives
    table = Table(title=f"{len(frame):,} trials, load of the machine {load_of_machine()} before")
    for head in ("step", "processor (s)", "clock (s)", "aim (s)"):
        table.add_column(head, justify="left" if head == "step" else "right")
    report = place / "report.html"
    steps: dict[str, Callable[[], Any]] = {
        "load": lambda: load(folders),
        "front": lambda: front(frame, objectives),
        "Pareto table": lambda: pareto_table(frame),
        "Pareto figure, table and caption": lambda: pareto_figure(frame, place / "front.pdf"),
        "report": lambda: write_report(folders[0], report),
    }
    for name, step in steps.items():
        cpu, wall = timed(1 if name == "report" else repeats, step)
        aim = f"{AIMS_S[name]:g}" if name in AIMS_S else ""
        table.add_row(name, f"{cpu:.2f}", f"{wall:.2f}", aim)
    Console().print(table)
    print(f"report: {report.stat().st_size / 1e6:.1f} MB (aim: 30)")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--records", type=int, default=100_000, help="of a ledger that is built")
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    with TemporaryDirectory(prefix=".analysis-", dir=".") as scratch:
        place = Path(scratch)
        if not given.folders:
            build(place / "large", given.records)
        measure(given.folders or [place / "large"], given.repeats, place)


if __name__ == "__main__":
    main()
