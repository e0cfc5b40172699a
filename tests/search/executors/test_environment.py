"""Surroundings of a run that are not of its making: folders, variables, files beside the study."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.executors import ray_tune
from partialnas.space.errors import MachineError, UserError

STUDY: dict[str, Any] = {
    "study": "small",
    "task": {"data": "digits", "resolution": 8},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "recipe": {"use": "short", "epochs": 1, "data_share": "1/10"},
    "measure": {"max_seconds": 0.1, "retries": 0},
    "arms": {"a": {}},
    "objectives": {"val_nll": "min", "params": "min"},
}

HOSTILE = {
    "HOME": "/nowhere/at/all",
    "TMPDIR": "/nowhere/either",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "RAY_ADDRESS": "127.0.0.1:1",
    "RAY_AUTH_TOKEN_PATH": "/nowhere/token",
    "http_proxy": "http://127.0.0.1:1",
    "https_proxy": "http://127.0.0.1:1",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["in-process", "ray"])
def test_installed_modules_win_and_foreign_variables_do_no_harm(tmp_path: Path, kind: str) -> None:
    for library in ("timm", "torch", "ray", "partialnas"):
        (tmp_path / library).mkdir()
        (tmp_path / library / "__init__.py").write_text("__version__ = '0.6.12'")
    for library in ("random", "numpy", "yaml", "pickle"):
        (tmp_path / f"{library}.py").write_text("raise SystemExit('not the installed module')")
    (tmp_path / "partialnas" / "__init__.py").unlink()
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**STUDY, "executor": {"kind": kind}}))
    command = [sys.executable, "-m", "partialnas", "run", "study.yaml", "--out", "out"]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | HOSTILE,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    log = tmp_path / "out" / "workers.log"
    assert run.returncode == 0, run.stderr + (log.read_text() if log.exists() else "")
    with Ledger.open(tmp_path / "out") as ledger:
        (row,) = ledger.trials()
    assert (row.state, row.reason) == ("done", None)


def test_a_file_on_the_path_of_python_that_hides_a_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("x = 1")
    (tmp_path / "study.yaml").touch()
    run = subprocess.run(
        [sys.executable, "-m", "partialnas", "check", str(tmp_path / "study.yaml")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "bug" not in run.stderr
    assert str(tmp_path / "yaml.py") in run.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "is not a folder"),
        ("long" * 20, "bytes too long"),
        ("größe", "beyond ASCII"),
        ("file", "is not a folder"),
        ("locked", "cannot be written"),
    ],
)
def test_an_unusable_folder_for_ray_is_a_mistake_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    folder = Path("/proc") if name == "locked" else tmp_path / name
    if name == "file":
        folder.touch()
    elif name not in ("missing", "locked"):
        folder.mkdir()
    if name == "locked":
        monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    with pytest.raises(UserError, match=f"RAY_TMPDIR: .*{reason}"):
        ray_tune._temporary_folder()


def test_without_a_usable_temporary_folder_the_machine_is_at_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(ray_tune, "_unusable", lambda folder: f"{folder} is full")
    with pytest.raises(MachineError, match="Set RAY_TMPDIR"):
        ray_tune._temporary_folder()


def test_every_ray_gets_its_own_token_and_a_cluster_keeps_that_of_its_user() -> None:
    user = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "mine", "RAY_AUTH_TOKEN_PATH": "p"}
    first, second = (ray_tune._environment(user, joins_cluster=False) for _ in range(2))
    assert first["RAY_AUTH_TOKEN"] not in ("mine", second["RAY_AUTH_TOKEN"])
    assert len(first["RAY_AUTH_TOKEN"]) >= 32
    assert first["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN_PATH" not in first
    assert user.items() <= ray_tune._environment(user, joins_cluster=True).items()
