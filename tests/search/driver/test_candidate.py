"""The states of a candidate, from its request to its report."""

import pytest

from partialnas.runs.config.metric_limits import Limit
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.rows import TrialResult
from partialnas.runs.records.measurement import ReferenceTimings, Speed
from partialnas.runs.records.subject import TimmModel, subject_digest
from partialnas.search.driver.candidate import Candidate, CandidateState
from partialnas.search.study.fidelity import Condition

TASK = Task(data="digits", resolution=8, channels=1, classes=10)


def candidate() -> Candidate:
    subject = TimmModel(timm="resnet18")
    return Candidate(subject, Condition("", TASK, Recipe(), Protocol()), subject_digest(subject))


def result(seed: int, state: str = "done") -> TrialResult:
    return TrialResult(f"key{seed}", 1, seed, state, {"val_nll": 1.0 + seed})  # type: ignore[arg-type]


def test_a_candidate_passes_through_all_states() -> None:
    new = candidate()
    assert new.request([0, 1], proposal=3)
    assert not new.request([1], proposal=4)
    assert new.requested == {0: 3, 1: 3}
    assert new.state is CandidateState.REQUESTED
    new.plan(0)
    new.plan(1)
    new.add_result(result(0), None)
    assert new.state is CandidateState.PLANNED
    assert new.pending_timings == {}
    new.add_result(result(1), None)
    assert new.state is CandidateState.TRAINED
    for seed in [*new.pending_timings]:
        new.set_speed(seed, None)
    assert new.state is CandidateState.TIMED
    new.report()
    assert new.state is CandidateState.REPORTED
    assert new.mean_values(["val_nll"]) == {"val_nll": 1.5}


def test_seeds_requested_after_the_report_do_not_change_the_state() -> None:
    new = candidate()
    new.request([0], proposal=1)
    new.plan(0)
    new.add_result(result(0), None)
    new.report()
    new.request([1], proposal=1)
    new.plan(1)
    assert new.state is CandidateState.REPORTED
    assert new.missing_seeds == [1]
    assert not new.trained


def test_a_failed_trial_needs_no_timing_and_has_no_means() -> None:
    new = candidate()
    new.plan(0)
    new.add_result(result(0, "failed"), None)
    assert new.state is CandidateState.TIMED
    assert new.objective_values(["val_nll"], {}) is None


def test_a_candidate_is_not_reported_before_its_trials_have_ended() -> None:
    new = candidate()
    new.plan(0)
    with pytest.raises(AssertionError, match="planned trials have ended"):
        new.report()


def test_pending_proposals_are_answered_once() -> None:
    new = candidate()
    new.add_pending_proposal(2)
    new.add_pending_proposal(5)
    assert new.pop_pending_proposals() == [2, 5]
    assert new.pop_pending_proposals() == []


def speed(relative: float, reference: ReferenceTimings) -> Speed:
    return Speed(1.0, 1.0, relative, None, False, False, "", 4, reference)


def test_limits_apply_to_the_common_scale_and_objectives_are_relative() -> None:
    reference, limits = ReferenceTimings(), {"latency_ms": Limit(max=5.0)}
    reference.add(400.0)
    new = candidate()
    new.plan(0)
    new.add_result(result(0), None)
    new.set_speed(0, speed(2.0, reference))
    values = new.objective_values(["throughput_img_s", "latency_ms"], limits)
    assert values is not None
    assert values.values == {"throughput_img_s": 2.0, "latency_ms": 0.5}
    assert values.limited == {"latency_ms": 0.5}
    assert new.mean_values(["latency_ms"]) == {"latency_ms": 1000 * 4 / 800}
    assert (dict(values.excess), values.violation) == ({"latency_ms": 0.0}, 0.0)
    reference.add(200.0)  # the machine has become slower: the median is 300
    assert new.mean_values(["throughput_img_s"]) == {"throughput_img_s": 600.0}
    assert values.violation == pytest.approx((1000 * 4 / 600 - 5) / 5)
    assert values.values == {"throughput_img_s": 2.0, "latency_ms": 0.5}


def test_the_speed_of_several_networks_is_their_mean() -> None:
    reference = ReferenceTimings()
    reference.add(100.0)
    new = candidate()
    for seed, relative in enumerate((1.0, 4.0)):
        new.plan(seed)
        new.add_result(result(seed), None)
        new.set_speed(seed, speed(relative, reference))
    assert new.mean_values(["throughput_img_s", "latency_ms", "relative_throughput"]) == {
        "throughput_img_s": 250.0, "latency_ms": (40 + 10) / 2, "relative_throughput": 2.5
    }  # fmt: skip
