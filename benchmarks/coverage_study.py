"""Coverage and power of the statistics of ablations: `python benchmarks/coverage_study.py --help`.

Trials are simulated with known means and a known standard deviation between seeds. Some studies run
through the whole pipeline (study, ledger, table of trials, comparison), which must give exactly the
result of comparing the same numbers; more are compared by their numbers only. In every study half
of the arms differ from the baseline by the difference that `detectable` states for 80 % power, the
others do not differ. Residuals are normal, or drawn from a pool of real ones (see
simulated_arms.py).
"""

import argparse
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, variance
from unittest.mock import patch

from rich.console import Console
from simulated_arms import VARIABLE, Noise, Numbers, Simulated, name

from partialnas.analysis.frames.load import load
from partialnas.analysis.plotting.style import DARK_COLOR, MUTED_COLOR, SERIES_COLORS, figure_style
from partialnas.analysis.stats import multiple_comparisons as contrasts
from partialnas.analysis.stats.multiple_comparisons import Comparison, compare, seeds_needed
from partialnas.runs.system.environment import environment
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study


def values_by_pipeline(simulated: Simulated, number: int) -> Numbers:
    """Run one study, and return its values by arm and seed."""
    os.environ[VARIABLE] = json.dumps({**asdict(simulated), "number": number})
    study = Study.model_validate(
        {
            "study": "coverage",
            "task": {"data": "digits"},
            "base": {"stem_stride": 1, "depths": [1, 1, 1, 1], "head_width": 16},
            "arms": {name(arm): {"width": 4 * arm + 4} for arm in range(simulated.arms)},
            "seeds": simulated.seeds,
            "objectives": {"val_accuracy": "max"},
            "reference": {"width": 8},
            "trial": "simulated_arms:trial",
            "executor": {"kind": "in-process"},
        }
    )
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        out = Path(folder) / "study"
        run_study(study, out, base_dir=Path(__file__).parent, console=Console(file=io.StringIO()))
        trials = load(out)
    done = trials[trials["state"] == "done"]
    values: Numbers = {name(arm): {} for arm in range(simulated.arms)}
    for arm, seed, value in zip(done["arm"], done["seed"], done["val_accuracy"], strict=True):
        values[arm][int(seed)] = float(value)
    return values


@dataclass(frozen=True)
class CoverageResult:
    """Correctness of one study's comparison, as shares.

    Attributes:
        all: whether all intervals contain their true difference.
        single: share of intervals that do.
        false: whether a true difference of zero is significant.
        power: share of true differences that are significant with the right sign.
        paired: whether the check of equal variances failed.
        width: half-width of the first interval in true standard deviations.
        seeds: seeds of every arm.
    """

    all: float
    single: float
    false: float
    power: float
    paired: float
    width: float
    seeds: float


def judge(comparison: Comparison, simulated: Simulated) -> CoverageResult:
    pairs = list(zip(comparison.contrasts, simulated.truths, strict=True))
    covered = [contrast.low <= truth <= contrast.high for contrast, truth in pairs]
    significant = [
        not contrast.low <= 0 <= contrast.high and contrast.difference * truth > 0
        for contrast, truth in pairs
        if truth
    ]
    first = comparison.contrasts[0]
    return CoverageResult(
        all=all(covered),
        single=fmean(covered),
        false=any(contrast.p < 0.05 for contrast, truth in pairs if not truth),
        power=fmean(significant),
        paired=comparison.method == "paired",
        width=(first.high - first.low) / 2 / simulated.deviation,
        seeds=len(comparison.seeds),
    )


def by_pipeline(simulated: Simulated, number: int) -> CoverageResult:
    values = values_by_pipeline(simulated, number)
    assert values == simulated.numbers(number), f"study {number}: the pipeline changed a value"
    return judge(compare(values, simulated.pairs), simulated)


def by_numbers(simulated: Simulated, number: int) -> CoverageResult:
    with patch.object(contrasts, "UNEQUAL_BELOW", simulated.check):
        return judge(compare(simulated.numbers(number), simulated.pairs), simulated)


TARGET_HALF_WIDTH = 2.2
"""Target of sequential seeds in true standard deviations."""


def sequential(simulated: Simulated, number: int, *, honest: bool = True) -> CoverageResult:
    """Add seeds until intervals are narrow; without `honest`, judge as if all were planned."""
    first = range(simulated.seeds)
    pilot = compare(simulated.numbers(number), simulated.pairs)
    needed = seeds_needed(pilot, TARGET_HALF_WIDTH * simulated.deviation, 60)
    longest = simulated.numbers(number, range(max(needed.values())))
    values = {arm: {s: v for s, v in longest[arm].items() if s < needed[arm]} for arm in longest}
    stage = first if honest else None
    return judge(compare(values, simulated.pairs, first_stage=stage), simulated)


