"""Limits on speeds in a search: one scale for test and display, the same after every resume."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from rich.console import Console

from partialnas.analysis import front, load, load_trials
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.runs.records.subject import subject_digest
from partialnas.search.driver.candidate import Candidate
from partialnas.search.driver.running_front import by_feasibility
from partialnas.search.driver.scheduler import Scheduler, make_source
from partialnas.search.executors.base import END, ItemResult, failed_result
from partialnas.search.executors.tasks import Item, TimingJob
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.session.open_ledger import open_ledger
from partialnas.search.session.progress import Progress
from partialnas.search.study.study import Study

LATENCY = {"latency_ms": {"max": 10.0}}
BAND = {"throughput_img_s": {"min": 90.0, "max": 260.0}, "val_nll": {"max": 0.95}}
RELATIVE = {"relative_throughput": {"min": 1.0}}


def study(sampler: str = "evolution", limits: Any = LATENCY, **search: Any) -> Study:
    return Study.model_validate(
        {
            "study": "limited",
            "task": {"data": "digits"},
            "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
            "space": {
                "axes": {"width": [*range(8, 48, 4)], "mlp_ratio": [1, 2, 3], "parts": [2, 3]}
            },
            "recipe": {"epochs": 9},
            "search": {"sampler": sampler, "population": 4, **search},
            "objectives": {"val_nll": "min", "throughput_img_s": "max"},
            "limits": limits,
            "measure": {"device": "cpu", "batch_size": 1, "retries": 0},
            "budget": {"trials": 20},
            "executor": {"kind": "in-process"},
        }
    )


@cache
def prepared_study(limited: str) -> ResolvedStudy:
    return resolve_study(Study.model_validate_json(limited), Path())


@contextmanager
def scheduling(limited: Study, folder: Path) -> Iterator[tuple[Scheduler, Ledger]]:
    prepared = prepared_study(limited.model_dump_json(by_alias=True))
    progress = Progress(Console(file=StringIO()))
    with open_ledger(prepared, folder, progress, base_dir=folder) as ledger:
        ledger.requeue_running()
        yield Scheduler(prepared, ledger, make_source(prepared), progress.event), ledger


def result_of(item: Item, ledger: Ledger) -> ItemResult:
    """Return a simulated result; the machine's speed depends on how often it has measured."""
    if isinstance(item, TimingJob):
        return ItemResult(measurement=measured(item, ledger.count_measured_networks()))
    rng = random.Random(subject_digest(item.subject))
    facts = {"digest": subject_digest(item.subject), "name": "", "fidelity": item.fidelity}
    metrics = {"val_nll": rng.random() + 1 / item.fidelity, "val_accuracy": 50.0}
    ((seed, key),) = item.trial_keys.items()
    ended: dict[str, Any] = {"state": "done"}
    if item.rung:
        ended = {"state": "early", "reason": item.rung}
    record = Record(key=key, seed=seed, metrics=metrics, **ended, **facts)  # type: ignore[arg-type]
    return ItemResult(records=(record,))


def measured(item: TimingJob, count: int) -> Measurement:
    digest, protocol = subject_digest(item.subject), item.protocol
    relative = 0.5 + random.Random(digest).random()
    reference = 100.0 * (1 + 0.4 * math.sin(count)) + 2 * count
    return Measurement(
        digest=digest, name=digest, device="cpu", device_kind="cpu", threads=protocol.threads,
        batch_size=protocol.batch_size, resolution=item.task.resolution,
        in_chans=item.task.channels, precision=protocol.precision, form=protocol.form,
        throughput_img_s=relative * reference, latency_ms=1000 / (relative * reference),
        relative_throughput=relative, relative_low=0.99 * relative, relative_high=1.01 * relative,
        reference_digest="r" * 16, reference_name="r", reference_form=protocol.form,
        reference_throughput_img_s=reference, rounds=30, wall_cpu_gap=0.0, noisy=False, load=0.0,
        environment={"processor": "Chip 9"}, taken="2030-01-01T00:00:00+00:00",
    )  # fmt: skip


def result_or_failed_timing(item: Item, ledger: Ledger) -> ItemResult:
    """Return a simulated result; a quarter of the networks cannot be timed."""
    if isinstance(item, TimingJob) and random.Random(subject_digest(item.subject)).random() < 0.25:
        return failed_result(item, "cannot run")
    return result_of(item, ledger)


def run_items(
    limited: Study,
    folder: Path,
    count: float = math.inf,
    result: Callable[[Item, Ledger], ItemResult] = result_of,
) -> bool:
    """Work on some items in a new session and stop without a trace; return whether it ended."""
    with scheduling(limited, folder) as (scheduler, ledger):
        while (item := scheduler.ask()) is not END:
            assert isinstance(item, Job | TimingJob)
            if (count := count - 1) < 0:  # killed while the item runs
                return False
            scheduler.tell(item, result(item, ledger))
            if (count := count - 1) < 0:  # killed after the result was recorded
                return False
    return True


def proposals(folder: Path) -> list[tuple[str, Any]]:
    with Ledger.open(folder) as ledger:
        return [(row.digest, row.proposal) for row in ledger.proposals()]


