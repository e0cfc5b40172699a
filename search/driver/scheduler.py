"""Decide which trial or measurement of a study runs next, and record the results."""

import gc
import math
from collections import deque
from collections.abc import Callable, Iterable
from functools import cached_property
from time import monotonic

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import ProposalKey
from partialnas.runs.ledger.study_meta import rung_of
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.subject import subject_name
from partialnas.runs.system.allocator import gc_paused
from partialnas.search.driver.candidate import Candidate, CandidateState
from partialnas.search.driver.candidate_pool import CandidatePool
from partialnas.search.driver.compute_budget import ComputeBudget
from partialnas.search.driver.item_queue import next_item, trial_count
from partialnas.search.driver.running_front import dominated_candidates
from partialnas.search.driver.successive_halving import SuccessiveHalving
from partialnas.search.executors.base import END, WAIT, End, ItemResult, Wait
from partialnas.search.executors.tasks import Item, TimingJob
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.samplers import base as sampling
from partialnas.search.samplers.registry import SAMPLERS
from partialnas.search.study.fidelity import Condition

_MAX_REPEATS = 20
"""Repeated proposals in a row after which an unseen network is drawn at random."""

Identity = tuple[object, ...]
"""See `TimingJob.identity`."""


def make_source(resolved: ResolvedStudy) -> sampling.ProposalSource | None:
    """Create the study's sampler, or return None if it does not search."""
    study = resolved.study
    if study.search is None or resolved.space is None or resolved.stage is not None:
        return None
    return SAMPLERS[study.search.sampler].create(resolved.space, study.search, study.objectives)


