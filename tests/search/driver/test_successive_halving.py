"""Successive halving against a plain simulation, its records, and resuming it."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

import partialnas.analysis as pa
from partialnas.runs.ledger import column_store as volumes
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import TrialRow
from partialnas.runs.records.job import Job
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.runs.trials.user_function import run_function
from partialnas.search.driver.running_front import delete_trunk_checkpoints
from partialnas.search.driver.scheduler import Scheduler, make_source
from partialnas.search.executors.base import END, WAIT, FeedSignal, ItemResult
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.session.open_ledger import open_ledger
from partialnas.search.session.progress import Progress
from partialnas.search.study.fidelity import min_trials_per_rung, rung_shares
from partialnas.search.study.study import Study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError

TRAPEZOID = {"schedule": "trapezoid"}
ETA3 = [{"recipe.epochs": 1}, {"recipe.epochs": 3}]
ONE = {"val_nll": "min"}
TWO = {"val_nll": "min", "score": "max"}

SEARCH: dict[str, Any] = {
    "study": "halving",
    "task": {"data": "digits"},
    "recipe": {"epochs": 9},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {
        "axes": {"width": [*range(8, 48, 4)], "mlp_ratio": [1, 2, 3], "pat_sp": [False, True]}
    },
    "search": {"sampler": "random", "rungs": ETA3},
    "trial": "simulated:plain",
    "objectives": ONE,
    "budget": {"trials": 60},
    "executor": {"kind": "in-process"},
}

Table = Callable[[Any, int, int], Mapping[str, float]]


def halving(search: dict[str, Any] | None = None, **changes: Any) -> Study:
    return Study.model_validate(
        {**SEARCH, **changes, "search": {**SEARCH["search"], **(search or {})}}
    )


def tabulated(architecture: Any, seed: int, epochs: int) -> dict[str, float]:
    """Return metrics that depend on network and fidelity; some networks fail."""
    rng = random.Random(f"{architecture.digest} {epochs}")
    if rng.random() < 0.1:
        raise RuntimeError("a fault of the network")
    # rounded, so that some tie
    return {"val_nll": round(rng.random(), 1) + 0.001 * seed, "score": round(rng.random(), 1)}


class KilledError(Exception):
    pass


@contextmanager
def feeding(study: Study, folder: Path) -> Iterator[Scheduler]:
    prepared = resolve_study(study, Path(__file__).parents[1])
    progress = Progress(Console(file=StringIO()))
    with open_ledger(prepared, folder, progress) as ledger:
        ledger.requeue_running()
        yield Scheduler(prepared, ledger, make_source(prepared), progress.event)


def work_through(
    feed: Scheduler, table: Table, workers: int, rng: random.Random, items: float = math.inf
) -> list[tuple[str, Job]]:
    """Run all items on several simulated workers, which end in random order; return the events."""
    flying: list[Job] = []
    events: list[tuple[str, Job]] = []
    ended = False
    while flying or not ended:
        asks = not ended and len(flying) < workers
        item = feed.ask() if asks else WAIT
        if isinstance(item, Job):
            flying.append(item)
            events.append(("ask", item))
            if len(events) >= items:
                raise KilledError
            continue
        ended = ended or item is END
        if flying:
            done = flying.pop(rng.randrange(len(flying)))
            feed.tell(done, ItemResult(records=tuple(run_function(done, table, Context()))))
            events.append(("tell", done))
    return events


def ran(study: Study, folder: Path, table: Table = tabulated, workers: int = 1) -> Ledger:
    with feeding(study, folder) as feed:
        work_through(feed, table, workers, random.Random(0))
    return Ledger.open(folder)


def value(digest: str, epochs: int, table: Table, objectives: Mapping[str, str]) -> Any:
    """Return the losses of a network at a fidelity, or None if it fails."""
    try:
        metrics = table(type("Network", (), {"digest": digest}), 0, epochs)
    except RuntimeError:
        return None
    return [metrics[k] if way == "min" else -metrics[k] for k, way in objectives.items()]


def in_order(values: dict[str, Any]) -> list[str]:
    """Sort by front, then by crowding distance."""
    left = {d: v for d, v in values.items() if v is not None}
    ordered: list[str] = []
    while left:
        peeled = [
            d
            for d, v in left.items()
            if not any(
                all(a <= b for a, b in zip(w, v, strict=True)) and w != v for w in left.values()
            )
        ]
        alone = lonely({d: left[d] for d in peeled})
        ordered += sorted(peeled, key=lambda d: -alone[d])  # stable: in the order of proposals
        left = {d: v for d, v in left.items() if d not in peeled}
    return ordered


def lonely(points: dict[str, list[float]]) -> dict[str, float]:
    """Return NSGA-II's crowding distance as defined in its paper."""
    distance = dict.fromkeys(points, 0.0)
    for axis in range(len(next(iter(points.values())))):
        order = sorted(points, key=lambda d: points[d][axis])
        extent = points[order[-1]][axis] - points[order[0]][axis]
        distance[order[0]] = distance[order[-1]] = math.inf
        for before, d, after in zip(order, order[1:], order[2:], strict=False):
            if extent:
                distance[d] += (points[after][axis] - points[before][axis]) / extent
    return distance