@pytest.mark.parametrize(
    ("sampler", "limits", "search"),
    [
        ("evolution", LATENCY, {}),
        pytest.param("front-evolution", BAND, {}, marks=pytest.mark.slow),
        ("nsga2", LATENCY, {}),
        pytest.param("hybrid", LATENCY, {}, marks=pytest.mark.slow),
        pytest.param("hybrid", BAND, {}, marks=pytest.mark.slow),
        ("evolution", LATENCY, {"rungs": [{"recipe.epochs": 3}], "promote": "1/2"}),
        pytest.param("evolution", RELATIVE, {}, marks=pytest.mark.slow),
        pytest.param("tpe", BAND, {}, marks=pytest.mark.slow),
    ],
)
def test_a_search_killed_anywhere_proposes_the_same_networks(
    tmp_path: Path, sampler: str, limits: Any, search: dict[str, Any]
) -> None:
    limited = study(sampler, limits, **search)
    assert run_items(limited, tmp_path / "whole")
    rng = random.Random(5)
    for _ in range(100):
        if run_items(limited, tmp_path / "pieces", rng.randrange(1, 12)):
            break
    whole = proposals(tmp_path / "whole")
    assert proposals(tmp_path / "pieces") == whole
    assert len(whole) >= 20


@pytest.mark.parametrize(
    ("sampler", "search"),
    [
        ("evolution", {}),
        ("evolution", {"rungs": [{"recipe.epochs": 3}], "promote": "1/2"}),
        pytest.param("nsga2", {}, marks=pytest.mark.slow),
        pytest.param("hybrid", {}, marks=pytest.mark.slow),
    ],
)
def test_a_network_that_cannot_be_timed_is_timed_once_in_all_sessions(
    tmp_path: Path, sampler: str, search: dict[str, Any]
) -> None:
    limited = study(sampler, LATENCY, **search)
    assert run_items(limited, tmp_path / "whole", result=result_or_failed_timing)
    rng = random.Random(5)
    for _ in range(100):
        if run_items(limited, tmp_path / "pieces", rng.randrange(1, 12), result_or_failed_timing):
            break
    assert proposals(tmp_path / "pieces") == proposals(tmp_path / "whole")
    failed = [failed_timings(tmp_path / name) for name in ("whole", "pieces")]
    assert failed[0] == failed[1]
    assert len({*failed[0]}) == len(failed[0]) > 2


def failed_timings(folder: Path) -> list[str]:
    with Ledger.open(folder) as ledger:
        return [timing.digest for timing in ledger.study.failed_timings]


def test_a_noisy_network_whose_further_timings_fail_is_retried_as_often_as_allowed(
    tmp_path: Path,
) -> None:
    """The first timing of each network is noisy, all others fail."""
    limited = study().model_copy(update={"measure": study().measure.model_copy(
        update={"retries": 2})})  # fmt: skip
    timed: dict[str, int] = {}

    def result(item: Item, ledger: Ledger) -> ItemResult:
        if not isinstance(item, TimingJob):
            return result_of(item, ledger)
        digest = subject_digest(item.subject)
        timed[digest] = timed.get(digest, 0) + 1
        if timed[digest] > 1:
            return failed_result(item, "cannot run")
        return ItemResult(measurement=measured(item, 0).model_copy(update={"noisy": True}))

    assert run_items(limited, tmp_path, result=result)
    assert {*timed.values()} == {3}
    assert all(c.speeds[0] is not None for c in candidates_of(limited, tmp_path))


def test_networks_that_could_not_be_timed_are_timed_again_on_request(tmp_path: Path) -> None:
    limited = study()
    assert run_items(limited, tmp_path, result=result_or_failed_timing)
    before = {c.digest for c in candidates_of(limited, tmp_path) if c.speeds[0] is None}
    assert run_items(limited, tmp_path)
    assert before == {c.digest for c in candidates_of(limited, tmp_path) if c.speeds[0] is None}
    with Ledger.open(tmp_path, write=True) as ledger:
        assert ledger.retry_timings() == len(before) > 0
        assert ledger.retry_timings() == 0
    assert run_items(limited, tmp_path)
    assert all(c.speeds[0] is not None for c in candidates_of(limited, tmp_path))
    assert len(failed_timings(tmp_path)) == len(before)


def candidates_of(limited: Study, folder: Path) -> list[Candidate]:
    with scheduling(limited, folder) as (scheduler, _):
        return [*scheduler.pool.candidates.values()]


@pytest.mark.parametrize("limits", [LATENCY, BAND, RELATIVE])
def test_the_search_tests_the_numbers_that_tables_show(tmp_path: Path, limits: Any) -> None:
    limited = study(limits=limits)
    assert run_items(limited, tmp_path)
    with Ledger.open(tmp_path) as ledger:
        taken = ledger.measurements()
    scale = median(m.reference_throughput_img_s or 0.0 for m in taken)
    rows = front(load(tmp_path), limited.objectives).set_index("digest")
    tested = {c.digest: c for c in candidates_of(limited, tmp_path)}
    for m in taken:
        throughput = (m.relative_throughput or 0.0) * scale
        expected = {"throughput_img_s": throughput, "latency_ms": 1000 / throughput}
        assert tested[m.digest].mean_values(expected) == expected
        assert rows.loc[m.digest, [*expected]].to_dict() == expected
    feasible, _ = by_feasibility(tested.values(), limited.objectives, limited.limits)
    assert {c.digest for c in feasible} == {*rows.index[rows["feasible"]]}
    assert 0 < len(feasible) < len(taken)
    as_timed = [
        all(not limit.excess(getattr(m, key)) > 0 for key, limit in limited.limits.items()
            if key in ("latency_ms", "throughput_img_s"))
        for m in taken
    ]  # fmt: skip
    if limits is not RELATIVE:  # the drift matters
        assert as_timed != [bool(rows.loc[m.digest, "feasible"]) for m in taken]
    assert load_trials(tmp_path).limits
