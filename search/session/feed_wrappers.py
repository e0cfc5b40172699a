"""Feeds around the scheduler: show progress, stop on request, complete the curves of functions."""

from collections.abc import Mapping
from pathlib import Path

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import stage_of
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.runs.system.files import function_folder
from partialnas.runs.trials.function_files import load_curve
from partialnas.search.driver.running_front import RunningFront
from partialnas.search.driver.scheduler import Scheduler
from partialnas.search.executors.base import END, WAIT, End, Feed, ItemResult, ItemT, Wait
from partialnas.search.executors.tasks import Item, ReferenceCheck, TimingJob
from partialnas.search.resolve.resolved_study import ResolvedStudy, expected_trials
from partialnas.search.session.progress import Progress, Tally
from partialnas.search.session.signals import StopRequest
from partialnas.space.errors import MachineError


class ProgressFeed:
    """Pass items and results on, count them and show progress."""

    def __init__(
        self, feed: Scheduler, resolved: ResolvedStudy, ledger: Ledger, progress: Progress
    ) -> None:
        self._feed = feed
        self._progress = progress
        self._objectives = resolved.study.objectives
        counts = ledger.state_counts()
        failed, early = counts["failed"] + counts["timeout"], counts["early"]
        self._tally = Tally(_expected(resolved, ledger), counts["done"], failed, early)
        self._front = RunningFront(resolved.study)
        self._update()
        if self._tally.ended:
            lower = f", {early} on lower rungs" if early else ""
            progress.event(f"resuming: {counts['done']} trials done{lower}, {failed} failed")

    def ask(self) -> Item | Wait | End:
        """Return the feed's next item."""
        item = self._feed.ask()
        self._show()
        return item

    def tell(self, item: Item, outcome: ItemResult) -> None:
        """Pass the result on and show it."""
        self._feed.tell(item, outcome)
        self._update()
        for record in outcome.records:
            self._count(record)
            self._notify(self._line(record), warns=record.state in ("failed", "timeout"))
            for epoch in record.ratios:
                self._tally.warnings += epoch.warnings
        if isinstance(item, TimingJob):
            name, measurement = self._feed.timing_name(item), outcome.measurement
            if measurement is None:
                self._notify(f"{name}: timing failed: {outcome.reason}", warns=True)
            else:
                warns = bool(measurement.num_marks)
                self._notify(f"timed {name}: {_speed(measurement)}", warns=warns)
        self._show()

    def _notify(self, line: str, *, warns: bool) -> None:
        """Show a line; keep a warning in the live view."""
        self._progress.event(line)
        if warns:
            self._tally.warnings.append(line)

    def _update(self) -> None:
        """Add the new results of candidates."""
        baselines = self._feed.pool.baselines
        while self._feed.updated_candidates:
            candidate = self._feed.updated_candidates.popleft()
            if candidate not in baselines:
                self._front.add(candidate)
            if not candidate.at_full_fidelity:
                continue
            for metrics in candidate.results.values():
                self._improve(metrics or {})

    def _show(self) -> None:
        self._tally.running = self._feed.running_trials
        self._tally.repeats = self._feed.pool.repeated_proposals
        if self._progress.is_live:
            self._tally.front = self._front.leading_points()
        self._progress.update(self._tally)

    def _count(self, record: Record) -> None:
        self._tally.ended_this_session += 1
        self._tally.done += record.state == "done"
        self._tally.early += record.state == "early"
        self._tally.failed += record.state not in ("done", "early")

    def _improve(self, metrics: Mapping[str, float]) -> None:
        for name, direction in self._objectives.items():
            if name in metrics:
                best, value = min if direction == "min" else max, metrics[name]
                self._tally.best[name] = best(self._tally.best.get(name, value), value)

    def _line(self, record: Record) -> str:
        name = self._feed.trial_name(record.key, record.seed)
        head = f"[{self._tally.ended}/{self._tally.total or '?'}] {name}"
        if record.state not in ("done", "early"):
            return f"{head}: {record.state}: {record.reason}"
        shown = {k: v for k, v in record.metrics.items() if not k.startswith("test_")}
        values = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        warned = sum(len(epoch.warnings) for epoch in record.ratios)
        warnings = f"  {warned} warning{'s' * (warned > 1)}, see status" if warned else ""
        return f"{head}: {values}  ({record.seconds:.1f} s){warnings}"


