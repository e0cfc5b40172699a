"""Memory and time of long studies: `python benchmarks/scale.py --help`.

Measures the memory of the driver over two thousand trials, and the time to open a ledger of a
hundred thousand trials, resume its sampler and print its status. Prints wall-clock and CPU time of
this process, without the import of libraries.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import psutil
from large_ledger import build
from overhead import SPACE
from rich.console import Console

import partialnas.analysis  # noqa: F401 - otherwise imported while `status` is timed
from partialnas.commands.studies.status import show_status
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.system.environment import load_average
from partialnas.search.driver.scheduler import Scheduler, make_source
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.session.open_ledger import open_ledger
from partialnas.search.session.progress import Progress
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study

AIM_MB, AIM_S = 50, 5


def memory(trials: int, folder: Path) -> None:
    """Print how much the memory of the driver grows after a tenth of the trials."""
    process, sizes = psutil.Process(), []
    for budget in (trials // 10, trials):
        study = Study.model_validate(
            {
                "study": "memory",
                "base": {"preset": "partialnet_t0", "stem_stride": 2, "width": 16},
                "space": {"axes": SPACE},
                "search": {"sampler": "random"},
                "trial": "overhead:evaluate",
                "budget": {"trials": budget},
                "executor": {"kind": "in-process"},
            }
        )
        quiet = Console(file=io.StringIO())
        run_study(study, folder, base_dir=Path(__file__).parent, console=quiet)
        sizes.append(process.memory_info().rss / 1e6)
    growth = sizes[1] - sizes[0]
    print(f"memory: {sizes[1]:.0f} MB after {trials} trials, {growth:+.0f} MB (aim: {AIM_MB})")


@contextmanager
def timed(label: str, total: list[float]) -> Iterator[None]:
    """Print the time of a step, and add it to the total."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    total.append(wall)
    print(f"{label:28} {wall:7.2f} s wall clock, {cpu:7.2f} s CPU")


def long_ledger(folder: Path) -> None:
    """Print the time to resume a study of many trials and to print its status."""
    progress, total = Progress(Console(file=io.StringIO())), list[float]()
    with Ledger.open(folder) as ledger:
        study = Study.model_validate(ledger.study.frozen)
    resolved = resolve_study(study, Path())
    with timed("open the ledger to write", total):
        ledger = open_ledger(resolved, folder, progress)
        ledger.requeue_running()
    with timed("resume networks and sampler", total):
        scheduler = Scheduler(resolved, ledger, make_source(resolved), progress.event)
    with timed("the next trial", total):
        scheduler.ask()
    ledger.requeue_running()
    ledger.close()
    with timed("status", total), redirect_stdout(io.StringIO()):
        show_status(folder)
    print(f"{'all':28} {sum(total):7.2f} s wall clock (aim: {AIM_S})")


def main() -> None:
    """Print memory and times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=2000, help="trials of the memory test")
    parser.add_argument("--records", type=int, default=100_000, help="trials of the long ledger")
    parser.add_argument("--sampler", default="nsga2")
    parser.add_argument("--ledger", type=Path, help="ledger built by large_ledger.py")
    parser.add_argument("--quick", action="store_true", help="200 trials, 2000 records")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.records = 200, 2000
    print(f"load average {load_average()} before")
    with tempfile.TemporaryDirectory(prefix=".scale-", dir=".") as scratch:
        memory(options.trials, Path(scratch) / "memory")
        folder = options.ledger or Path(scratch) / "long"
        if options.ledger is None:
            build(folder, options.records, options.sampler)
        long_ledger(folder)


if __name__ == "__main__":
    main()
