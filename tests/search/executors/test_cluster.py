"""A Ray cluster of two nodes: copied code, a lost node, isolated trials."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.job import Job
from partialnas.runs.records.subject import TimmModel
from partialnas.search.executors.base import END, End, ItemResult, Wait, failed_result
from partialnas.search.executors.cluster_files import copy_modules, user_modules
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study

TASK = Task(data="digits", resolution=8, channels=1, classes=10)


def job(name: str) -> Job:
    subject, recipe = TimmModel(timm=name), RECIPES["short"]
    return Job(subject=subject, task=TASK, recipe=recipe, fidelity=1, seeds=(0,))


@dataclass
class Listed:
    todo: list[str]
    results: list[tuple[str, str]] = field(default_factory=list)

    def ask(self) -> Job | Wait | End:
        return job(self.todo.pop(0)) if self.todo else END

    def tell(self, item: Job, outcome: ItemResult) -> None:
        (record,) = outcome.records
        assert isinstance(item.subject, TimmModel)
        self.results.append((item.subject.timm, f"{record.state}: {record.reason}"))


def where(item: Job) -> ItemResult:
    return failed_result(item, str(os.getpid()), "done")


@dataclass(frozen=True)
class Lasting:
    """Work that writes its node, waits for the other node, and then sleeps."""

    folder: Path

    def __call__(self, item: Job) -> ItemResult:
        import ray

        assert isinstance(item.subject, TimmModel)
        node = ray.get_runtime_context().get_node_id()
        with (self.folder / "starts").open("a") as starts:
            starts.write(f"{item.subject.timm} {node}\n")
        while len(set(_column(self.folder / "starts", 1))) < 2:
            time.sleep(0.1)
        time.sleep(4)
        return failed_result(item, node, "done")


@pytest.fixture
def by_value() -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster in this process tree, whose head does no work."""
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # at normal priority, for predictable times
    ray_cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield ray_cluster
    ray_cluster.shutdown()


STUDY: dict[str, Any] = {
    "study": "travels",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16, 20, 24]}},
    "search": {"sampler": "random"},
    "objectives": {"val_nll": "min"},
    "budget": {"trials": 4},
    "executor": {"kind": "ray", "workers": 2},
    "trial": "my_trial:evaluate",
}

MY_TRIAL = """
import os
import helper
import partialnas
from helpers.deep import constant

def evaluate(architecture, seed, epochs):
    with open(os.environ["PARTIALNAS_TEST_MARK"], "a") as mark:
        mark.write(f"{partialnas.__file__} {__file__} {helper.__file__}\\n")
    return {"val_nll": constant / architecture.widths[0]}
"""


@pytest.mark.slow
def test_code_is_copied_to_the_workers_of_a_cluster(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("PARTIALNAS_TEST_MARK", str(mark))
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    beside = tmp_path / "study"
    (beside / "helpers").mkdir(parents=True)
    (beside / "helpers" / "__init__.py").touch()
    (beside / "helpers" / "deep.py").write_text("constant = 2")
    (beside / "helper.py").touch()
    (beside / "my_trial.py").write_text(MY_TRIAL)
    # on this machine, workers could also import a checkout on the path or in this folder
    monkeypatch.chdir(tmp_path)
    checkout = Path(__file__).parents[3]
    monkeypatch.setattr(sys, "path", [p for p in sys.path if Path(p).resolve() != checkout])
    study = Study.model_validate(STUDY)
    run_study(study, tmp_path / "out", base_dir=beside, address=cluster.address)
    with Ledger.open(tmp_path / "out") as ledger:
        assert ledger.state_counts()["done"] == 4
    used = {path for line in mark.read_text().splitlines() for path in line.split()}
    assert all("runtime_resources/py_modules_files" in path for path in used), used


@pytest.mark.slow
def test_a_lost_node_costs_no_trial(cluster: Any, tmp_path: Path, by_value: None) -> None:  # noqa: ARG001
    from partialnas.search.executors.ray_tune import RayTune

    cluster.add_node(num_cpus=1)
    doomed = cluster.add_node(num_cpus=1)
    starts = tmp_path / "starts"

    def lose() -> None:
        while not starts.exists() or len(set(_column(starts, 1))) < 2:
            time.sleep(0.1)
        cluster.remove_node(doomed, allow_graceful=False)

    loser = threading.Thread(target=lose)
    loser.start()
    feed = Listed([f"net{i}" for i in range(4)])
    RayTune(folder=tmp_path, workers=2, address=cluster.address).run(feed, Lasting(tmp_path))
    loser.join()
    assert sorted(name for name, _ in feed.results) == [f"net{i}" for i in range(4)]
    assert all(result.startswith("done") for _, result in feed.results), feed.results
    assert len({result for _, result in feed.results}) == 1
    assert len(_column(starts, 0)) == 5


def _column(path: Path, number: int) -> list[str]:
    return [line.split()[number] for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(("isolate", "processes"), [(False, 1), (True, 4)])
def test_isolated_trials_have_separate_processes(
    tmp_path: Path,
    isolate: bool,
    processes: int,
    by_value: None,  # noqa: ARG001
) -> None:
    from partialnas.search.executors.ray_tune import RayTune

    feed = Listed([f"net{i}" for i in range(4)])
    RayTune(folder=tmp_path, workers=1, isolate=isolate).run(feed, where)
    assert len(feed.results) == 4
    assert len({result for _, result in feed.results}) == processes


def test_only_python_files_beside_the_study_are_copied(tmp_path: Path) -> None:
    beside, stage = tmp_path / "beside", tmp_path / "stage"
    for name in (
        "package/__init__.py",
        "package/__pycache__/x.pyc",
        "results/big.bin",
        "study.yaml",
    ):
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        (beside / name).touch()
    (beside / "my_trial.py").write_text("x = 1")
    stage.mkdir()
    copies = copy_modules(user_modules(beside), stage)
    assert [copy.name for copy in copies] == ["partialnas", "my_trial.py", "package"]
    assert (stage / "my_trial.py").read_text() == "x = 1"
    assert [path.name for path in (stage / "package").rglob("*")] == ["__init__.py"]
    for module in (
        "space/arch/architecture.py",
        "runs/ledger/ledger.py",
        "search/driver/scheduler.py",
        "py.typed",
    ):
        assert (stage / "partialnas" / module).is_file()
    assert not [path for path in (stage / "partialnas").rglob("*") if path.is_symlink()]


def test_isolation_requires_worker_processes() -> None:
    with pytest.raises(ValueError, match="isolate"):
        Study.model_validate({**STUDY, "executor": {"kind": "in-process", "isolate": True}})
