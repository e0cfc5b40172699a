"""Wheel, source distribution and repository are complete, and run in a fresh environment."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("space", "runs", "search", "analysis")
NOT_SOURCE = (
    *(".git", ".venv", "results", "build", "dist", "*.egg-info", ".*_cache", ".hypothesis"),
    *(".benchmarks", ".coverage"),
)
"""What the top folder of a checkout holds beside the files of the repository."""

pytestmark = pytest.mark.slow


def run(*command: object, folder: Path) -> str:
    """Run a command in a folder; return its output, both streams together."""
    ended = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-4000:]
    return ended.stdout


PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
BUILD = ("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-v", "-w")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree without what is not in the repository."""
    copy = tmp_path_factory.mktemp("source") / "partialnas"

    def ignored(folder: str, names: list[str]) -> set[str]:
        patterns = NOT_SOURCE if Path(folder) == ROOT else ("__pycache__",)
        return shutil.ignore_patterns(*patterns)(folder, names)

    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy = shutil.copytree(source, folder / "source", symlinks=True)
    output = run(*PIP, *BUILD, folder, copy, folder=folder)
    assert "Warning" not in output, output
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    copy = shutil.copytree(source, folder / "source", symlinks=True)
    code = "from setuptools import build_meta; build_meta.build_sdist('../out')"
    output = run(sys.executable, "-c", code, folder=copy)
    assert "warning: no files found" not in output.lower(), output
    (archive,) = (folder / "out").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (unpacked,) = folder.glob("partialnas-*")
    return unpacked


@pytest.fixture(scope="module")
def make_environment(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Path], Path]:
    """Return a function that installs a wheel into a fresh environment with our dependencies."""

    def make(package: Path) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
        python = folder / "bin" / "python"
        run(
            *PIP, "--python", python, "install", "--quiet", "--no-deps", "--no-index", package,
            folder=folder,
        )  # fmt: skip
        # last on the path; the links to checkouts there are not followed from a .pth file
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        return folder / "bin"

    return make


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def expected_names(source: Path) -> set[str]:
    """Return the modules and data files of the package, as a wheel holds them."""
    settings = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    files = set()
    for folder in (source / "partialnas", *(source / room for room in ROOMS)):
        prefix = "" if folder.name == "partialnas" else "partialnas/"
        for path in folder.rglob("*"):
            name = path.relative_to(source).as_posix()
            if path.is_file() and "/notebooks/" not in name:
                files.add(prefix + name)
    assert len(settings["packages"]) > 30
    return files


def test_the_wheel_has_every_module_and_data_file_and_nothing_else(
    wheel: Path, source: Path
) -> None:
    assert names_in(wheel) == expected_names(source)


def test_the_source_distribution_is_the_repository(sdist: Path, source: Path) -> None:
    links = tuple(f"partialnas/{room}/" for room in ROOMS)
    added = ("PKG-INFO", "setup.cfg", "partialnas.egg-info/")

    def files(folder: Path) -> set[str]:
        paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        return {path.relative_to(folder).as_posix() for path in paths}

    packed = {name for name in files(sdist) if not name.startswith(added)}
    assert not [name for name in packed if name.startswith(links)]
    assert packed == {name for name in files(source) if not name.startswith(links)}


def test_a_wheel_from_the_source_distribution_is_the_same(sdist: Path, wheel: Path) -> None:
    copy = shutil.copytree(sdist, sdist.parent / "copy")
    run(*PIP, *BUILD, sdist.parent, copy, folder=sdist.parent)
    (path,) = sdist.parent.glob("*.whl")
    assert names_in(path) == names_in(wheel)


def test_the_installed_wheel_runs_from_an_empty_folder(
    wheel: Path, make_environment: Callable[[Path], Path], tmp_path: Path
) -> None:
    scripts = make_environment(wheel)
    where = run(
        scripts / "python", "-c", "import partialnas.search as p; print(p.__file__)",
        folder=tmp_path,
    )  # fmt: skip
    assert where.startswith(str(scripts.parent))
    verb = scripts / "partialnas"
    assert "quickstart" in run(verb, "--help", folder=tmp_path) + run(
        verb, "studies", folder=tmp_path
    )
    output = run(verb, "run", "quickstart", "--rehearse", folder=tmp_path)
    assert "16 done" in output
    run(verb, "report", "results/quickstart-rehearsal", folder=tmp_path)
    run(verb, "studies", "own-function", "-o", "mine.yaml", folder=tmp_path)
    run(verb, "new", "fresh", "--data", "digits", "--kind", "ablation", folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("results", "mine.yaml", "own_function.py", "fresh.yaml")
    }
    hint = "from partialnas.installation import install_command as c; print(c('onnx'))"
    assert run(scripts / "python", "-c", hint, folder=tmp_path).strip() == (
        f"pip install '{wheel}[onnx]'"
    )


def test_tests_run_from_the_source_distribution(
    sdist: Path, wheel: Path, make_environment: Callable[[Path], Path]
) -> None:
    scripts = make_environment(wheel)
    files = ("tests/test_layout.py::test_the_project_file_lists_the_packages_and_data_of_the_tree",)
    files += ("tests/search/study/test_study.py", "tests/runs/datasets/test_registry.py")
    # the folder beside the tests has no links: without them, the installed modules count
    run("env", "PYTHONSAFEPATH=1", scripts / "python", "-m", "pytest", "-q", *files, folder=sdist)


def test_a_repository_is_installed_by_pip(
    source: Path, tmp_path: Path, make_environment: Callable[[Path], Path]
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    repository = shutil.copytree(source, tmp_path / "repository", symlinks=True)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run("git", "init", "--quiet", folder=repository)
    run("git", "add", "--all", folder=repository)
    run("git", *identity, "commit", "--quiet", "-m", "All files", folder=repository)
    run(*PIP, *BUILD, tmp_path, f"git+{repository.as_uri()}", folder=tmp_path)
    (path,) = tmp_path.glob("*.whl")
    assert names_in(path) == expected_names(source)
    scripts = make_environment(path)
    assert "quickstart" in run(scripts / "partialnas", "studies", folder=tmp_path)
