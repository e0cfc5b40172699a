"""Time the analysis of a ledger: `python benchmarks/analysis_speed.py [DIR...]`.

Without folders, a ledger of `--records` trials is built first (see `large_ledger.py`). Prints CPU
and wall-clock seconds of each step, the minimum of `--repeats` runs; the report runs once.
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
from partialnas.runs.system.environment import load_average

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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument(
        "--records", type=int, default=100_000, help="trials of a ledger that is built"
    )
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    with TemporaryDirectory(prefix=".analysis-", dir=".") as scratch:
        output = Path(scratch)
        if not options.folders:
            build(output / "large", options.records)
        measure(options.folders or [output / "large"], options.repeats, output)


if __name__ == "__main__":
    main()
