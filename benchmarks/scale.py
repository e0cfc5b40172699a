"""What long studies cost: `python benchmarks/scale.py --help`.

The memory of the driver over two thousand trials, and how long a ledger of a hundred thousand
trials takes to be opened, its sampler resumed, and its status printed. Times are of this process on
the clock and on the CPU; importing the libraries is not among them.
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

import partialnas.analysis  # noqa: F401 - else `status` imports it while it is timed
from partialnas.commands.status import show_status
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
    """How much the driver grows, after a tenth of the trials and after all of them."""
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
    grown = sizes[1] - sizes[0]
    print(f"memory: {sizes[1]:.0f} MB after {trials} trials, {grown:+.0f} MB (aim: {AIM_MB})")


@contextmanager
def timed(what: str, total: list[float]) -> Iterator[None]:
    """Prints what something takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    took = time.perf_counter() - wall, time.process_time() - cpu
    total.append(took[0])
    print(f"{what:28} {took[0]:7.2f} s on the clock, {took[1]:7.2f} s of CPU")


def long_ledger(folder: Path) -> None:
    """What a study of many trials takes to carry on, and to be looked at."""
    progress, total = Progress(Console(file=io.StringIO())), list[float]()
    with Ledger.open(folder) as ledger:
        study = Study.model_validate(ledger.study.frozen)
    prepared = resolve_study(study, Path())
    with timed("open the ledger to write", total):
        ledger = open_ledger(prepared, folder, progress)
        ledger.requeue_running()
    with timed("resume networks and sampler", total):
        feed = Scheduler(prepared, ledger, make_source(prepared), progress.event)
    with timed("the next trial", total):
        feed.ask()
    ledger.requeue_running()
    ledger.close()
    with timed("status", total), redirect_stdout(io.StringIO()):
        show_status(folder)
    print(f"{'all':28} {sum(total):7.2f} s on the clock (aim: {AIM_S})")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=2000, help="of the memory test")
    parser.add_argument("--records", type=int, default=100_000, help="of the long ledger")
    parser.add_argument("--sampler", default="nsga2")
    parser.add_argument("--ledger", type=Path, help="one that large_ledger.py has built already")
    parser.add_argument("--quick", action="store_true", help="200 trials, 2000 records")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.records = 200, 2000
    print(f"load {load_average()} before")
    with tempfile.TemporaryDirectory(prefix=".scale-", dir=".") as scratch:
        memory(options.trials, Path(scratch) / "memory")
        folder = options.ledger or Path(scratch) / "long"
        if options.ledger is None:
            build(folder, options.records, options.sampler)
        long_ledger(folder)


if __name__ == "__main__":
    main()
