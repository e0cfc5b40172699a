"""Failing first trials: a broken environment aborts the run, failing networks do not."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import TimmModel
from partialnas.search.executors.base import (
    END,
    WAIT,
    End,
    InProcess,
    ItemResult,
    Wait,
    failed_result,
)
from partialnas.search.session.fail_fast import FailFastFeed
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.errors import MachineError
from partialnas.space.values import validate_as

TASK = Task(data="digits", resolution=8, channels=1, classes=10)
LOG = Path("workers.log")


def job(name: str, seed: int = 0) -> Job:
    subject, recipe = TimmModel(timm=name), RECIPES["short"]
    return Job(subject=subject, task=TASK, recipe=recipe, fidelity=1, seeds=(seed,))


class Feed:
    """Jobs named after their result: `net: reason` for a failure, otherwise `net`."""

    def __init__(self, names: list[str], *, generation: int = 1000) -> None:
        self.names = names
        self.given: list[Job] = []
        self.results: list[Job] = []
        self.generation = generation

    def ask(self) -> Job | Wait | End:
        if len(self.given) == len(self.names):
            return WAIT if len(self.results) < len(self.given) else END
        if len(self.given) - len(self.results) >= self.generation:
            return WAIT
        name = self.names[len(self.given)].partition(":")[0]
        self.given.append(job(name, seed=len(self.given)))
        return self.given[-1]

    def tell(self, item: Job, outcome: ItemResult) -> None:
        (record,) = outcome.records
        assert record.key == item.trial_keys[record.seed]
        self.results.append(item)

    def work(self, item: Job) -> ItemResult:
        reason = self.names[item.seeds[0]].partition(": ")[2]
        return (
            failed_result(item, reason, "failed") if reason else failed_result(item, "well", "done")
        )


def run(names: list[str], count: int = 3, **how: Any) -> Feed:
    feed = Feed(names, **how)
    InProcess().run(FailFastFeed(feed, count, LOG), feed.work)
    return feed


BROKEN = "ImportError: no libcuda"


def test_first_trials_that_fail_alike_abort_the_run_with_their_reason() -> None:
    feed = Feed([f"net{i}: {BROKEN}" for i in range(9)])
    with pytest.raises(MachineError, match=r"first 3 trials.*no libcuda\nSee workers\.log"):
        InProcess().run(FailFastFeed(feed, 3, LOG), feed.work)
    assert feed.results == []
    assert len(feed.given) == 3


@pytest.mark.parametrize(
    "names",
    [
        ["a", *[f"n{i}: {BROKEN}" for i in range(5)]],
        [f"a: {BROKEN}", f"b: {BROKEN}", "c", *[f"n{i}: {BROKEN}" for i in range(5)]],
        [f"net{i}: fault of {i}" for i in range(5)],
        [f"only: {BROKEN}"] * 5,
        [f"a: {BROKEN}", f"b: {BROKEN}"],
    ],
    ids=["one is well", "the third is well", "reasons differ", "one network", "only two"],
)
def test_failures_not_caused_by_the_environment_are_recorded(names: list[str]) -> None:
    feed = run(names)
    assert feed.results == feed.given
    assert len(feed.results) == len(names)


def test_held_failures_are_released_to_a_waiting_feed() -> None:
    names = [f"a: {BROKEN}", *[f"net{i}" for i in range(4)]]
    assert len(run(names, generation=1).results) == 5


def test_a_waiting_feed_is_checked_as_well() -> None:
    feed = Feed([f"net{i}: {BROKEN}" for i in range(9)], generation=1)
    with pytest.raises(MachineError, match="first 3 trials"):
        InProcess().run(FailFastFeed(feed, 3, LOG), feed.work)
    assert len(feed.results) == 2


def test_without_a_pilot_every_failure_is_recorded() -> None:
    assert len(run([f"net{i}: {BROKEN}" for i in range(9)], count=0).results) == 9


def test_measurements_are_passed_on() -> None:
    class Timings:
        results = 0

        def ask(self) -> Protocol | Wait | End:
            return Protocol() if self.results < 5 else END

        def tell(self, item: Protocol, outcome: ItemResult) -> None:  # noqa: ARG002
            self.results += 1

    feed = Timings()
    InProcess().run(FailFastFeed(feed, 3, LOG), lambda _: ItemResult())
    assert feed.results == 5


@settings(deadline=None)
@given(
    reasons=st.lists(st.sampled_from(["", "x", "y"]), max_size=8),
    networks=st.integers(1, 3),
    count=st.integers(0, 4),
    order=st.randoms(use_true_random=False),
    workers=st.integers(1, 3),
)
def test_every_result_is_reported_once_unless_the_run_is_aborted(
    reasons: list[str], networks: int, count: int, order: Any, workers: int
) -> None:
    names = [f"net{i % networks}" + (f": {why}" if why else "") for i, why in enumerate(reasons)]
    feed = Feed(names)
    pilot = FailFastFeed(feed, count, LOG)
    flying: list[Job] = []
    ended: list[str] = []
    try:
        while True:
            item = pilot.ask() if len(flying) < workers else WAIT
            if item is END:
                break
            if isinstance(item, Job):
                flying.append(item)
                continue
            done = flying.pop(order.randrange(len(flying)))
            ended.append(names[done.seeds[0]])
            pilot.tell(done, feed.work(done))
    except MachineError:
        why = {name.partition(": ")[2] for name in ended}
        assert len(why) == 1
        assert why != {""}
        assert len(ended) >= count > 0
        assert len({name.partition(":")[0] for name in ended}) > 1
        assert feed.results == []
    else:
        assert len(feed.results) == len(names)
        assert {job.seeds for job in feed.results} == {(i,) for i in range(len(names))}


STUDY: dict[str, Any] = {
    "study": "pilot",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [4 * i for i in range(2, 12)]}},
    "search": {"sampler": "random"},
    "objectives": {"val_nll": "min"},
    "budget": {"trials": 6},
    "executor": {"kind": "in-process"},
    "trial": "needing_a_library:evaluate",
}

NEEDING = """
def evaluate(architecture, seed, epochs):
    from {library} import sqrt
    return {{"val_nll": sqrt(architecture.widths[0])}}
"""


def counts(folder: Path) -> dict[str, int]:
    with Ledger.open(folder) as ledger:
        return {state: count for state, count in ledger.state_counts().items() if count}


def test_a_broken_environment_records_no_failure_and_the_study_resumes_after_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "needing_a_library.py").write_text(NEEDING.format(library="a_library"))
    study = validate_as(Study, STUDY, "no study")
    with pytest.raises(MachineError, match="ModuleNotFoundError: No module named 'a_library'"):
        run_study(study, tmp_path / "out", base_dir=tmp_path)
    assert counts(tmp_path / "out").keys() == {"planned"}
    (tmp_path / "a_library.py").write_text("from math import sqrt")
    run_study(study, tmp_path / "out", base_dir=tmp_path)
    assert counts(tmp_path / "out") == {"done": 6}
