"""How long analysis takes of a ledger: `python benchmarks/analysis_speed.py DIR [DIR...]`.

`python benchmarks/large_ledger.py DIR` makes a ledger of 100,000 trials. Prints processor time and
time on the clock of each step, the better of `--repeats`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from rich.console import Console
from rich.table import Table

from partialnas.analysis import front, load, pareto_figure, pareto_table


def timed(repeats: int, step: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the processor and on the clock, the least of several runs."""
    cpu, wall = [], []
    for _ in range(repeats):
        began = process_time(), perf_counter()
        step()
        cpu.append(process_time() - began[0])
        wall.append(perf_counter() - began[1])
    return min(cpu), min(wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    frame = load(given.folders)
    objectives = frame.attrs["objectives"]
    table = Table(title=f"{len(frame):,} trials")
    for head in ("step", "processor (s)", "clock (s)"):
        table.add_column(head, justify="left" if head == "step" else "right")
    with TemporaryDirectory() as place:
        steps: dict[str, Callable[[], Any]] = {
            "load": lambda: load(given.folders),
            "front": lambda: front(frame, objectives),
            "Pareto table": lambda: pareto_table(frame),
            "Pareto figure, table and caption": lambda: pareto_figure(
                frame, Path(place) / "front.pdf"
            ),
        }
        for name, step in steps.items():
            cpu, wall = timed(given.repeats, step)
            table.add_row(name, f"{cpu:.2f}", f"{wall:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
