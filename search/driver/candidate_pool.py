"""The candidates of a study: proposals add them, their trials are planned, results are stored."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from partialnas.runs.config.design import SequentialSeeds
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import FINAL_STATES, ProposalKey, TrialResult
from partialnas.runs.ledger.study_meta import condition_of, rung_of, stage_of
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.records.subject import Subject, subject_data, subject_digest, subject_name
from partialnas.search.ablation.control_arms import control_network
from partialnas.search.ablation.sequential_seeds import decide_seed_counts
from partialnas.search.driver.candidate import Candidate
from partialnas.search.driver.measurement_index import MeasurementIndex
from partialnas.search.driver.successive_halving import Promotion
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.sections import SeedRule


class CandidatePool:
    """Add candidates to a study, plan their trials and store their results.

    Attributes:
        candidates: by condition and digest of the network.
        measurements: measurements of these networks.
        trial_numbers: the ledger's trial numbers by trial key.
        proposal_count: number of proposals so far.
        repeated_proposals: number of proposals that requested nothing new.
        trial_count: number of trials that are planned or have ended.
        skipped_trials: number of requested trials that exceed the budget.
        arms: numbers of the proposals that are arms.
        sequential: seeds of each arm by the study's seed rule, once they are decided.
        newly_requested: candidates with new seeds that the scheduler has not queued yet.
        messages: notes for the user about arms, not shown yet.
    """

    def __init__(self, resolved: ResolvedStudy, ledger: Ledger) -> None:
        self._resolved = resolved
        self._study = resolved.study
        self._ledger = ledger
        self.candidates: dict[tuple[Condition, str], Candidate] = {}
        self.measurements = MeasurementIndex(resolved.conditions, self.candidates)
        self.trial_numbers: dict[str, int] = {}
        self.proposal_count = 0
        self.repeated_proposals = 0
        self.trial_count = 0
        self.skipped_trials = 0
        self.arms: set[int] = set()
        self.newly_requested: list[Candidate] = []
        self.messages: list[str] = []
        self.sequential = None if resolved.stage else ledger.study.sequential
        self._by_key: dict[str, Candidate] = {}
        self._arms: dict[tuple[str, str], tuple[int, Candidate]] = {}
        self._controls: dict[str, dict[int, Candidate]] = {}
        self._control_origins: set[tuple[str, str]] = set()

    @property
    def baselines(self) -> set[Candidate]:
        """Named arms of a search: its networks are compared with them, but do not compete."""
        if self._resolved.study.search is None:
            return set()
        return {candidate for _, candidate in self._arms.values()}

    # Proposals.

    def propose(self, architecture: Subject, note: dict[str, Any]) -> tuple[Candidate, bool]:
        """Add a sampler's proposal; return its candidate and whether it requests anything new."""
        return self._add(None, architecture, self._resolved.all_rungs[0], note)

    def promote(self, promotion: Promotion) -> Candidate:
        """Request a candidate's network on the next rung; return the candidate there."""
        subject, note = promotion.candidate.subject, {"rung": promotion.rung}
        candidate, _ = self._add(None, subject, promotion.condition, note)
        return candidate

    def admit_arms(self) -> None:
        """Add the study's arms under each condition, unless they are there already."""
        for condition in self._resolved.conditions:
            for arm, subject in self._resolved.arms.items():
                if (arm, condition.name) not in self._arms:
                    arm_condition = self._resolved.arm_condition(arm, condition)
                    self._add(arm, subject, arm_condition, self._arm_note(arm, arm_condition))

    def _add(
        self, arm: str | None, subject: Subject, condition: Condition, note: dict[str, Any]
    ) -> tuple[Candidate, bool]:
        """Write a proposal to the ledger and request its seeds."""
        digest = subject_digest(subject)
        number = self._ledger.add_proposal(arm, digest, subject_data(subject), note)
        return self._request(number, arm, self._candidate(subject, digest, condition), note)

    def _arm_note(self, arm: str, condition: Condition) -> dict[str, Any]:
        """Return what the ledger keeps with an arm: its condition, recipe and stage."""
        stage = self._resolved.stage
        note = {
            "condition": condition.name,
            "recipe": self._resolved.recipe_overrides(arm),
            "stage": stage.name if stage else "",
        }
        return {key: value for key, value in note.items() if value}

    def _request(
        self, number: int, arm: str | None, candidate: Candidate, note: dict[str, Any]
    ) -> tuple[Candidate, bool]:
        """Request the seeds of a proposal; return its candidate and whether any seed is new."""
        self.proposal_count = number
        seeds = self._seeds(arm) if candidate.at_full_fidelity else [0]
        if arm is not None:
            self.arms.add(number)
            if "from" in note:
                self._control_origins.add((arm, note["from"]))
                seeds = [note["seed"]]
                self._controls.setdefault(arm, {})[note["seed"]] = candidate
            else:
                self._arms[arm, candidate.condition.name] = number, candidate
        is_new = candidate.request(seeds, number, arm)
        self.repeated_proposals += not is_new
        return candidate, is_new

    def _seeds(self, arm: str | None) -> Iterable[int]:
        """Return the seeds of an arm, or of a proposed network."""
        if self._resolved.stage is not None:
            return self._resolved.stage.seeds
        first = self._study.first_seeds
        return range(self.sequential.seeds.get(arm or "", first) if self.sequential else first)

    def _candidate(
        self, subject: Subject | Callable[[], Any], digest: str, condition: Condition
    ) -> Candidate:
        """Return the candidate of a network, created if it is new."""
        if (condition, digest) not in self.candidates:
            self.candidates[condition, digest] = Candidate(subject, condition, digest)
        return self.candidates[condition, digest]

    # Jobs.

    def jobs(self, candidate: Candidate) -> Iterator[Job]:
        """Plan a candidate's missing seeds and yield their jobs, within the budget."""
        for seed in candidate.missing_seeds:
            yield from self._job(candidate, seed)

    def unfinished_jobs(self) -> Iterator[Job]:
        """Plan and yield the jobs of all missing results: arms first, seed by seed."""
        missing = [
            (number not in self.arms, seed if number in self.arms else 0, number, seed, candidate)
            for candidate in self.candidates.values()
            for seed in candidate.missing_seeds
            for number in [candidate.requested[seed]]
        ]
        for *_, seed, candidate in sorted(missing, key=lambda row: row[:4]):
            yield from self._job(candidate, seed)

    def _job(self, candidate: Candidate, seed: int) -> Iterator[Job]:
        """Yield the job of one seed, unless it is queued already or exceeds the budget."""
        budget = self._study.budget.trials
        job = candidate.job(seed)
        if job.trial_keys[seed] in self._by_key:
            return
        if seed not in candidate.planned_seeds:
            if budget is not None and self.trial_count >= budget:
                self.skipped_trials += 1
                return
            self.trial_count += 1
            candidate.plan(seed)
        facts = {"digest": candidate.digest, "name": subject_name(job.subject)}
        number = candidate.requested[seed]
        for row in self._ledger.plan(number, **facts, fidelity=job.fidelity, keys=job.trial_keys):
            self.trial_numbers[row.key] = row.number
            candidate.add_trial_number(row.number)
            self._by_key[row.key] = candidate
        yield job

    # Seed counts.

    def decide_seeds(self) -> SequentialSeeds | None:
        """Apply the study's seed rule; return the seeds of each arm, or None if nothing changes.

        The rule is applied again if arms were added or `max` changed. No arm loses seeds.
        """
        rule = self._study.seeds
        if not isinstance(rule, SeedRule) or self._resolved.stage is not None:
            return None
        before = self.sequential.seeds if self.sequential else {}
        covered = {arm for arm, _ in self._arms} <= before.keys()
        if self.sequential is not None and self.sequential.max == rule.max and covered:
            return None
        quantity, pairs = self._study.decision_quantity, self._resolved.contrasts
        values, shared = self._values(quantity), self._shared_arms()
        decided = decide_seed_counts(rule, quantity, values, pairs, shared)
        seeds = {arm: max(n, before.get(arm, 0)) for arm, n in decided.seeds.items()}
        self.sequential = decided.model_copy(update={"seeds": seeds})
        self._ledger.update_meta({"sequential": self.sequential.model_dump_json()})
        for (arm, _), (number, candidate) in self._arms.items():
            candidate.request(self._seeds(arm), number)
        return self.sequential

    def _shared_arms(self) -> dict[str, str]:
        """Map each arm that shares its trainings with an earlier arm to that arm."""
        first: dict[Candidate, str] = {}
        shared = {}
        for (arm, _), (_, candidate) in self._arms.items():
            if first.setdefault(candidate, arm) != arm:
                shared[arm] = first[candidate]
        return shared

    def _values(self, quantity: str) -> dict[str, dict[int, float]]:
        """Return a quantity's values by arm and seed."""
        candidates = {arm: dict.fromkeys(c.results, c) for (arm, _), (_, c) in self._arms.items()}
        return {
            arm: {
                seed: metrics[quantity]
                for seed, candidate in by_seed.items()
                if (metrics := candidate.results.get(seed)) is not None and quantity in metrics
            }
            for arm, by_seed in (candidates | self._controls).items()
        }

    # Results.

    def trial_candidate(self, key: str) -> Candidate:
        """Return the candidate of a planned trial."""
        return self._by_key[key]

    def add_record(self, record: Record) -> Candidate:
        """Store the record of a trial; return its candidate."""
        candidate = self._by_key[record.key]
        self._add_result(candidate, record, record.ratios[-1] if record.ratios else None)
        return candidate

    def _add_result(
        self, candidate: Candidate, record: Record | TrialResult, ratios: RatioEpoch | None
    ) -> None:
        candidate.add_result(record, ratios)
        if not candidate.at_full_fidelity or not self._resolved.controls:
            return
        if record.state != "done":
            self.messages += [
                f"arms.{name} is skipped for seed {record.seed}: the trial that provides its "
                f"ratios ended as {record.state}"
                for name in self._dependent_arms(candidate)
            ]
        elif ratios is not None:
            self._add_controls(candidate, record, ratios)

    def _add_controls(
        self, candidate: Candidate, record: Record | TrialResult, ratios: RatioEpoch
    ) -> None:
        """Request the control arms of a trial's learned ratios, with the same seed."""
        condition = candidate.condition
        for name in self._dependent_arms(candidate):
            if (name, record.key) in self._control_origins:
                continue
            control = self._resolved.controls[name]
            facts = (control, candidate.subject, ratios.channels, condition, record.seed)
            subject = control_network(name, *facts)
            note = {**self._arm_note(name, condition), "from": record.key, "seed": record.seed}
            added, is_new = self._add(name, subject, condition, note)
            self.newly_requested.append(added)
            if not is_new:
                self.messages.append(
                    f"arms.{name}, seed {record.seed}: another arm trains the same network with "
                    "this seed; it is trained once"
                )

    def _dependent_arms(self, candidate: Candidate) -> Iterator[str]:
        """Yield the control arms that use the learned ratios of a candidate."""
        for name, control in self._resolved.controls.items():
            if subject_digest(self._resolved.arms[control.origin]) == candidate.digest:
                yield name

    # Resume.

    def resume(self) -> list[tuple[ProposalKey, Candidate]]:
        """Load the ledger; return its proposals in order, each with its candidate."""
        rows = self._ledger.proposal_keys()
        stage = self._resolved.stage.name if self._resolved.stage else ""
        proposals = [(row, self._load_proposal(row)) for row in rows if stage_of(row) == stage]
        self.proposal_count = len(rows)
        candidates = {row.number: candidate for row, candidate in proposals}
        with_ratios = self._ledger.learned_ratio_keys()
        for trial in self._ledger.trial_results():
            if (candidate := candidates.get(trial.proposal)) is None:
                continue
            candidate.plan(trial.seed)
            candidate.add_trial_number(trial.number)
            self.trial_count += 1
            if trial.state in FINAL_STATES:
                last = self._ledger.last_ratios(trial.key) if trial.key in with_ratios else None
                self._add_result(candidate, trial, last)
        failed = self._ledger.study.failed_timings
        self.measurements.load(self._ledger.measurement_table(), failed)
        return proposals

    def _load_proposal(self, row: ProposalKey) -> Candidate:
        if row.arm is None:
            condition, note = self._resolved.all_rungs[rung_of(row) - 1], {}
        else:
            named = {condition.name: condition for condition in self._resolved.conditions}
            condition = named.get(condition_of(row), self._resolved.conditions[0])
            condition, note = self._resolved.arm_condition(row.arm, condition), row.proposal
        subject = partial(self._ledger.subject, row.number)
        candidate = self._candidate(subject, row.digest, condition)
        self._request(row.number, row.arm, candidate, note)
        return candidate