def _expected(resolved: ResolvedStudy, ledger: Ledger) -> int | None:
    """Return how many trials the ledger will have in all stages, or None if unknown."""
    planned = sum(ledger.state_counts().values())
    if (stage := resolved.stage) is not None:
        numbers = {row.number for row in ledger.arms() if stage_of(row) == stage.name}
        in_stage = sum(row.proposal in numbers for row in ledger.trials())
        return planned - in_stage + max(in_stage, len(resolved.arms) * len(stage.seeds))
    expected = expected_trials(resolved)
    return None if expected is None else max(expected, planned)


def _speed(m: Measurement) -> str:
    relative = "" if m.relative_throughput is None else f", {m.relative_throughput:.3f} x reference"
    marks = f" ({m.marks_text})" if m.marks_text else ""
    return f"{m.throughput_img_s:,.0f} img/s{relative}{marks}"


class ReferenceCheckFeed(Feed[ItemT | ReferenceCheck]):
    """Hand out the check of the reference network, and other items after it.

    Args:
        feed: the feed of the other items.
        check: the check, which ends the run if it raises an error; None for none.
    """

    def __init__(self, feed: Feed[ItemT], check: ReferenceCheck | None) -> None:
        self._feed = feed
        self._check = check
        self._started = False

    def ask(self) -> ItemT | ReferenceCheck | Wait | End:
        """Return the check, the feed's next item, or WAIT while the check runs."""
        if self._check is None:
            return self._feed.ask()
        if self._started:
            return WAIT
        self._started = True
        return self._check

    def tell(self, item: ItemT | ReferenceCheck, outcome: ItemResult) -> None:
        """Pass a result on, except that of the check.

        Raises:
            MachineError: the check has no result, because worker processes died.
        """
        if not isinstance(item, ReferenceCheck):
            self._feed.tell(item, outcome)
        elif outcome.reason:
            raise MachineError(f"the reference network cannot be measured: {outcome.reason}")
        else:
            self._check = None


class ReportedCurveFeed(Feed[ItemT]):
    """Pass items and results on; a trial whose process died gets the epochs that it reported.

    Args:
        feed: the feed.
        folder: folder in which user functions keep the epochs that they report.
    """

    def __init__(self, feed: Feed[ItemT], folder: Path) -> None:
        self._feed = feed
        self._folder = folder

    def ask(self) -> ItemT | Wait | End:
        """Return the feed's next item."""
        return self._feed.ask()

    def tell(self, item: ItemT, outcome: ItemResult) -> None:
        """Pass the result on, with curves for failed trials that have none."""
        records = tuple(map(self._complete, outcome.records))
        self._feed.tell(item, outcome.model_copy(update={"records": records}))

    def _complete(self, record: Record) -> Record:
        """Return a failed trial's record with the epochs that it reported."""
        if record.curve or record.state not in ("failed", "timeout"):
            return record
        curve = load_curve(function_folder(self._folder, record.key), record.key)
        return record.model_copy(update={"curve": tuple(curve.rows)})


class StoppableFeed(Feed[ItemT]):
    """Pass items and results on until a stop is requested.

    Attributes:
        stopped_early: whether the feed was stopped before its end.
    """

    def __init__(self, feed: Feed[ItemT], stop: StopRequest) -> None:
        self._feed = feed
        self._stop = stop
        self.stopped_early = False

    def ask(self) -> ItemT | Wait | End:
        """Return the feed's next item, or END after a stop request."""
        self._stop.check()
        if not self._stop.requested:
            return self._feed.ask()
        self.stopped_early = True
        return END

    def tell(self, item: ItemT, outcome: ItemResult) -> None:
        """Pass the result on, unless the run has been stopped while a trial's code ran."""
        self._stop.check()
        self._feed.tell(item, outcome)