class Halving:
    """Asynchronous successive halving as in its paper; `tell` reports the end of a trial."""

    def __init__(self, epochs: list[int], promote: Fraction, score: Callable[..., Any]) -> None:
        self.epochs, self.promote, self.score = epochs, promote, score
        self.ended: list[dict[str, Any]] = [{} for _ in epochs]
        self.entered: list[list[str]] = [[] for _ in epochs]

    def next(self) -> tuple[str, int] | None:
        """Return the next promotion and its rung, or None for a new network."""
        for rung in reversed(range(len(self.epochs) - 1)):
            # networks on one rung, in order of arrival
            ended = {d: self.ended[rung][d] for d in self.entered[rung] if d in self.ended[rung]}
            best = in_order(ended)[: int(len(ended) * self.promote)]
            for digest in best:
                if digest not in self.entered[rung + 1]:
                    self.entered[rung + 1].append(digest)
                    return digest, rung + 1
        return None

    def tell(self, digest: str, epochs: int) -> None:
        self.ended[self.epochs.index(epochs)][digest] = self.score(digest, epochs)


@pytest.mark.parametrize(
    ("objectives", "workers", "promote"),
    [
        (ONE, 4, "1/3"),
        (TWO, 4, "1/2"),
        pytest.param(ONE, 1, "1/2", marks=pytest.mark.slow),
        pytest.param(TWO, 1, "1/3", marks=pytest.mark.slow),
        pytest.param(TWO, 8, "2/5", marks=pytest.mark.slow),
    ],
)
def test_promotions_agree_with_a_plain_simulation(
    tmp_path: Path, objectives: dict[str, str], workers: int, promote: str
) -> None:
    study = halving({"promote": promote}, objectives=objectives, budget={"trials": 70})
    with feeding(study, tmp_path) as feed:
        events = work_through(feed, tabulated, workers, random.Random(1))
    plain = Halving([1, 3, 9], Fraction(promote), lambda d, e: value(d, e, tabulated, objectives))
    count = 0
    for kind, job in events:
        digest = job.subject.digest if isinstance(job.subject, Architecture) else ""
        if kind == "tell":
            plain.tell(digest, job.fidelity)
            continue
        count += 1
        expected = plain.next()
        if expected is None:  # a new proposal of the sampler
            assert job.fidelity == 1
            plain.entered[0].append(digest)
        else:
            assert (digest, job.fidelity) == (expected[0], plain.epochs[expected[1]])
    assert count == 70
    assert len(plain.entered[2]) >= 2


@pytest.mark.slow
@given(
    promote=st.fractions("1/5", "4/5", max_denominator=5),
    budget=st.integers(45, 70),
    workers=st.integers(1, 6),
    chance=st.integers(0, 1000),
)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_rung_promotes_more_than_its_share(
    tmp_path_factory: pytest.TempPathFactory,
    promote: Fraction,
    budget: int,
    workers: int,
    chance: int,
) -> None:
    study = halving({"promote": str(promote)}, budget={"trials": budget})
    with feeding(study, tmp_path_factory.mktemp("study")) as feed:
        events = work_through(feed, tabulated, workers, random.Random(chance))
    started, num_ended, failed = Counter[int](), Counter[int](), set[tuple[str, int]]()
    for kind, job in events:
        epochs, digest = job.fidelity, job.subject.digest  # type: ignore[union-attr]
        if kind == "tell":
            num_ended[epochs] += 1
            if value(digest, epochs, tabulated, ONE) is None:
                failed.add((digest, epochs))
            continue
        started[epochs] += 1
        if epochs > 1:
            below = epochs // 3
            # a promoted network may no longer be among the best
            assert started[epochs] <= num_ended[below]
            assert (digest, below) not in failed
    assert sum(started.values()) == budget
    for below, above in ((1, 3), (3, 9)):
        assert started[above] <= num_ended[below]
        if workers == 1:  # all that qualify, except for the last, because the budget ended
            assert started[above] >= math.floor(promote * num_ended[below]) - 1 - (above == 9)


