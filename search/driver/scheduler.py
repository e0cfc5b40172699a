"""The feed: decides what runs next, writes down what came of it, and tells the source."""

import gc
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from time import monotonic

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import ProposalKey
from partialnas.runs.ledger.study_meta import rung_of
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement, Speed
from partialnas.runs.system.allocator import gc_paused
from partialnas.search.driver.budget import ComputeBudget
from partialnas.search.driver.candidate import Candidate
from partialnas.search.driver.candidate_pool import CandidatePool
from partialnas.search.driver.running_front import dominated_candidates
from partialnas.search.driver.successive_halving import Promotion, SuccessiveHalving
from partialnas.search.executors.base import END, WAIT, End, ItemResult, Wait
from partialnas.search.executors.tasks import Item, TimingJob
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.samplers.base import (
    ObjectiveValues,
    PastProposal,
    ProposalNote,
    ProposalSource,
)

_MOST_REPEATS = 20
"""Repeated proposals in a row after which a network is drawn that is not known yet."""

Note = Callable[[str], None]

Identity = tuple[object, ...]
"""See `TimingJob.identity`."""


class Scheduler:
    """Hands out trials and measurements of a study until its budget or its source ends.

    Arms come first, seed by seed, so that a study stopped early is balanced. Then the source
    proposes; a network that was proposed before is answered from the ledger. Where a search has
    rungs (see `search.rungs`) what is proposed is trained on the lowest, which is what the source
    is told of, so that all that it compares was trained alike; who goes on comes before what is
    new. Where an objective is measured, a network is timed before the source is told; otherwise
    those that are trained in full are timed at the end.
    Where ratios are learned, the static network that they froze to is timed. An arm that follows
    from another one's ratios is trained as soon as these are known.

    Attributes:
        updated_candidates: networks with new results; who shows them takes them out.
    """

    def __init__(
        self, prepared: ResolvedStudy, ledger: Ledger, source: ProposalSource | None, note: Note
    ) -> None:
        self._prepared = prepared
        self._study = prepared.study
        self._ledger = ledger
        self._source = source
        self._note = note
        self._roster = CandidatePool(prepared, ledger)
        self._rungs = SuccessiveHalving(prepared, self._roster.candidates)
        self._speeds: dict[Identity, Measurement | None] = {}
        self._owners: dict[Identity, list[Candidate]] = {}
        self._queue: deque[Item] = deque()
        self.updated_candidates: deque[Candidate] = deque()
        self._flying = 0
        self._spending = ComputeBudget(self._study, ledger)
        self._repeats = 0
        self._over = False
        hours = self._study.budget.hours
        self._deadline = monotonic() + 3600 * hours if hours else None
        with gc_paused():
            self._resume()
            gc.freeze()  # what is remembered stays: later searches for garbage leave it out

    @property
    def trial_numbers(self) -> Mapping[str, int]:
        """The ledger's number of every trial by its key."""
        return self._roster.trial_numbers

    def condition_label(self, key: str) -> str:
        """The condition or the rung of a trial, to be told behind its name."""
        condition = self._roster.trial_condition(key)
        rung = f" on {condition.rung}" if condition.rung else ""
        return f" under {condition.name}" if condition.name else rung

    @property
    def repeated_proposals(self) -> int:
        """Proposals that were answered from the ledger."""
        return self._roster.repeated_proposals

    @property
    def running(self) -> int:
        """Items that are being worked on."""
        return self._flying

    def dominated_keys(self) -> list[str]:
        """Keys of the trials whose networks another dominates in the study's objectives.

        Those of all rungs below the last are among them.
        """
        everyone = self._roster.candidates.values()
        behind = [c for c in everyone if c.condition.full_fidelity is not None]
        for condition in dict.fromkeys(c.condition for c in everyone if c.condition.full_fidelity is None):
            alike = [c for c in everyone if c.condition == condition]
            behind += dominated_candidates(alike, self._study.objectives, self._study.limits)
        return [
            key for each in behind for seed in each.planned_seeds for key in each.job(seed).trial_keys.values()
        ]

    # What the executor calls.

    def ask(self) -> Item | Wait | End:
        """The next item; WAIT while an answer may bring more, END when nothing will."""
        late = self._deadline is not None and monotonic() > self._deadline
        late = late or self._spending.exhausted
        if late:
            self._drop_trials()
        while not self._queue:
            if not late and self._propose():
                continue
            if self._flying:
                return WAIT
            if not late and (self._promote(self._rungs.next_promotion(no_more_candidates=True)) or self._add_seeds()):
                continue
            for candidate in self._roster.candidates.values() if self._times else ():
                if candidate.condition.full_fidelity is None:
                    self._time(candidate)
            if self._times and not late and not self._queue:
                self._queue.extend(self._roster.timings_to_retry())
            if not self._queue:
                return self._end()
        item = self._queue.popleft()
        self._flying += 1
        self._spending.start_item(item)
        if isinstance(item, Job):
            self._ledger.start(*item.trial_keys.values())
        return item

    def tell(self, item: Item, outcome: ItemResult) -> None:
        """Write down what came of an item, and go on with its network."""
        self._flying -= 1
        outcome = self._spending.finish_item(item, outcome)
        if isinstance(item, TimingJob):
            self._take_timing(item, outcome.measurement)
            return
        for record in outcome.records:
            self._ledger.finish(record)
            self._repeats = 0
            candidate = self._roster.add_record(record)
            self._queue_news()
            self._go_on(candidate)
            self.updated_candidates.append(candidate)

    def _end(self) -> End:
        if self._over:
            self._note("the search ends: it has nothing new to propose")
        if self._roster.skipped_trials:
            self._note(
                f"{self._roster.skipped_trials} trials are left out: raise the budget to have them "
                "trained"
            )
        return END

    # How a network goes through the house.

    def _go_on(self, candidate: Candidate) -> None:
        if not candidate.trained or candidate.reported:
            return
        if self._times_early and self._time(candidate):
            return
        candidate.reported = True
        self._rungs.report(candidate)
        self._tell_source(candidate)

    @cached_property
    def _times(self) -> bool:
        stage = self._prepared.stage
        return self._study.trial is None and (stage is None or stage.timed)

    @cached_property
    def _times_early(self) -> bool:
        return self._times and self._study.measures_before_tell

    def _take_timing(self, item: TimingJob, measurement: Measurement | None) -> None:
        """Write a measurement down; of several of one network the better one stands."""
        if measurement is not None:
            self._ledger.add_measurement(measurement)
            self._roster.add_measurement(measurement)
            measurement = self._roster.measurement_for(item) or measurement
        elif self._speeds.get(item.identity) is not None:
            return
        self._speeds[item.identity] = measurement
        for candidate in self._owners.pop(item.identity, ()):
            self._go_on(candidate)
            self.updated_candidates.append(candidate)

    def _time(self, candidate: Candidate) -> bool:
        """Have what a network ended with timed, each once; whether a speed is still awaited."""
        for seed, item in candidate.pending_timings.items():
            identity = item.identity
            if identity not in self._speeds and (known := self._roster.measurement_for(item)):
                self._speeds[identity] = known
            if identity in self._speeds:
                found = self._speeds[identity]
                candidate.speeds[seed] = Speed.from_measurement(found) if found else None
                continue
            if identity not in self._owners:
                self._owners[identity] = []
                self._queue.appendleft(item)
            if not any(owner is candidate for owner in self._owners[identity]):
                self._owners[identity].append(candidate)
        return bool(candidate.pending_timings)

    def _tell_source(self, candidate: Candidate) -> None:
        """Answer the proposals that wait for this network."""
        while candidate.pending_proposals and self._source is not None:
            number = candidate.pending_proposals.pop(0)
            self._source.tell(number, self._reached(candidate))

    def _reached(self, candidate: Candidate) -> ObjectiveValues | None:
        return candidate.objective_values(self._study.objectives, self._study.limits)

    def _queue_news(self) -> None:
        """Queue the arms that follow from a trial before later seeds, which stay balanced so."""
        for candidate in self._roster.newly_requested:
            for job in self._roster.jobs(candidate):
                later = (
                    index
                    for index, item in enumerate(self._queue)
                    if isinstance(item, Job) and item.seeds > job.seeds
                )
                self._queue.insert(next(later, len(self._queue)), job)
        self._roster.newly_requested.clear()
        while self._roster.messages:
            self._note(self._roster.messages.pop(0))

    # What is proposed.

    def _propose(self) -> bool:
        """Admit who goes on, or what the source proposes; False where there is none for now."""
        if (promotion := self._rungs.next_promotion()) is not None:
            return self._promote(promotion)
        seeds = 1 if self._prepared.rungs else self._study.first_seeds
        if self._source is None or self._over or not self._affords(seeds):
            return False
        number = self._roster.proposal_count + 1
        if self._repeats < _MOST_REPEATS:
            proposal = self._source.ask(number)
        else:
            known = {digest for _, digest in self._roster.candidates}
            proposal = self._source.explore(number, known)
        if proposal is None:
            self._over = True
            return False
        before = self._roster.repeated_proposals
        candidate = self._roster.propose(proposal.architecture, proposal.note)
        fresh = self._roster.repeated_proposals == before
        self._repeats = 0 if fresh else self._repeats + 1
        candidate.pending_proposals.append(number)
        if fresh:
            self._queue.extend(self._roster.jobs(candidate))
        elif candidate.reported:
            self._tell_source(candidate)
        return True

    def _affords(self, trials: int) -> bool:
        budget = self._study.budget.trials
        return budget is None or self._roster.trial_count + trials <= budget

    def _promote(self, promotion: Promotion | None) -> bool:
        """Have a network that deserves it trained at the next fidelity, if there is one.

        Where the budget has no room for it nothing new is begun either, which could come to
        nothing.
        """
        if promotion is None:
            return False
        seeds = self._study.first_seeds if promotion.condition.full_fidelity is None else 1
        if not self._affords(seeds):
            return False
        candidate = self._roster.promote(promotion)
        self._queue.extend(self._roster.jobs(candidate))
        return True

    def _add_seeds(self) -> bool:
        """Queue the further seeds that the study's rule asks for; whether there are any."""
        decided = self._roster.decide_seeds()
        if decided is None:
            return False
        self._queue.extend(self._roster.unfinished_jobs())
        self._note(
            f"the first {decided.min} seeds differ by {decided.deviation:.4g} in "
            f"{decided.quantity}: up to {max(decided.seeds.values())} seeds for intervals of "
            f"±{decided.until:g}"
        )
        return bool(self._queue)

    def _drop_trials(self) -> None:
        """Leave planned trials for another sitting; networks half trained stay untold."""
        kept = [item for item in self._queue if isinstance(item, TimingJob)]
        waiting = len(self._queue) - len(kept)
        if spent := self._spending.exhaustion_message():
            self._note(spent)
        if waiting:
            hours = "device-hours are spent" if self._spending.exhausted else "hours are over"
            self._note(f"the {hours}: {waiting} trials wait")
        self._queue = deque(kept)

    # How an earlier sitting is taken up.

    def _resume(self) -> None:
        """Rebuild networks, source and queue from the ledger."""
        recalled = self._roster.resume()
        proposed = [(row, own) for row, own in recalled if rung_of(row) == 1]
        self._repeats = _repeated(candidate for _, candidate in proposed)
        history = [self._remember(row, own) for row, own in proposed if row.arm is None]
        if self._source is not None:
            self._source.rebuild(history)
        self._roster.admit_arms()
        self._queue.extend(self._roster.unfinished_jobs())
        self._roster.newly_requested.clear()  # their jobs are among these
        self._queue_news()
        for candidate in [*self._roster.candidates.values()]:
            if candidate.results:
                self.updated_candidates.append(candidate)
            if candidate.reported:
                self._rungs.report(candidate)
            else:
                self._go_on(candidate)

    def _remember(self, row: ProposalKey, candidate: Candidate) -> PastProposal:
        waits = not candidate.trained or (self._times_early and bool(candidate.pending_timings))
        if waits:
            candidate.pending_proposals.append(row.number)
        candidate.reported = not waits
        reached = None if waits else self._reached(candidate)
        note = ProposalNote(row.proposal_json)
        return PastProposal(row.number, note, reached, is_open=waits, digest=row.digest)


def _repeated(owners: Iterable[Candidate]) -> int:
    """How many of the latest proposals in a row were known already."""
    seen: set[int] = set()
    repeats = 0
    for candidate in owners:
        repeats = repeats + 1 if id(candidate) in seen else 0
        seen.add(id(candidate))
    return repeats