def estimate(shares: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of the studies' shares and its 95 % interval.

    Wilson's interval at the effective number of independent binary outcomes.
    """
    mean, count = fmean(shares), float(len(shares))
    between = variance(shares)
    if between and 0 < mean < 1:
        count = mean * (1 - mean) / (between / count)
    z2 = 1.959964**2
    center = (mean + z2 / (2 * count)) / (1 + z2 / count)
    reach = math.sqrt(z2 * (mean * (1 - mean) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return mean, center - reach, center + reach


Method = Callable[[Simulated, int], CoverageResult]


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    label: str
    simulated: Simulated
    results: Sequence[CoverageResult]

    def estimate(self, metric: str) -> tuple[float, float, float]:
        """Return the mean and interval of a field of the results."""
        return estimate([getattr(result, metric) for result in self.results])

    def text(self) -> str:
        """Return the row as text."""
        cells = []
        for metric in ("all", "single", "false", "power"):
            mean, low, high = (100 * value for value in self.estimate(metric))
            cells.append(f"{mean:5.1f} [{low:4.1f}, {high:5.1f}]")
        paired, width, seeds = (
            fmean(getattr(result, field) for result in self.results)
            for field in ("paired", "width", "seeds")
        )
        size = f"{self.simulated.arms:2} x {self.simulated.seeds}"
        tail = f"{100 * paired:6.1f} {width:6.2f} {seeds:6.1f}"
        return f"{self.label:38} {size} {len(self.results):6} {' '.join(cells)} {tail}"


HEAD = (
    f"{'% of studies [95 % interval]':38} {'size':6} {'n':>5} {'all intervals':19} "
    f"{'single interval':19} {'false positives':19} {'power':19} "
    f"{'paired':>6} {'width':>6} {'seeds':>6}"
)
AIMS = f"{'aim':51} {'95 ± 2':>19} {'':>19} {'at most 5':>19} {'80 ± 5':>19}"
NAMES: dict[Noise, str] = {
    "normal": "normal",
    "unequal": "one arm 3 times as wide",
    "val_accuracy": "real val_accuracy",
    "val_nll": "real val_nll",
}

STAGED = {True: "sequential (Stein)", False: "sequential, as if planned"}


def plan(studies: int, draws: int) -> Iterable[tuple[str, Simulated, Method, int]]:
    """Yield label, simulation, method and number of studies."""
    for noise in ("normal", "val_accuracy"):
        yield f"pipeline, {NAMES[noise]}", Simulated(noise, 4, 3), by_pipeline, studies
    for noise in ("normal", "val_accuracy", "val_nll"):
        for arms in (4, 12):
            for seeds in (3, 5):
                yield NAMES[noise], Simulated(noise, arms, seeds), by_numbers, draws
    for seeds in (2, 3):
        for honest in (True, False):
            method = partial(sequential, honest=honest)
            yield STAGED[honest], Simulated("normal", 4, seeds), method, draws
    yield f"{STAGED[True]}, real val_nll", Simulated("val_nll", 4, 3), sequential, draws
    for noise, arms, seeds in (("normal", 4, 5), ("unequal", 4, 5), ("val_nll", 12, 3)):
        for check in (0.0, 0.01, 0.05):
            label = f"check at {check:.0%}, {NAMES[noise]}"
            yield label, Simulated(noise, arms, seeds, check), by_numbers, draws


def measure(studies: int, draws: int, workers: int) -> Iterable[Row]:
    with ProcessPoolExecutor(workers) as processes:
        for label, simulated, method, count in plan(studies, draws):
            job = partial(method, simulated)
            results = processes.map(job, range(count), chunksize=max(1, count // (8 * workers)))
            yield Row(label, simulated, list(results))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Plot coverage, false positives and power of every row, with the aims as bands."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if not row.label.startswith("check")]
    panels = {
        "all": ("coverage", (93, 97), (86, 100)),
        "false": ("false positives", (0, 5), (-0.3, 8)),
        "power": ("power", (75, 85), (70, 90)),
    }
    with figure_style("neurips") as style:
        figure = Figure(figsize=(1.2 * style.width, 0.6 + 0.17 * len(shown)), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, (metric, (title, aim, limits)) in zip(axes, panels.items(), strict=True):
            axis.axvspan(*aim, color=MUTED_COLOR, alpha=0.25, linewidth=0)
            axis.set_xlim(*limits)
            for i, row in enumerate(shown):
                if metric == "power" and row.label.startswith("sequential"):
                    continue  # power is stated for the number of first seeds
                mean, least, most = (100 * value for value in row.estimate(metric))
                color = (
                    SERIES_COLORS[1] if row.label.startswith(STAGED[False]) else SERIES_COLORS[0]
                )
                axis.plot([least, most], [i, i], color=color, linewidth=1)
                axis.plot([mean], [i], "o", color=color, markersize=3)
            axis.set_xlabel(f"{title} (%)", color=DARK_COLOR, fontsize=style.small_font_size)
        axes[0].set_yticks(
            range(len(shown)),
            [f"{r.label}, {r.simulated.arms} arms × {r.simulated.seeds} seeds" for r in shown],
        )
        axes[0].invert_yaxis()
        figure.savefig(path, dpi=200, metadata={"Software": "partialnas"})


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=1000, help="studies through the pipeline")
    parser.add_argument("--draws", type=int, default=2000, help="studies by numbers only")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--figure", type=Path, help="file of the figure; default: none")
    options = parser.parse_args()
    print(environment())
    print(HEAD, AIMS, sep="\n")
    rows = []
    for row in measure(options.studies, options.draws, options.workers):
        print(row.text(), flush=True)
        rows.append(row)
    if options.figure:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