def facts(ledger: Ledger) -> list[tuple[Any, ...]]:
    return [(row.digest, row.seed, row.fidelity, row.state) for row in ledger.trials()]


@pytest.mark.parametrize(
    ("sampler", "objectives"),
    [
        ("evolution", TWO),
        pytest.param("evolution", ONE, marks=pytest.mark.slow),
        pytest.param("tpe", ONE, marks=pytest.mark.slow),
        pytest.param("tpe", TWO, marks=pytest.mark.slow),
        pytest.param("nsga2", TWO, marks=pytest.mark.slow),
    ],
)
def test_a_search_killed_repeatedly_resumes_without_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objectives: dict[str, str], sampler: str
) -> None:
    monkeypatch.setattr(volumes, "VOLUME_SIZE", 3)
    search = {"sampler": sampler, "population": 4, "rungs": [{"recipe.epochs": 3}]}
    budget = {"trials": 26}
    study = halving(search, objectives=objectives, seeds=2, budget=budget)
    whole = facts(ran(study, tmp_path / "whole"))
    rng = random.Random(3)
    for _ in range(200):
        try:
            with feeding(study, tmp_path / "pieces") as feed:
                work_through(feed, tabulated, 1, rng, items=rng.randrange(1, 16))
            break
        except KilledError:
            continue
    pieces = Ledger.open(tmp_path / "pieces")
    assert facts(pieces) == whole
    assert max(Counter((d, s, e) for d, s, e, _ in whole).values()) == 1
    assert {row.state for row in pieces.trials()} >= {"done", "early"}


def test_trials_on_lower_rungs_are_early_with_a_reason(tmp_path: Path) -> None:
    ledger = ran(halving(seeds=2), tmp_path)
    rows = ledger.trials()
    reasons = {1: "rung 1 of 3", 3: "rung 2 of 3"}
    assert {row.fidelity for row in rows} == {1, 3, 9}
    for row in rows:
        if row.state == "failed":
            assert row.reason == "RuntimeError: a fault of the network"
        elif row.fidelity == 9:
            assert row.state == "done"
        else:
            assert (row.state, row.reason, row.seed) == ("early", reasons[row.fidelity], 0)
            assert row.metrics["val_nll"] == tabulated_of(row)["val_nll"]
    full = {row.digest: Counter[int]() for row in rows if row.fidelity == 9}
    for row in rows:
        if row.fidelity == 9:
            full[row.digest][row.seed] += 1
    assert full
    assert all(seeds == {0: 1, 1: 1} for seeds in full.values())


def tabulated_of(row: TrialRow) -> dict[str, float]:
    return tabulated(type("Network", (), {"digest": row.digest}), row.seed, row.fidelity)


def test_fronts_and_hypervolumes_use_full_fidelity_only(tmp_path: Path) -> None:
    ran(halving(objectives=TWO, arms={"base": {}}), tmp_path).close()
    frame = pa.load(tmp_path)
    full = frame[frame["state"].eq("done")]
    early = frame[frame["state"].eq("early")]
    assert set(early["fidelity"]) == {1, 3}
    objectives: Any = TWO
    front = pa.front(frame, objectives)
    in_full = frame["fidelity"].eq(9) | frame["state"].eq("failed")
    assert set(front["digest"]) == set(frame.loc[in_full, "digest"])
    assert set(front.loc[front["on_front"], "digest"]) <= set(full["digest"])
    for row in front[front["n"].gt(0)].itertuples():
        assert row.val_nll == full.loc[full["digest"].eq(row.digest), "val_nll"].mean()
    counted: Any = {"val_nll": "min", "macs": "min"}  # also known for networks on lower rungs
    assert set(pa.front(frame, counted)["digest"]) == set(front["digest"])
    with pytest.raises(UserError, match="at full fidelity"):
        pa.front(early, counted)
    assert pa.hypervolume(frame, counted, {"val_nll": 2.0, "macs": 1e9}) == pa.hypervolume(
        full, counted, {"val_nll": 2.0, "macs": 1e9}
    )


