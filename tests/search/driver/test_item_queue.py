"""Seeds of one network go to a worker together, if it has lanes for them."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.job import Job
from partialnas.search.driver.scheduler import Scheduler, make_source
from partialnas.search.executors.base import END, WAIT, ItemResult, failed_result
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.session.open_ledger import open_ledger
from partialnas.search.session.progress import Progress
from partialnas.search.study.study import Study

PLAIN: dict[str, Any] = {
    "study": "lanes",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 4, "depths": [1, 1, 1, 1], "head_width": 16},
    "recipe": {"epochs": 2},
    "seeds": 3,
    "objectives": {"val_nll": "min"},
    "measure": {"when": "never"},
    "executor": {"kind": "in-process"},
}
ARMS = {"arms": {"a": {}, "b": {"width": 8}}}
CONDITIONS = {"arms": {"a": {}}, "conditions": {"short": {}, "long": {"recipe.epochs": 3}}}
SEARCH = {
    "space": {"axes": {"width": [4, 8, 12, 16, 20, 24]}},
    "search": {"sampler": "random"},
    "budget": {"trials": 12},
}


def failure(job: Job) -> ItemResult:
    """Return a result, without training."""
    return failed_result(job, "not trained")


def handed_out(
    settings: dict[str, Any], folder: Path, lanes: int, workers: int = 1, in_flight: int = 1
) -> tuple[list[Job], set[str]]:
    """Return the jobs of a study in their order, and the keys of its trials in the ledger."""
    resolved = resolve_study(Study.model_validate(PLAIN | settings), folder)
    progress = Progress(Console(file=StringIO()))
    jobs: list[Job] = []
    with open_ledger(resolved, folder / "study", progress, base_dir=folder) as ledger:
        feed = Scheduler(resolved, ledger, make_source(resolved), str, lanes=lanes, workers=workers)
        running: list[Job] = []
        while (item := feed.ask()) is not END:
            if item is not WAIT:
                assert isinstance(item, Job)
                jobs.append(item)
                running.append(item)
                assert feed.running_trials == sum(len(job.seeds) for job in running)
            if item is WAIT or len(running) == in_flight:
                job = running.pop(0)
                feed.tell(job, failure(job))
        while running:
            job = running.pop(0)
            feed.tell(job, failure(job))
        assert feed.running_trials == 0
        return jobs, keys_in(ledger)


def keys_in(ledger: Ledger) -> set[str]:
    return {row.key for row in ledger.trials()}


@pytest.mark.parametrize(
    ("lanes", "workers", "seeds"),
    [
        (1, 1, [(0,), (0,), (1,), (1,), (2,), (2,)]),
        (2, 1, [(0, 1), (0, 1), (2,), (2,)]),
        (8, 1, [(0, 1, 2), (0, 1, 2)]),
        (8, 2, [(0, 1, 2), (0, 1), (2,)]),  # each of the two workers has half of what is left
        (8, 6, [(0,), (0,), (1,), (1,), (2,), (2,)]),  # no worker is left without a job
    ],
)
def test_arms_are_trained_seed_by_seed_or_lanes_by_lanes(
    lanes: int, workers: int, seeds: list[tuple[int, ...]], tmp_path: Path
) -> None:
    jobs, keys = handed_out(ARMS, tmp_path, lanes, workers)
    assert [job.seeds for job in jobs] == seeds
    assert keys == {key for job in jobs for key in job.trial_keys.values()}
    assert len(keys) == 6


def test_the_same_network_under_other_conditions_is_another_job(tmp_path: Path) -> None:
    jobs, keys = handed_out(CONDITIONS, tmp_path, lanes=8)
    assert [(job.fidelity, job.seeds) for job in jobs] == [(2, (0, 1, 2)), (3, (0, 1, 2))]
    assert len(keys) == 6


def test_a_proposed_network_is_trained_with_all_of_its_seeds_at_once(tmp_path: Path) -> None:
    jobs, keys = handed_out(SEARCH, tmp_path, lanes=8, workers=4, in_flight=4)
    assert [job.seeds for job in jobs] == [(0, 1, 2)] * 4
    assert len(keys) == 12
