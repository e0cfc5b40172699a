"""Whether statistics of ablations keep their word: `python benchmarks/coverage_study.py --help`.

Simulated trials with known means and a known deviation between seeds. Some studies go through the
whole pipeline (study, ledger, table of trials, comparison), and each must give exactly what the
comparison of the same numbers gives; more are compared by their numbers alone. In every study half
of the arms differ from the baseline by what `detectable` states for 80 % power, the others not at
all. Residuals are normal, or drawn from a pool of real ones (see simulated_arms.py).
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


def through_pipeline(simulated: Simulated, number: int) -> Numbers:
    """The values of one study, run and read back."""
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
        place = Path(folder) / "study"
        run_study(study, place, base_dir=Path(__file__).parent, console=Console(file=io.StringIO()))
        trials = load(place)
    done = trials[trials["state"] == "done"]
    values: Numbers = {name(arm): {} for arm in range(simulated.arms)}
    for arm, seed, value in zip(done["arm"], done["seed"], done["val_accuracy"], strict=True):
        values[arm][int(seed)] = float(value)
    return values


@dataclass(frozen=True)
class Outcome:
    """What one study's comparison got right, as shares of what it could get right.

    Attributes:
        all: whether all intervals hold their true difference.
        each: the share of intervals that do.
        false: whether any true zero is called a difference.
        power: the share of true differences that are found, with their sign.
        paired: whether the check of equal variances failed.
        width: of the first interval, from its middle, in true deviations.
        seeds: of every arm.
    """

    all: float
    each: float
    false: float
    power: float
    paired: float
    width: float
    seeds: float


def judge(comparison: Comparison, simulated: Simulated) -> Outcome:
    pairs = list(zip(comparison.contrasts, simulated.truths, strict=True))
    holds = [contrast.low <= truth <= contrast.high for contrast, truth in pairs]
    found = [
        not contrast.low <= 0 <= contrast.high and contrast.difference * truth > 0
        for contrast, truth in pairs
        if truth
    ]
    first = comparison.contrasts[0]
    return Outcome(
        all=all(holds),
        each=fmean(holds),
        false=any(contrast.p < 0.05 for contrast, truth in pairs if not truth),
        power=fmean(found),
        paired=comparison.method == "paired",
        width=(first.high - first.low) / 2 / simulated.deviation,
        seeds=len(comparison.seeds),
    )


def by_pipeline(simulated: Simulated, number: int) -> Outcome:
    values = through_pipeline(simulated, number)
    assert values == simulated.numbers(number), f"study {number}: the pipeline changed a value"
    return judge(compare(values, simulated.pairs), simulated)


def by_numbers(simulated: Simulated, number: int) -> Outcome:
    with patch.object(contrasts, "UNEQUAL_BELOW", simulated.check):
        return judge(compare(simulated.numbers(number), simulated.pairs), simulated)


UNTIL = 2.2
"""Half-width that sequential seeds are asked for, in true deviations."""


def sequential(simulated: Simulated, number: int, *, honest: bool = True) -> Outcome:
    """Seeds added until intervals are narrow; not honest: judged as if so many had been planned."""
    first = range(simulated.seeds)
    begun = compare(simulated.numbers(number), simulated.pairs)
    needed = seeds_needed(begun, UNTIL * simulated.deviation, 60)
    longest = simulated.numbers(number, range(max(needed.values())))
    values = {arm: {s: v for s, v in longest[arm].items() if s < needed[arm]} for arm in longest}
    stage = first if honest else None
    return judge(compare(values, simulated.pairs, first_stage=stage), simulated)


def estimate(shares: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the studies' shares and its 95 % interval.

    Wilson's, at as many independent yes or no answers as the shares of all studies are worth.
    """
    mean, count = fmean(shares), float(len(shares))
    between = variance(shares)
    if between and 0 < mean < 1:
        count = mean * (1 - mean) / (between / count)
    z2 = 1.959964**2
    centre = (mean + z2 / (2 * count)) / (1 + z2 / count)
    reach = math.sqrt(z2 * (mean * (1 - mean) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return mean, centre - reach, centre + reach


Way = Callable[[Simulated, int], Outcome]


@dataclass(frozen=True)
class Row:
    """One line of the table: what was simulated, how, and how it came out."""

    label: str
    simulated: Simulated
    outcomes: Sequence[Outcome]

    def estimate(self, what: str) -> tuple[float, float, float]:
        """Of one field of the outcomes."""
        return estimate([getattr(outcome, what) for outcome in self.outcomes])

    def text(self) -> str:
        """The line of the table."""
        cells = []
        for what in ("all", "each", "false", "power"):
            mean, low, high = (100 * value for value in self.estimate(what))
            cells.append(f"{mean:5.1f} [{low:4.1f}, {high:5.1f}]")
        paired, width, seeds = (
            fmean(getattr(outcome, what) for outcome in self.outcomes)
            for what in ("paired", "width", "seeds")
        )
        size = f"{self.simulated.arms:2} x {self.simulated.seeds}"
        tail = f"{100 * paired:6.1f} {width:6.2f} {seeds:6.1f}"
        return f"{self.label:38} {size} {len(self.outcomes):6} {' '.join(cells)} {tail}"


HEAD = (
    f"{'% of studies [95 % interval]':38} {'size':6} {'n':>5} {'all intervals':19} "
    f"{'each interval':19} {'false positives':19} {'power':19} "
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


def plan(studies: int, draws: int) -> Iterable[tuple[str, Simulated, Way, int]]:
    """What is simulated: label, truth, way, and how often."""
    for noise in ("normal", "val_accuracy"):
        yield f"pipeline, {NAMES[noise]}", Simulated(noise, 4, 3), by_pipeline, studies
    for noise in ("normal", "val_accuracy", "val_nll"):
        for arms in (4, 12):
            for seeds in (3, 5):
                yield NAMES[noise], Simulated(noise, arms, seeds), by_numbers, draws
    for seeds in (2, 3):
        for honest in (True, False):
            way = partial(sequential, honest=honest)
            yield STAGED[honest], Simulated("normal", 4, seeds), way, draws
    yield f"{STAGED[True]}, real val_nll", Simulated("val_nll", 4, 3), sequential, draws
    for noise, arms, seeds in (("normal", 4, 5), ("unequal", 4, 5), ("val_nll", 12, 3)):
        for check in (0.0, 0.01, 0.05):
            label = f"check at {check:.0%}, {NAMES[noise]}"
            yield label, Simulated(noise, arms, seeds, check), by_numbers, draws


def measure(studies: int, draws: int, workers: int) -> Iterable[Row]:
    with ProcessPoolExecutor(workers) as processes:
        for label, simulated, way, count in plan(studies, draws):
            job = partial(way, simulated)
            outcomes = processes.map(job, range(count), chunksize=max(1, count // (8 * workers)))
            yield Row(label, simulated, list(outcomes))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Coverage, false positives and power of every row, with the aims as bands."""
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
        for axis, (what, (title, aim, limits)) in zip(axes, panels.items(), strict=True):
            axis.axvspan(*aim, color=MUTED_COLOR, alpha=0.25, linewidth=0)
            axis.set_xlim(*limits)
            for i, row in enumerate(shown):
                if what == "power" and row.label.startswith("sequential"):
                    continue  # stated for as many seeds as it begins with
                mean, least, most = (100 * value for value in row.estimate(what))
                colour = (
                    SERIES_COLORS[1] if row.label.startswith(STAGED[False]) else SERIES_COLORS[0]
                )
                axis.plot([least, most], [i, i], color=colour, linewidth=1)
                axis.plot([mean], [i], "o", color=colour, markersize=3)
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
    parser.add_argument("--studies", type=int, default=1000, help="through the whole pipeline")
    parser.add_argument("--draws", type=int, default=2000, help="by their numbers alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--figure", type=Path, help="where to draw it; by default not drawn")
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
