"""Hints at missing packages name the command that matches the installation."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import setuptools

from partialnas import installation

PACKAGE = Path(installation.__file__).parents[1]


PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "partialnas"
version = "1"
[tool.setuptools]
packages = ["partialnas"]
"""


class Installed:
    """Metadata of an installed distribution."""

    def __init__(self, origin: dict[str, Any] | None) -> None:
        self.files = {"INSTALLER": "pip"}
        if origin is not None:
            self.files["direct_url.json"] = json.dumps(origin)

    def read_text(self, name: str) -> str | None:
        return self.files.get(name)


def command_for(origin: dict[str, Any] | None, patch: pytest.MonkeyPatch) -> str:
    patch.setattr(installation, "distributions", lambda name: [Installed(origin)])  # noqa: ARG005
    return installation.install_command("onnx")


@pytest.mark.parametrize("editable", [True, False])
def test_a_checkout(editable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my checkout"
    folder.mkdir()
    info = {"editable": True} if editable else {}
    origin = {"url": folder.as_uri(), "dir_info": info}
    flag = "-e " if editable else ""
    assert command_for(origin, monkeypatch) == f"pip install {flag}'{folder}[onnx]'"
    monkeypatch.chdir(folder)
    assert command_for(origin, monkeypatch) == f"pip install {flag}'.[onnx]'"


def test_a_wheel_that_is_there_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "partialnas-0.2.0-py3-none-any.whl"
    origin = {"url": wheel.as_uri(), "archive_info": {}}
    command = command_for(origin, monkeypatch)
    assert command.startswith("pip install 'onnx>=")
    assert "'onnxruntime>=" in command
    assert "pytest" not in command
    wheel.touch()
    assert command_for(origin, monkeypatch) == f"pip install '{wheel}[onnx]'"


def test_a_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = {
        "url": "ssh://git@example.org/nas.git",
        "vcs_info": {"vcs": "git", "commit_id": "0123abc", "requested_revision": "main"},
    }
    expected = "'partialnas[onnx] @ git+ssh://git@example.org/nas.git@0123abc'"
    assert command_for(origin, monkeypatch) == f"pip install {expected}"


def test_an_index_and_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command_for(None, monkeypatch) == "pip install 'partialnas[onnx]'"
    monkeypatch.setattr(installation, "distributions", lambda name: [])  # noqa: ARG005
    monkeypatch.chdir("/")
    expected = f"pip install -e '{PACKAGE}[onnx]'"
    assert installation.install_command("onnx").replace("'", "") == expected.replace("'", "")


def test_no_other_message_spells_the_command() -> None:
    rooms = ("space", "runs", "search", "analysis", "partialnas")
    sources = (path for room in rooms for path in (PACKAGE / room).rglob("*.py"))
    spelled = [path for path in sources if "pip install 'partialnas[" in path.read_text("utf-8")]
    assert not spelled


@pytest.mark.slow
@pytest.mark.parametrize("what", ["editable", "folder"])
def test_pip_records_what_the_hint_reads(what: str, tmp_path: Path) -> None:
    """Install a tiny project of the same name, and ask there."""
    project = tmp_path / "project"
    (project / "partialnas").mkdir(parents=True)
    shutil.copy(installation.__file__, project / "partialnas" / "installation.py")
    (project / "pyproject.toml").write_text(PROJECT)
    python = tmp_path / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parents[1]], check=True)
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    for pattern in ("setuptools*", "_distutils_hack"):  # for the build
        for path in Path(setuptools.__file__).parents[1].glob(pattern):
            (site / path.name).symlink_to(path)
    flag = ["-e"] if what == "editable" else []
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    options = ["--no-build-isolation", "--no-deps", "--no-index"]
    command = [*command, *options, *flag, str(project)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    code = "from partialnas.installation import install_command as c; print(c('onnx'))"
    asked = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    prefix = "-e " if what == "editable" else ""
    assert asked.stdout.strip() == f"pip install {prefix}'{project}[onnx]'"