def test_arms_are_trained_at_full_fidelity_and_only_once(
    tmp_path: Path,
) -> None:
    space = {"axes": {"pat_sp": [False, True]}}
    study = halving(space=space, arms={"base": {}, "sp": {"pat_sp": True}}, seeds=2)

    def good(architecture: Any, seed: int, epochs: int) -> dict[str, float]:
        return {"val_nll": 1 / epochs + len(architecture.digest) + seed}

    rows = ran(study, tmp_path, good).trials()
    assert [(row.fidelity, row.seed) for row in rows[:4]] == [(9, 0), (9, 0), (9, 1), (9, 1)]
    assert Counter(row.fidelity for row in rows) == {9: 4, 1: 2}


def test_the_best_network_of_an_exhausted_space_is_promoted(tmp_path: Path) -> None:
    study = halving(space={"axes": {"pat_sp": [False, True]}})
    rows = ran(study, tmp_path, lambda a, s, e: {"val_nll": 1.0 + len(a.digest) + s / e}).trials()
    assert [row.fidelity for row in rows] == [1, 1, 3, 9]
    assert len({row.digest for row in rows[2:]}) == 1


def test_the_sampler_sees_results_of_the_lowest_rung(tmp_path: Path) -> None:
    study = halving({"sampler": "evolution", "population": 4})
    with feeding(study, tmp_path) as feed:
        results: dict[int, Any] = {}
        source: Any = feed._source
        tell = source.tell
        source.tell = lambda number, reached: (
            results.update({number: reached}),
            tell(number, reached),
        )
        work_through(feed, tabulated, 1, random.Random(0))
    proposals = {row.number: row for row in Ledger.open(tmp_path).proposals()}
    first = {n: row.digest for n, row in proposals.items() if "rung" not in row.proposal}
    assert results.keys() == first.keys()
    for number, reached in results.items():
        expected = value(first[number], 1, tabulated, ONE)
        assert (reached and [*reached.values.values()]) == expected


