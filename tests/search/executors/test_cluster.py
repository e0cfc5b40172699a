"""A Ray cluster of two nodes: copied code, a lost node, isolated trials."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from worker_functions import Listed, OnTwoNodes, column, settings_of_gpu

from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.executors.cluster_files import copy_modules, user_modules
from partialnas.search.executors.ray_tune import RayTune, cluster_hardware
from partialnas.search.resolve.resources import Hardware
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster in this process tree, whose head does no work."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on the loopback interface
    from ray._private import node, ray_constants
    from ray.cluster_utils import Cluster

    from partialnas.search.executors.ray_process import LeanNode

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    monkeypatch.setattr(node, "Node", LeanNode)
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
    "executor": {"kind": "ray", "workers": 2, "device": "cpu"},
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
    for library in ("numpy.py", "random.py", "timm.py"):
        (beside / library).write_text("raise ImportError('not the installed module')")
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
def test_a_lost_node_costs_no_item(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    doomed = cluster.add_node(num_cpus=1)
    starts = tmp_path / "starts"

    def lose() -> None:
        while not starts.exists() or len(set(column(starts, 1))) < 2:
            time.sleep(0.1)
        cluster.remove_node(doomed, allow_graceful=False)

    loser = threading.Thread(target=lose, daemon=True)
    loser.start()
    feed = Listed([f"net{i}" for i in range(4)])
    RayTune(folder=tmp_path, workers=2, address=cluster.address).run(feed, OnTwoNodes(tmp_path))
    loser.join(timeout=60)
    assert not loser.is_alive()
    assert sorted(name for name, _ in feed.results) == [f"net{i}" for i in range(4)]
    reasons = {feed.reason(name) for name, _ in feed.results}
    assert len(reasons) == 1, reasons
    assert reasons.pop().startswith("done")
    assert len(column(starts, 0)) == 5
    deadline = time.monotonic() + 20
    while any("ResourceTrainable" in " ".join(p.cmdline()) for p in _descendants()):
        assert time.monotonic() < deadline, "workers outlive their driver"
        time.sleep(0.1)


def _descendants() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [p for p in children if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_the_gpus_of_a_cluster_are_used_from_a_machine_without_one(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")
    cluster.add_node(num_cpus=3, num_gpus=2)
    assert cluster_hardware(cluster.address) == Hardware(cpus=3, gpus=2)
    feed = Listed(["one"])
    RayTune(folder=tmp_path, address=cluster.address, gpus_per_trial=0.5).run(feed, settings_of_gpu)
    assert feed.reason("one") in [f"done: {gpu} max_split_size_mb:64" for gpu in (0, 1)]


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
    package, modules = copies
    assert package == stage / "partialnas"
    assert sorted(path.name for path in modules.iterdir()) == ["my_trial.py", "package"]
    assert (modules / "my_trial.py").read_text() == "x = 1"
    assert [path.name for path in (modules / "package").rglob("*")] == ["__init__.py"]
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
