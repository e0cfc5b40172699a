import getpass
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from fake_nvml import FakeNvml, Gpu, InstallNvml

from partialnas.runs.system import environment as module
from partialnas.runs.system.environment import code_version, environment, load_average

A = Gpu("GPU-aaaa-1", "Card A")
B = Gpu("GPU-bbbb-2", "Card B", compute_capability=(7, 5))


@pytest.fixture(autouse=True)
def forget_facts() -> Iterator[None]:
    """Forget the facts of simulated GPUs after each test."""
    yield
    module._facts.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    run = subprocess.run(
        ["git", "-C", str(folder), *settings, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_facts_are_those_of_python_and_the_installed_packages() -> None:
    facts = environment()
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert str(facts["platform"]).startswith(platform.system())
    assert 1 <= facts["cores"] <= (os.cpu_count() or 1)
    for library in ("partialnas", "torch", "timm", "numpy", "ray", "optuna"):
        assert facts[library] == metadata.version(library)


def test_facts_are_plain_data_and_each_caller_has_its_own() -> None:
    facts = environment()
    assert json.loads(json.dumps(facts)) == facts
    facts["python"] = "changed"
    assert environment()["python"] != "changed"


def test_facts_contain_no_names_and_no_paths() -> None:
    facts = json.dumps(environment())
    assert socket.gethostname() not in facts.split('"')
    assert str(Path.home()) not in facts
    assert str(Path.cwd()) not in facts
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in facts


def test_code_is_the_commit_of_a_checkout(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert commit.startswith(code_version(checkout))
    (checkout / "file").write_text("two")
    assert code_version(checkout).endswith("-dirty")
    git(checkout, "commit", "--quiet", "-am", "second")
    git(checkout, "tag", "v1.2")
    assert code_version(checkout) == "v1.2"


def test_code_is_the_version_where_there_is_no_commit(tmp_path: Path) -> None:
    version = metadata.version("partialnas")
    assert code_version(tmp_path) == version
    git(tmp_path, "init", "--quiet")
    assert code_version(tmp_path) == version


def test_code_is_the_version_where_git_is_missing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert code_version(checkout) == metadata.version("partialnas")


def test_a_package_inside_somebody_elses_checkout_is_not_that_checkout(checkout: Path) -> None:
    inside = checkout / "lib"
    inside.mkdir()
    assert code_version(inside) == metadata.version("partialnas")


@pytest.mark.parametrize(
    ("gpus", "counted", "capability"),
    [
        ([A, A], "2 x Card A", "9.0"),
        ([B, A], "Card A, Card B", "7.5, 9.0"),
        ([], None, None),
    ],
)
def test_gpus_are_counted(
    install_nvml: InstallNvml, gpus: list[Gpu], counted: str | None, capability: str | None
) -> None:
    install_nvml(FakeNvml(gpus))
    module._facts.cache_clear()
    facts = environment()
    assert facts.get("gpus") == counted
    assert facts.get("compute_capability") == capability
    assert facts.get("driver") == ("580.65.06" if gpus else None)


@pytest.mark.parametrize("nvml", [None, FakeNvml([A], has_driver=False)])
def test_without_nvml_there_are_no_gpus(install_nvml: InstallNvml, nvml: FakeNvml | None) -> None:
    install_nvml(nvml)
    module._facts.cache_clear()
    assert not {"gpus", "driver", "cuda", "cudnn"} & environment().keys()


def test_versions_of_cuda_are_those_of_torch(install_nvml: InstallNvml) -> None:
    import torch

    install_nvml(FakeNvml([A]))
    module._facts.cache_clear()
    facts = environment()
    assert facts.get("cuda") == torch.version.cuda
    assert facts.get("cudnn") == torch.backends.cudnn.version()


def test_a_version_that_torch_does_not_know_is_left_out(
    install_nvml: InstallNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: None)
    install_nvml(FakeNvml([A]))
    module._facts.cache_clear()
    facts = environment()
    assert facts["cuda"] == "13.0"
    assert "cudnn" not in facts


def test_load_is_the_load_average() -> None:
    assert load_average() == pytest.approx(os.getloadavg()[0], abs=0.5)


def test_no_torch_is_imported() -> None:
    program = (
        "import sys; from partialnas.runs.system.environment import environment; environment();"
        "assert not {'torch', 'ray', 'timm', 'optuna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
