"""The roster: every network of a study, what is wanted of it and what it has reached."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from partialnas.runs.config.design import SequentialSeeds
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import FINAL_STATES, ProposalKey, TrialResult
from partialnas.runs.ledger.study_meta import condition_of, rung_of, stage_of
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement, MeasurementTable, Speed
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.records.subject import Subject, subject_data, subject_digest, subject_name
from partialnas.runs.records.timing_choice import (
    Machine,
    TimingSetup,
    best_measurement,
    machine,
    select_measurements,
    study_machine,
)
from partialnas.search.ablation.control_arms import control_network
from partialnas.search.ablation.sequential_seeds import decide_seed_counts
from partialnas.search.driver.candidate import Candidate
from partialnas.search.driver.successive_halving import Promotion
from partialnas.search.executors.tasks import TimingJob, matches_measurement
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.sections import SeedRule


class CandidatePool:
    """Admits networks to a study, plans their trials, and takes up what came of them.

    Attributes:
        candidates: by how they are trained and the digest of what is.
        trial_numbers: the ledger's number of every trial by its key.
        proposal_count: how many there have been.
        repeated_proposals: how many of them asked for nothing new.
        trial_count: how many are planned or have ended.
        skipped_trials: how many were wanted that the budget does not allow.
        arms: numbers of the proposals that are arms.
        sequential: how many seeds arms were given by rule, once that is decided.
        newly_requested: networks that are wanted with further seeds since they were last looked at.
        messages: what the reader should know of arms that cannot be trained.
    """

    def __init__(self, prepared: ResolvedStudy, ledger: Ledger) -> None:
        self._prepared = prepared
        self._study = prepared.study
        self._ledger = ledger
        self.candidates: dict[tuple[Condition, str], Candidate] = {}
        self.trial_numbers: dict[str, int] = {}
        self.proposal_count = 0
        self.repeated_proposals = 0
        self.trial_count = 0
        self.skipped_trials = 0
        self.arms: set[int] = set()
        self.newly_requested: list[Candidate] = []
        self.messages: list[str] = []
        self.sequential = None if prepared.stage else ledger.study.sequential
        self._by_key: dict[str, Candidate] = {}
        self._before = MeasurementTable.from_records([])
        self._places: dict[str, list[int]] = {}
        self._since: dict[str, list[Measurement]] = {}
        self._homes: dict[TimingSetup, Machine | None] = {
            TimingSetup.from_protocol(condition.protocol): None for condition in prepared.conditions
        }
        self._arms: dict[tuple[str, str], tuple[int, Candidate]] = {}
        self._following_arms: dict[str, dict[int, Candidate]] = {}
        self._controls: set[tuple[str, str]] = set()

    # What is proposed.

    def propose(self, architecture: Subject, note: dict[str, Any]) -> Candidate:
        """The network that a source has proposed, new or known, wanted with all seeds."""
        return self._admit(None, architecture, self._prepared.all_rungs[0], note)

    def promote(self, promotion: Promotion) -> Candidate:
        """The network, wanted with all seeds of the rung that it goes to."""
        subject, note = promotion.candidate.subject, {"rung": promotion.rung}
        return self._admit(None, subject, promotion.condition, note)

    def admit_arms(self) -> None:
        """Admits the study's arms under each condition, those that are not there yet."""
        for condition in self._prepared.conditions:
            for arm, subject in self._prepared.arms.items():
                if (arm, condition.name) not in self._arms:
                    how = self._prepared.arm_condition(arm, condition)
                    self._admit(arm, subject, how, self._note(arm, how))

    def _admit(
        self, arm: str | None, subject: Subject, condition: Condition, note: dict[str, Any]
    ) -> Candidate:
        digest = subject_digest(subject)
        number = self._ledger.add_proposal(arm, digest, subject_data(subject), note)
        return self._enter(number, arm, subject, condition, note)

    def _note(self, arm: str, condition: Condition) -> dict[str, Any]:
        """What the proposal of an arm is to remember: how it is trained, and in which stage."""
        stage = self._prepared.stage
        note = {
            "condition": condition.name,
            "recipe": self._prepared.recipe_overrides(arm),
            "stage": stage.name if stage else "",
        }
        return {key: value for key, value in note.items() if value}

    def _enter(
        self,
        number: int,
        arm: str | None,
        subject: Subject | ProposalKey,
        condition: Condition,
        note: dict[str, Any],
    ) -> Candidate:
        """The network of a proposal, wanted with the seeds that the proposal is about."""
        self.proposal_count = number
        candidate = self._candidate(subject, condition)
        seeds = self._seeds(arm) if condition.full_fidelity is None else [0]
        if arm is not None:
            self.arms.add(number)
            if "from" in note:
                self._controls.add((arm, note["from"]))
                seeds = [note["seed"]]
                self._following_arms.setdefault(arm, {})[note["seed"]] = candidate
            else:
                self._arms[arm, condition.name] = number, candidate
        self.repeated_proposals += not candidate.request(seeds, number)
        return candidate

    def _seeds(self, arm: str | None) -> Iterable[int]:
        """The seeds that a network is wanted with."""
        if self._prepared.stage is not None:
            return self._prepared.stage.seeds
        first = self._study.first_seeds
        return range(self.sequential.seeds.get(arm or "", first) if self.sequential else first)

    def _candidate(self, subject: Subject | ProposalKey, condition: Condition) -> Candidate:
        """The network that is known by its digest, or a new one."""
        told: Subject | Callable[[], Any]
        if isinstance(subject, ProposalKey):
            digest, told = subject.digest, partial(self._ledger.subject, subject.number)
        else:
            digest, told = subject_digest(subject), subject
        candidate = self.candidates.get((condition, digest))
        if candidate is None:
            candidate = Candidate(told, condition, cached_digest=digest)
            self.candidates[condition, digest] = candidate
        return candidate

    # What is trained.

    def jobs(self, candidate: Candidate) -> Iterator[Job]:
        """Jobs of a network's seeds that are wanted and not under way, while the budget lasts."""
        for seed in candidate.missing_seeds:
            yield from self._job(candidate, seed)

    def unfinished_jobs(self) -> Iterator[Job]:
        """Jobs of all networks that lack results: arms first, seed by seed."""
        lacking = [
            (number not in self.arms, seed if number in self.arms else 0, number, seed, candidate)
            for candidate in self.candidates.values()
            for seed in candidate.missing_seeds
            for number in [candidate.requested[seed]]
        ]
        for *_, seed, candidate in sorted(lacking, key=lambda row: row[:4]):
            yield from self._job(candidate, seed)

    def _job(self, candidate: Candidate, seed: int) -> Iterator[Job]:
        """The job of one seed; none where it is under way, or the budget is spent."""
        budget = self._study.budget.trials
        job = candidate.job(seed)
        if job.trial_keys[seed] in self._by_key:
            return
        if seed not in candidate.planned_seeds:
            if budget is not None and self.trial_count >= budget:
                self.skipped_trials += 1
                return
            self.trial_count += 1
            candidate.planned_seeds.add(seed)
        facts = {"digest": subject_digest(job.subject), "name": subject_name(job.subject)}
        number = candidate.requested[seed]
        for row in self._ledger.plan(number, **facts, fidelity=job.fidelity, keys=job.trial_keys):
            self.trial_numbers[row.key] = row.number
            self._by_key[row.key] = candidate
        yield job

    # How many seeds.

    def decide_seeds(self) -> SequentialSeeds | None:
        """Decides by the study's rule how many seeds arms need; None where that is settled.

        Arms that were added since, or a greater `max`, have it decided again; no arm loses seeds.
        """
        rule = self._study.seeds
        if not isinstance(rule, SeedRule) or self._prepared.stage is not None:
            return None
        before = self.sequential.seeds if self.sequential else {}
        known = {arm for arm, _ in self._arms} <= before.keys()
        if self.sequential is not None and self.sequential.max == rule.max and known:
            return None
        quantity, pairs = self._study.decision_quantity, self._prepared.contrasts
        decided = decide_seed_counts(rule, quantity, self._values(quantity), pairs, self._same())
        seeds = {arm: max(n, before.get(arm, 0)) for arm, n in decided.seeds.items()}
        self.sequential = decided.model_copy(update={"seeds": seeds})
        self._ledger.update_meta({"sequential": self.sequential.model_dump_json()})
        for (arm, _), (number, candidate) in self._arms.items():
            candidate.request(self._seeds(arm), number)
        return self.sequential

    def _same(self) -> dict[str, str]:
        """Arms that share all their trainings with an earlier arm, each with that arm."""
        first: dict[int, str] = {}
        arms = {arm: id(candidate) for (arm, _), (_, candidate) in self._arms.items()}
        return {
            arm: other for arm, own in arms.items() if (other := first.setdefault(own, arm)) != arm
        }

    def _values(self, quantity: str) -> dict[str, dict[int, float]]:
        """What the trials of each arm have reached, by seed."""
        found = {
            arm: dict.fromkeys(each.results, each.results)
            for (arm, _), (_, each) in self._arms.items()
        }
        found |= {
            arm: {seed: each.results for seed, each in seeds.items()}
            for arm, seeds in self._following_arms.items()
        }
        return {
            arm: {
                seed: metrics[quantity]
                for seed, results in seeds.items()
                if (metrics := results.get(seed)) is not None and quantity in metrics
            }
            for arm, seeds in found.items()
        }

    # What came of it.

    def trial_condition(self, key: str) -> Condition:
        """What the planned trial with this key is trained under."""
        return self._by_key[key].condition

    def add_record(self, record: Record) -> Candidate:
        """Takes up the record of a trial; whose it is."""
        candidate = self._by_key[record.key]
        self._take(candidate, record, record.ratios[-1] if record.ratios else None)
        return candidate

    def _take(
        self, candidate: Candidate, record: Record | TrialResult, ratios: RatioEpoch | None
    ) -> None:
        candidate.add_result(record, ratios)
        if candidate.condition.full_fidelity is not None or not self._prepared.controls:
            return
        if record.state != "done":
            self.messages += [
                f"arms.{name} is left out for seed {record.seed}: the trial that its ratios "
                f"come from is {record.state}"
                for name in self._following(candidate.subject)
            ]
        elif ratios is not None:
            self._admit_controls(candidate, record, ratios)

    def _admit_controls(
        self, candidate: Candidate, record: Record | TrialResult, ratios: RatioEpoch
    ) -> None:
        """Wants the arms, with the same seed, that follow from what a trial has learned."""
        condition = candidate.condition
        for name in self._following(candidate.subject):
            if (name, record.key) in self._controls:
                continue
            control = self._prepared.controls[name]
            facts = (control, candidate.subject, ratios.channels, condition, record.seed)
            subject = control_network(name, *facts)
            note = {**self._note(name, condition), "from": record.key, "seed": record.seed}
            repeats = self.repeated_proposals
            self.newly_requested.append(self._admit(name, subject, condition, note))
            if self.repeated_proposals > repeats:
                same = "another arm trains the same network with this seed: trained once"
                self.messages.append(f"arms.{name}, seed {record.seed}: {same}")

    def _following(self, subject: Subject) -> Iterator[str]:
        """The arms whose ratios come from a network."""
        digest = subject_digest(subject)
        for name, control in self._prepared.controls.items():
            if subject_digest(self._prepared.arms[control.origin]) == digest:
                yield name

    # How an earlier sitting is taken up.

    def resume(self) -> list[tuple[ProposalKey, Candidate]]:
        """Takes up what the ledger knows; the proposals in order, each with its network."""
        rows = self._ledger.proposal_keys()
        recalled = [(row, self._recalled(row)) for row in rows if self._is_ours(row)]
        self.proposal_count = len(rows)
        owners = {row.number: candidate for row, candidate in recalled}
        learned = self._ledger.learned_ratio_keys()
        for trial in self._ledger.trial_results():
            if trial.proposal not in owners:
                continue
            candidate = owners[trial.proposal]
            candidate.planned_seeds.add(trial.seed)
            self.trial_count += 1
            if trial.state in FINAL_STATES:
                last = self._ledger.last_ratios(trial.key) if trial.key in learned else None
                self._take(candidate, trial, last)
        self._recall_speeds()
        return recalled

    def _recall_speeds(self) -> None:
        """Takes up how fast networks are."""
        taken = self._before = self._ledger.measurement_table()
        for number, digest in enumerate(taken.columns["digest"]):
            self._places.setdefault(digest, []).append(number)
        self._homes = {way: study_machine(taken, way) for way in self._homes}
        speeds = [*map(Speed._make, taken.rows(*Speed._fields))]
        stands: dict[Condition, dict[str, int]] = {}
        for candidate in self.candidates.values():
            how = candidate.condition.full_fidelity or candidate.condition
            if how not in stands:
                way, size = TimingSetup.from_protocol(how.protocol), (how.task.resolution, how.task.channels)
                stands[how] = select_measurements(taken, way, size, self._homes.get(way)).best_positions
            for seed in candidate.finished:
                if (place := stands[how].get(candidate.final_digest(seed))) is not None:
                    candidate.speeds[seed] = speeds[place]

    def measurement_for(self, item: TimingJob) -> Measurement | None:
        """The measurement that stands for what is to be timed, if it has been (see `timings`)."""
        return self._standing(subject_digest(item.subject), item.task, item.protocol)

    def _standing(self, digest: str, task: Task, protocol: Protocol) -> Measurement | None:
        way = TimingSetup.from_protocol(protocol)
        return best_measurement(self._taken(digest, task, protocol), way, self._homes.get(way))

    def _taken(self, digest: str, task: Task, protocol: Protocol) -> list[Measurement]:
        return [each for each in self._known(digest) if matches_measurement(task, protocol, each)]

    def _known(self, digest: str) -> Iterator[Measurement]:
        """All measurements of a network, in order."""
        yield from (self._before[place] for place in self._places.get(digest, ()))
        yield from self._since.get(digest, ())

    def add_measurement(self, measurement: Measurement) -> None:
        """Takes up how fast a network is; of several measurements the better one stands."""
        digest = measurement.digest
        fresh = digest not in self._places and digest not in self._since
        self._since.setdefault(digest, []).append(measurement)
        for way, at in self._homes.items():
            if at is None and way.matches(measurement):
                self._homes[way] = machine(measurement)
        if fresh:
            return
        for candidate in self.candidates.values():
            how = candidate.condition.full_fidelity or candidate.condition
            for seed in candidate.speeds:
                if candidate.final_digest(seed) == digest:
                    stands = self._standing(digest, how.task, how.protocol)
                    candidate.speeds[seed] = Speed.from_measurement(stands) if stands else None

    def timings_to_retry(self) -> list[TimingJob]:
        """What should be timed again: noisy or tainted so far, with tries left."""
        marked = (
            candidate.timing_job(seed)
            for candidate in self.candidates.values()
            for seed, speed in candidate.speeds.items()
            if candidate.condition.full_fidelity is None and speed is not None and speed.num_marks
        )
        items = {item.identity: item for item in marked}
        return [each for each in items.values() if self._tries(each) <= each.protocol.retries]

    def _tries(self, item: TimingJob) -> int:
        return len(self._taken(subject_digest(item.subject), item.task, item.protocol))

    def _is_ours(self, row: ProposalKey) -> bool:
        """Whether a proposal belongs to the stage of the study that is run."""
        stage = self._prepared.stage
        return stage_of(row) == (stage.name if stage else "")

    def _recalled(self, row: ProposalKey) -> Candidate:
        note = row.proposal if row.arm is not None else {}
        if row.arm is None:
            how = self._prepared.all_rungs[rung_of(row) - 1]
        else:
            first, *_ = conditions = self._prepared.conditions
            named = (each for each in conditions if each.name == condition_of(row))
            how = self._prepared.arm_condition(row.arm, next(named, first))
        return self._enter(row.number, row.arm, row, how, note)
