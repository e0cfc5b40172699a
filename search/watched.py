"""A feed that is watched: the same answers, and a reader who sees what happens."""

from collections.abc import Mapping

from partialnas.runs.ledger import Ledger
from partialnas.runs.measurement import Measurement
from partialnas.runs.record import Record
from partialnas.runs.subject import subject_name
from partialnas.search.executor import End, Outcome, Wait
from partialnas.search.feed import StudyFeed
from partialnas.search.prepared import Prepared, expected_trials
from partialnas.search.progress import Progress, Tally
from partialnas.search.work import Item, Timing


class Watched:
    """Passes items and outcomes on, counts them, and shows them."""

    def __init__(
        self, feed: StudyFeed, prepared: Prepared, ledger: Ledger, progress: Progress
    ) -> None:
        self._feed = feed
        self._progress = progress
        self._objectives = prepared.study.objectives
        counts = ledger.counts()
        ended = sum(counts[state] for state in ("failed", "timeout", "early"))
        self._tally = Tally(_expected(prepared, ledger), counts["done"], ended)
        for row in ledger.trials():
            if row.state == "done":
                self._improve({**row.metrics, **row.cost})
        if counts["done"] or ended:
            progress.event(f"carrying on: {counts['done']} trials done, {ended} failed before")

    def ask(self) -> Item | Wait | End:
        """The feed's next item."""
        item = self._feed.ask()
        self._show()
        return item

    def tell(self, item: Item, outcome: Outcome) -> None:
        """Pass the outcome on, then tell the reader."""
        self._feed.tell(item, outcome)
        for record in outcome.records:
            self._count(record)
            self._progress.event(self._line(record))
        if outcome.measurement is not None:
            self._progress.event(_speed(outcome.measurement))
        elif isinstance(item, Timing):
            self._progress.event(
                f"{subject_name(item.subject)}: could not be timed; see workers.log"
            )
        self._show()

    def _show(self) -> None:
        self._tally.running = self._feed.running
        self._tally.repeats = self._feed.repeats
        self._progress.update(self._tally)

    def _count(self, record: Record) -> None:
        self._tally.fresh += 1
        if record.state != "done":
            self._tally.failed += 1
            return
        self._tally.done += 1
        self._improve({**record.metrics, **record.cost})

    def _improve(self, metrics: Mapping[str, float]) -> None:
        for name, direction in self._objectives.items():
            if name in metrics:
                best = min if direction == "min" else max
                self._tally.best[name] = best(
                    self._tally.best.get(name, metrics[name]), metrics[name]
                )

    def _line(self, record: Record) -> str:
        number = self._feed.numbers[record.key]
        head = f"[{self._tally.done + self._tally.failed}/{self._tally.total or '?'}] #{number}"
        head += f" {record.name or record.digest} seed {record.seed}{self._feed.under(record.key)}"
        if record.state != "done":
            return f"{head}: {record.state}: {record.reason}"
        shown = {k: v for k, v in record.metrics.items() if not k.startswith("test_")}
        values = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        warned = sum(len(each.warnings) for each in record.ratios)
        warnings = f"  {warned} warning{'s' * (warned > 1)}, see status" if warned else ""
        return f"{head}: {values}  ({record.seconds:.1f} s){warnings}"


def _expected(prepared: Prepared, ledger: Ledger) -> int | None:
    planned = sum(ledger.counts().values())
    expected = expected_trials(prepared)
    return None if expected is None else max(expected, planned)


def _speed(m: Measurement) -> str:
    relative = "" if m.relative_throughput is None else f", {m.relative_throughput:.3f} x reference"
    noisy = " (noisy)" if m.noisy else ""
    return f"timed {m.name or m.digest}: {m.throughput_img_s:,.0f} img/s{relative}{noisy}"
