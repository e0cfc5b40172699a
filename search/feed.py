"""The feed: decides what runs next, writes down what came of it, and tells the source."""

from collections import deque
from collections.abc import Callable, Container, Iterator
from time import monotonic
from typing import Any

from partialnas.runs.job import Job
from partialnas.runs.ledger import Ledger
from partialnas.runs.ledger_rows import ProposalRow, TrialRow
from partialnas.runs.record import Record
from partialnas.runs.subject import (
    Subject,
    subject_data,
    subject_digest,
    subject_from,
    subject_name,
)
from partialnas.search.candidate import Candidate, Metrics
from partialnas.search.executor import END, WAIT, End, Outcome, Wait
from partialnas.search.keeping import dominated
from partialnas.search.prepare import Prepared
from partialnas.search.sources import Remembered, Source
from partialnas.search.work import Item, Timing

_MOST_REPEATS = 20
"""Repeated proposals in a row after which a network is drawn that is not known yet."""

Note = Callable[[str], None]


class StudyFeed:
    """Hands out trials and measurements of a study until its budget or its source ends.

    Arms come first, seed by seed, so that a study stopped early is balanced. Then the source
    proposes; a network that was proposed before is answered from the ledger. Where an objective is
    measured, a network is timed before the source is told; otherwise all are timed at the end.

    Attributes:
        numbers: the ledger's number of every trial by its key.
    """

    def __init__(
        self, prepared: Prepared, ledger: Ledger, source: Source | None, note: Note
    ) -> None:
        self._prepared = prepared
        self._study = prepared.study
        self._ledger = ledger
        self._source = source
        self._note = note
        self.numbers: dict[str, int] = {}
        self._candidates: dict[str, Candidate] = {}
        self._queue: deque[Item] = deque()
        self._flying = 0
        self._trials = 0
        self._proposals = 0
        self._repeats = 0
        hours = self._study.budget.hours
        self._deadline = monotonic() + 3600 * hours if hours else None
        self._left_out = 0
        self._resume()

    @property
    def repeats(self) -> int:
        """Proposals that were answered from the ledger."""
        return self._proposals - len(self._candidates)

    @property
    def running(self) -> int:
        """Items that are being worked on."""
        return self._flying

    def dominated(self) -> list[str]:
        """Keys of the trials whose networks another dominates in the study's objectives."""
        worse = dominated([*self._candidates.values()], self._study.objectives)
        digests = {subject_digest(candidate.subject) for candidate in worse}
        return [row.key for row in self._ledger.trials() if row.digest in digests]

    # What the executor calls.

    def ask(self) -> Item | Wait | End:
        """The next item; WAIT while an answer may bring more, END when nothing will."""
        late = self._deadline is not None and monotonic() > self._deadline
        if late:
            self._drop_trials()
        while not self._queue:
            if not late and self._propose():
                continue
            if self._flying:
                return WAIT
            self._queue.extend(self._untimed())
            if not self._queue:
                return self._end()
        item = self._queue.popleft()
        self._flying += 1
        if isinstance(item, Job):
            self._ledger.start(*item.keys.values())
        return item

    def tell(self, item: Item, outcome: Outcome) -> None:
        """Write down what came of an item, and go on with its network."""
        self._flying -= 1
        candidate = self._candidates[subject_digest(item.subject)]
        for record in outcome.records:
            self._ledger.finish(record)
            candidate.results[record.seed] = _result(record)
            self._repeats = 0
        if isinstance(item, Timing):
            candidate.timed = True
            candidate.measurement = outcome.measurement
        if outcome.measurement is not None:
            self._ledger.add_measurement(outcome.measurement)
        self._go_on(candidate)

    def _end(self) -> End:
        if self._repeats > _MOST_REPEATS:
            self._note("the search ends: it has nothing new to propose")
        if self._left_out:
            self._note(
                f"{self._left_out} trials are left out: raise the budget to have them trained"
            )
        return END

    # How a network goes through the house.

    def _go_on(self, candidate: Candidate) -> None:
        if not candidate.trained or candidate.concluded:
            return
        if self._times_early and candidate.worth_timing:
            self._queue.appendleft(Timing(subject=candidate.subject))
            return
        candidate.concluded = True
        self._tell_source(candidate)

    @property
    def _times(self) -> bool:
        return self._study.trial is None

    @property
    def _times_early(self) -> bool:
        return self._times and self._study.measured

    def _untimed(self) -> Iterator[Timing]:
        for candidate in self._candidates.values():
            if self._times and candidate.worth_timing:
                yield Timing(subject=candidate.subject)

    def _tell_source(self, candidate: Candidate) -> None:
        """Answer the proposals that wait for this network."""
        while candidate.waiting and self._source is not None:
            number = candidate.waiting.pop(0)
            self._source.tell(number, candidate.values(self._study.objectives))

    # What is proposed.

    def _propose(self) -> bool:
        """Admit the source's next proposal; False where there will be none for now."""
        budget = self._study.budget.trials
        full = budget is not None and self._trials + self._study.seeds > budget
        if self._source is None or full:
            return False
        number = self._proposals + 1
        if self._repeats < _MOST_REPEATS:
            proposal = self._source.ask(number)
        else:
            proposal = self._source.explore(number, self._candidates)
        if proposal is None:
            self._repeats = _MOST_REPEATS + 1
            return False
        subject = proposal.architecture
        digest = self._write_proposal(None, subject, proposal.note)
        known = self._candidates.get(digest)
        self._repeats = 0 if known is None else self._repeats + 1
        candidate = known or self._candidates.setdefault(digest, Candidate(subject))
        candidate.waiting.append(number)
        if known is None:
            self._queue.extend(self._jobs(candidate, number))
        elif known.concluded:
            self._tell_source(known)
        return True

    def _admit_arms(self, known: Container[str | None]) -> None:
        for arm, subject in self._prepared.arms.items():
            if arm not in known:
                digest = self._write_proposal(arm, subject, {})
                self._candidates.setdefault(digest, Candidate(subject))

    def _write_proposal(self, arm: str | None, subject: Subject, note: dict[str, Any]) -> str:
        digest = subject_digest(subject)
        self._ledger.add_proposal(arm, digest, subject_data(subject), note)
        self._proposals += 1
        return digest

    def _jobs(self, candidate: Candidate, number: int) -> Iterator[Job]:
        """Jobs of the seeds that have no result yet, planned in the ledger while budget lasts."""
        budget = self._study.budget.trials
        for seed in range(self._study.seeds):
            if seed in candidate.results:
                continue
            if seed not in candidate.seeds:
                if budget is not None and self._trials >= budget:
                    self._left_out += 1
                    continue
                self._trials += 1
                candidate.seeds.add(seed)
            job = self._job(candidate.subject, seed)
            facts = {"digest": subject_digest(job.subject), "name": subject_name(job.subject)}
            rows = self._ledger.plan(number, **facts, fidelity=job.fidelity, keys=job.keys)
            self.numbers |= {row.key: row.number for row in rows}
            yield job

    def _job(self, subject: Subject, seed: int) -> Job:
        recipe = self._study.recipe
        return Job(
            subject=subject,
            task=self._prepared.task,
            recipe=recipe,
            fidelity=recipe.epochs,
            seeds=(seed,),
        )

    def _drop_trials(self) -> None:
        """Leave planned trials for another sitting; networks half trained stay untold."""
        kept = [item for item in self._queue if isinstance(item, Timing)]
        if len(kept) < len(self._queue):
            self._note(f"the hours are over: {len(self._queue) - len(kept)} trials wait")
        self._queue = deque(kept)

    # How an earlier sitting is taken up.

    def _resume(self) -> None:
        """Rebuild networks, source and queue from the ledger."""
        rows = self._ledger.proposals()
        self._proposals = len(rows)
        for row in rows:
            fresh = row.digest not in self._candidates
            self._repeats = 0 if fresh else self._repeats + 1
            self._candidates.setdefault(row.digest, Candidate(subject_from(row.subject)))
        self._take_up_results()
        history = [self._remember(row) for row in rows if row.arm is None]
        if self._source is not None:
            self._source.rebuild(history)
        self._admit_arms({row.arm for row in rows})
        self._queue.extend(self._unfinished())
        for candidate in self._candidates.values():
            self._go_on(candidate)

    def _unfinished(self) -> Iterator[Job]:
        """Jobs of all networks that lack results: arms first, seed by seed."""
        arms = {subject_digest(subject) for subject in self._prepared.arms.values()}
        first = {row.digest: row.number for row in reversed(self._ledger.proposals())}
        ours = [
            job for d in first if d in arms for job in self._jobs(self._candidates[d], first[d])
        ]
        yield from sorted(ours, key=lambda job: job.seeds)
        for digest, number in sorted(first.items(), key=lambda pair: pair[1]):
            if digest not in arms:
                yield from self._jobs(self._candidates[digest], number)

    def _take_up_results(self) -> None:
        for trial in self._ledger.trials():
            candidate = self._candidates[trial.digest]
            candidate.seeds.add(trial.seed)
            self._trials += 1
            if trial.final:
                candidate.results[trial.seed] = _result(trial)
        for measurement in self._ledger.measurements():
            candidate = self._candidates[measurement.digest]
            candidate.measurement, candidate.timed = measurement, True

    def _remember(self, row: ProposalRow) -> Remembered:
        candidate = self._candidates[row.digest]
        waits = not candidate.trained or (self._times_early and candidate.worth_timing)
        if waits:
            candidate.waiting.append(row.number)
        candidate.concluded = not waits
        values = None if waits else candidate.values(self._study.objectives)
        return Remembered(row.number, row.proposal, values, open=waits)


def _result(record: Record | TrialRow) -> Metrics | None:
    return {**record.metrics, **record.cost} if record.state == "done" else None