@pytest.mark.parametrize(
    ("search", "changes", "message"),
    [
        ({"rungs": [{"recipe.lr": 0.1}]}, {}, "rung 1: unknown key 'recipe.lr'; "),
        ({"rungs": [{"recipe.epochs": 9}]}, {}, "rungs: 1: same fidelity as the study"),
        ({"rungs": [{"recipe.epochs": 12}]}, {}, "rungs: 1: recipe.epochs: 12 is more than 9"),
        ({"rungs": [*ETA3][::-1]}, {}, "rungs: 1: recipe.epochs: 3 is more than 1 in rungs: 2"),
        ({"rungs": [{"recipe.epochs": 0}]}, {}, "epochs"),
        ({"rungs": [{"recipe.data_share": "1/2"}]}, {}, "with a trial function, rungs may only"),
        ({"scheme": "cool-down"}, {}, "cool-down needs recipe.schedule: trapezoid"),
        (
            {"scheme": "cool-down", "rungs": [{"recipe.width_share": "1/2"}]},
            {"recipe": {"schedule": "trapezoid"}, "trial": None},
            "recipe.width_share: with scheme: cool-down, rungs may only differ in recipe.epochs",
        ),
        ({"promote": 1}, {}, "less than 1"),
        ({}, {"recipe": {"epochs": 9, "width_share": "1/2"}}, "width_share is only allowed"),
    ],
)
def test_invalid_rungs_are_refused(
    search: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        halving(search, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("search", "changes", "continues"),
    [
        ({}, {}, True),
        ({"scheme": "restart"}, {}, False),
        ({}, {"recipe": {"epochs": 9}}, False),
        ({"rungs": [{"recipe.data_share": "1/2"}]}, {}, False),
        ({"rungs": [{"recipe.epochs": 1, "task.resolution": 8}]}, {}, False),
        ({}, {"trial": "tabulated:lookup"}, False),
    ],
)
def test_the_default_scheme_continues_trainings_if_possible(
    search: dict[str, Any], changes: dict[str, Any], continues: bool
) -> None:
    study = halving(search, **{"trial": None, "recipe": {"epochs": 9, **TRAPEZOID}, **changes})
    assert study.scheme == study.frozen()["search"]["scheme"]
    assert study.scheme == ("cool-down" if continues else "restart")


def test_a_budget_without_a_full_training_is_refused() -> None:
    assert min_trials_per_rung(2, Fraction(1, 3), 2) == [9, 3, 2]
    assert min_trials_per_rung(1, Fraction(2, 5), 1) == [3, 1]
    study = halving(budget={"trials": 13}, seeds=2)
    with pytest.raises(UserError, match="9 \\+ 3 \\+ 2 trials"):
        resolve_study(study, Path(__file__).parents[1])
    resolve_study(halving(budget={"trials": 14}, seeds=2), Path(__file__).parents[1])


def test_the_smallest_budget_trains_one_network_at_full_fidelity(tmp_path: Path) -> None:
    def good(architecture: Any, seed: int, epochs: int) -> dict[str, float]:
        return {"val_nll": 1 / epochs + len(architecture.digest) + seed}

    rows = ran(halving(budget={"trials": 14}, seeds=2), tmp_path, good).trials()
    assert Counter(row.fidelity for row in rows)[9] == 2
    assert {row.state for row in rows if row.fidelity == 9} == {"done"}


def test_trial_shares_per_rung_agree_with_a_long_search() -> None:
    assert rung_shares(2, Fraction(1, 3), 1) == pytest.approx([9 / 13, 3 / 13, 1 / 13])
    assert rung_shares(1, Fraction(1, 2), 3) == pytest.approx([2 / 5, 3 / 5])


TRAINED: dict[str, Any] = {
    "trial": None,
    "recipe": {"epochs": 4, "schedule": "trapezoid", "warmup_steps": 20, "keep_weights": "none"},
    "space": {"axes": {"width": [8, 12], "mlp_ratio": [1, 2]}},
    "objectives": {"val_nll": "min", "macs": "min"},
    "measure": {"max_seconds": 0.1},
}


def trained_in_full(folder: Path, side: int = 8, **search: Any) -> list[TrialRow]:
    """Return the trials of a search that trains networks without timing them."""
    task = {"data": "digits", "resolution": side}
    search = {"promote": "1/2", "rungs": [{"recipe.epochs": 2}], **search}
    with feeding(halving(search, **TRAINED, task=task, budget={"trials": 4}), folder) as feed:
        while (item := feed.ask()) is not END:
            assert not isinstance(item, FeedSignal), "one after the other, so there is no waiting"
            trains = isinstance(item, Job)
            context = Context(folder=folder)
            records = tuple(run_job(item, context)) if isinstance(item, Job) else ()
            feed.tell(item, ItemResult(records=records))
            assert trains or item.task.resolution == side  # timed at the last rung's resolution
    rows = Ledger.open(folder).trials()
    assert Counter(row.state for row in rows) == {"early": 3, "done": 1}
    return rows


@pytest.mark.slow
def test_cool_down_and_restart_give_the_same_result(tmp_path: Path) -> None:
    again = trained_in_full(tmp_path / "restart", scheme="restart")
    shared = trained_in_full(tmp_path / "cool-down")
    assert [row.metrics for row in shared] == [row.metrics for row in again]
    # networks that were not promoted yet could still be
    assert len([*(tmp_path / "cool-down" / "checkpoints").iterdir()]) == 2
    delete_trunk_checkpoints(tmp_path / "cool-down")
    assert [*(tmp_path / "cool-down" / "checkpoints").iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rung", "side"),
    [
        ({"recipe.width_share": "1/2"}, 8),
        ({"recipe.data_share": "1/2"}, 8),
        ({"task.resolution": 8}, 16),
    ],
)
def test_width_data_share_and_resolution_are_fidelities(
    tmp_path: Path, rung: dict[str, Any], side: int
) -> None:
    rows = trained_in_full(tmp_path, side, rungs=[rung])
    assert {row.fidelity for row in rows} == {4}
    early = {row.digest: row for row in rows if row.state == "early"}
    (full,) = [row for row in rows if row.state == "done"]
    assert early[full.digest].metrics != full.metrics
    assert early[full.digest].key != full.key