class Scheduler:
    """Hand out the trials and measurements of a study until its budget or its search space ends.

    Arms come first, seed by seed, so that a study that is stopped early is balanced; with lanes, as
    many seeds at once as a worker trains side by side. Then the sampler proposes networks; a
    repeated proposal is answered from the ledger. In a search with rungs (see `SuccessiveHalving`)
    proposals are trained on the lowest rung, and the sampler sees only those results, so that it
    compares networks that were trained alike. Promotions come before new proposals. If an objective
    is measured, a network is timed before the sampler gets its values; otherwise all networks
    trained at full fidelity are timed at the end. For learned ratios the resulting static network
    is timed. A control arm is trained as soon as the ratios that it depends on are learned.

    Args:
        resolved: the study.
        ledger: the study's ledger; the scheduler resumes from it.
        source: the study's sampler, or None if it does not search.
        notify: shows the user one line.
        lanes: seeds of a network that a worker trains side by side.
        workers: number of workers.

    Attributes:
        pool: the study's candidates.
        updated_candidates: candidates with new results; the reader removes them.
        in_flight: number of items that executors are working on.
        running_trials: number of trials and measurements in these items.
    """

    def __init__(
        self,
        resolved: ResolvedStudy,
        ledger: Ledger,
        source: sampling.ProposalSource | None,
        notify: Callable[[str], None],
        *,
        lanes: int = 1,
        workers: int = 1,
    ) -> None:
        self._resolved = resolved
        self._lanes, self._workers = lanes, workers
        self._study = resolved.study
        self._ledger = ledger
        self._source = source
        self._notify = notify
        self.pool = CandidatePool(resolved, ledger)
        self._halving = SuccessiveHalving(resolved, self.pool.candidates)
        self._timed: dict[Identity, Measurement | None] = {}
        self._awaiting_timing: dict[Identity, list[Candidate]] = {}
        self._timing_names: dict[Identity, str] = {}
        self._queue: deque[Item] = deque()
        self.updated_candidates: deque[Candidate] = deque()
        self.in_flight = self.running_trials = 0
        self._compute = ComputeBudget(self._study, ledger)
        self._repeats = 0
        self._source_exhausted = False
        hours = self._study.budget.hours
        self._deadline = monotonic() + 3600 * hours if hours else None
        with gc_paused():
            self._resume()
            gc.freeze()  # later garbage collections need not visit the loaded history

    def trial_name(self, key: str, seed: int) -> str:
        """Return the name of a trial: its network and seed, its number, its condition or rung."""
        candidate, number = self.pool.trial_candidate(key), f"#{self.pool.trial_numbers[key]}"
        condition = candidate.condition
        text = f"{candidate.name} seed {seed}"
        text += f" under {condition.name}" if condition.name else ""
        text += f" on {condition.rung}" if condition.rung else ""
        return text if number == candidate.name else f"{text} ({number})"

    def timing_name(self, item: TimingJob) -> str:
        """Return the name of the network that an item times."""
        return self._timing_names.get(item.identity) or subject_name(item.subject)

    def dominated_keys(self) -> list[str]:
        """Return the keys of trials of searched networks that another one dominates.

        Trials on all rungs below the last are included; those of arms and baselines are not.
        """
        if self._study.search is None:
            return []
        dominated: list[Candidate] = []
        competitors: dict[Condition, list[Candidate]] = {}
        for candidate in {*self.pool.candidates.values()} - self.pool.baselines:
            if candidate.at_full_fidelity:
                competitors.setdefault(candidate.condition, []).append(candidate)
            else:
                dominated.append(candidate)
        objectives, limits = self._study.objectives, self._study.limits
        for candidates in competitors.values():
            dominated += dominated_candidates(candidates, objectives, limits)
        return [key for candidate in dominated for key in candidate.trial_keys()]

    # Called by the executor.

    def ask(self) -> Item | Wait | End:
        """Return the next item, WAIT while running items may lead to more, or END."""
        late = self._deadline is not None and monotonic() > self._deadline
        late = late or self._compute.exhausted
        if late:
            self._drop_trials()
        while not self._queue:
            if not late and self._propose():
                continue
            if self.in_flight:
                return WAIT
            if not late and (self._promote_next(no_more_candidates=True) or self._add_seeds()):
                continue
            if self._is_timed:
                self._queue_timings(retry=not late)
            if not self._queue:
                return self._end()
        lanes = self._lanes_per_worker() if self._lanes > 1 else 1
        item = next_item(self._queue, lanes)
        self.in_flight += 1
        self.running_trials += trial_count(item)
        self._compute.start_item(item)
        if isinstance(item, Job):
            self._ledger.start(*item.trial_keys.values())
        return item

    def tell(self, item: Item, outcome: ItemResult) -> None:
        """Record the result of an item and advance its candidates."""
        self.in_flight -= 1
        self.running_trials -= trial_count(item)
        outcome = self._compute.finish_item(item, outcome)
        if isinstance(item, TimingJob):
            self._add_timing(item, outcome)
            return
        for record in outcome.records:
            self._ledger.finish(record, attempts=outcome.attempts)
            self._repeats = 0
            candidate = self.pool.add_record(record)
            self._queue_controls()
            self._advance(candidate)
            self.updated_candidates.append(candidate)

    def _lanes_per_worker(self) -> int:
        """Return how many seeds a worker gets: without proposals to come, its share of the jobs."""
        if self._source is not None and not self._source_exhausted:
            return self._lanes
        jobs = sum(isinstance(item, Job) for item in self._queue)
        return min(self._lanes, math.ceil(jobs / self._workers))

    def _end(self) -> End:
        if self._source_exhausted:
            self._notify("search finished: the sampler has no new network to propose")
        if self.pool.skipped_trials:
            self._notify(
                f"{self.pool.skipped_trials} trials were skipped because of budget.trials; "
                "increase it to run them"
            )
        return END

    # From results to the report.

    def _advance(self, candidate: Candidate) -> None:
        """Time a trained candidate if the sampler needs its speed, then report it."""
        if candidate.state not in (CandidateState.TRAINED, CandidateState.TIMED):
            return
        if self._times_before_report and self._request_timings(candidate):
            return
        candidate.report()
        self._halving.report(candidate)
        self._report_to_sampler(candidate)

    @cached_property
    def _is_timed(self) -> bool:
        stage = self._resolved.stage
        return self._study.times_networks and (stage is None or stage.timed)

    @cached_property
    def _times_before_report(self) -> bool:
        return self._is_timed and self._study.measures_before_tell

    def _add_timing(self, item: TimingJob, outcome: ItemResult) -> None:
        """Record a measurement or a failure; if a network has several, the best one counts."""
        measurements, measurement = self.pool.measurements, outcome.measurement
        if measurement is not None:
            self._ledger.add_measurement(measurement)
            measurements.add(measurement)
            self._halving.rank_again()
        else:
            failed = measurements.failure(item, outcome.reason)
            self._ledger.add_failed_timing(failed)
            measurements.add_failure(failed)
        self._timed[item.identity] = measurements.best(item) or measurement
        for candidate in self._awaiting_timing.pop(item.identity, ()):
            self._advance(candidate)
            self.updated_candidates.append(candidate)

    def _request_timings(self, candidate: Candidate) -> bool:
        """Set the speeds that are measured, queue the others; return whether any is missing."""
        for seed, item in candidate.pending_timings.items():
            identity, measurements = item.identity, self.pool.measurements
            self._timing_names.setdefault(identity, candidate.name)
            if identity not in self._timed:
                best = measurements.best(item)
                if best is not None or measurements.has_failed(item):
                    self._timed[identity] = best
            if identity in self._timed:
                timed = self._timed[identity]
                speed = measurements.speed(timed, item) if timed else None
                candidate.set_speed(seed, speed)
                continue
            if identity not in self._awaiting_timing:
                self._awaiting_timing[identity] = []
                self._queue.appendleft(item)
            if candidate not in self._awaiting_timing[identity]:
                self._awaiting_timing[identity].append(candidate)
        return bool(candidate.pending_timings)

    def _queue_timings(self, *, retry: bool) -> None:
        """Queue the timings of all networks at full fidelity; retry marked ones after the rest."""
        for candidate in self.pool.candidates.values():
            if candidate.at_full_fidelity:
                self._request_timings(candidate)
        if retry and not self._queue:
            self._queue.extend(self.pool.measurements.timings_to_retry())

    def _report_to_sampler(self, candidate: Candidate) -> None:
        """Answer the pending proposals of a candidate."""
        for number in candidate.pop_pending_proposals():
            if self._source is not None:
                self._source.tell(number, self._values(candidate))

    def _values(self, candidate: Candidate) -> sampling.ObjectiveValues | None:
        return candidate.objective_values(self._study.objectives, self._study.limits)

    def _queue_controls(self) -> None:
        """Queue new control arms before jobs of later seeds, which keeps the study balanced."""
        for candidate in self.pool.newly_requested:
            for job in self.pool.jobs(candidate):
                later = (
                    index
                    for index, item in enumerate(self._queue)
                    if isinstance(item, Job) and item.seeds > job.seeds
                )
                self._queue.insert(next(later, len(self._queue)), job)
        self.pool.newly_requested.clear()
        while self.pool.messages:
            self._notify(self.pool.messages.pop(0))

    # New trials.

    def _propose(self) -> bool:
        """Queue the next promotion or proposal; return False if there is none for now."""
        if (promotes := self._promote_next()) is not None:
            return promotes
        seeds = 1 if self._resolved.rungs else self._study.first_seeds
        if self._source is None or self._source_exhausted or not self._fits_budget(seeds):
            return False
        number = self.pool.proposal_count + 1
        if self._repeats < _MAX_REPEATS:
            proposal = self._source.ask(number)
        else:
            seen = {digest for _, digest in self.pool.candidates}
            proposal = self._source.explore(number, seen)
        if proposal is None:
            self._source_exhausted = True
            return False
        candidate, is_new = self.pool.propose(proposal.architecture, proposal.note)
        self._repeats = 0 if is_new else self._repeats + 1
        candidate.add_pending_proposal(number)
        if is_new:
            self._queue.extend(self.pool.jobs(candidate))
        elif candidate.state is CandidateState.REPORTED:
            self._report_to_sampler(candidate)
        return True

    def _fits_budget(self, trials: int) -> bool:
        budget = self._study.budget.trials
        return budget is None or self.pool.trial_count + trials <= budget

    def _promote_next(self, *, no_more_candidates: bool = False) -> bool | None:
        """Queue the next promotion, if there is one; return False if the budget has no room for it.

        In that case nothing new is proposed either, because it could not be promoted.

        Args:
            no_more_candidates: see `SuccessiveHalving.next_promotion`.
        """
        promotion = self._halving.next_promotion(no_more_candidates=no_more_candidates)
        if promotion is None:
            return None
        seeds = self._study.first_seeds if promotion.condition.full_fidelity is None else 1
        if not self._fits_budget(seeds):
            return False
        candidate = self.pool.promote(promotion)
        self._queue.extend(self.pool.jobs(candidate))
        return True

    def _add_seeds(self) -> bool:
        """Queue the seeds that the study's seed rule adds; return whether there are any."""
        decided = self.pool.decide_seeds()
        if decided is None:
            return False
        self._queue.extend(self.pool.unfinished_jobs())
        self._notify(
            f"standard deviation of {decided.quantity} over the first {decided.min} seeds: "
            f"{decided.deviation:.4g}; up to {max(decided.seeds.values())} seeds per arm for "
            f"intervals of ±{decided.until:g}"
        )
        return bool(self._queue)

    def _drop_trials(self) -> None:
        """Leave planned trials to a later session; keep queued timings."""
        timings = [item for item in self._queue if isinstance(item, TimingJob)]
        waiting = len(self._queue) - len(timings)
        if message := self._compute.exhaustion_message():
            self._notify(message)
        if waiting:
            budget = "device-hour" if self._compute.exhausted else "time"
            self._notify(f"{budget} budget exhausted; {waiting} planned trials were not started")
        self._queue = deque(timings)

    # Resume.

    def _resume(self) -> None:
        """Rebuild candidates, sampler and queue from the ledger."""
        proposals = [(row, c) for row, c in self.pool.resume() if rung_of(row) == 1]
        self._repeats = _trailing_repeats(candidate for _, candidate in proposals)
        history = [self._past_proposal(row, c) for row, c in proposals if row.arm is None]
        if self._source is not None:
            self._source.rebuild(history)
        self.pool.admit_arms()
        self._queue.extend(self.pool.unfinished_jobs())
        self.pool.newly_requested.clear()  # their jobs are queued already
        self._queue_controls()
        for candidate in [*self.pool.candidates.values()]:
            if candidate.results:
                self.updated_candidates.append(candidate)
            if candidate.state is CandidateState.REPORTED:
                self._halving.report(candidate)
            else:
                self._advance(candidate)

    def _past_proposal(self, row: ProposalKey, candidate: Candidate) -> sampling.PastProposal:
        """Report a candidate that is complete; otherwise leave its proposal pending."""
        waits = not candidate.trained or (
            self._times_before_report and bool(candidate.pending_timings)
        )
        if waits:
            candidate.add_pending_proposal(row.number)
        else:
            candidate.report()
        values = None if waits else self._values(candidate)
        note = sampling.ProposalNote(row.proposal_json)
        return sampling.PastProposal(row.number, note, values, is_open=waits, digest=row.digest)


def _trailing_repeats(candidates: Iterable[Candidate]) -> int:
    """Return how many of the latest proposals in a row were repeats."""
    seen: set[Candidate] = set()
    repeats = 0
    for candidate in candidates:
        repeats = repeats + 1 if candidate in seen else 0
        seen.add(candidate)
    return repeats
