"""The layout of the source tree: import order, heavy dependencies, packaging, unique names."""

import ast
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("space", "runs", "analysis", "search")

ORDER = [
    "lazy",
    "streams",
    "installation",
    "space.errors",
    "space.validation",
    "space.source_code",
    "space.plugins",
    "space.values",
    "space.arch",
    "space.cost",
    "space.axes",
    "space.search_space",
    "space.nn",
    "space.deploy",
    "space.timm",
    "space",
    "runs.config",
    "runs.system",
    "runs.devices",
    "runs.datasets",
    "runs.records",
    "runs.ratio_learning",
    "runs.training",
    "runs.trials",
    "runs.ledger",
    "runs.measure",
    "runs.export",
    "runs",
    "analysis.frames",
    "analysis.stats",
    "analysis.plotting",
    "analysis.formats",
    "analysis.pareto",
    "analysis.ablation",
    "analysis.ratios",
    "analysis.audit",
    "analysis.figures",
    "analysis.report",
    "analysis",
    "search.samplers.base",
    "search.samplers.registry",
    "search.study",
    "search.ablation",
    "search.resolve",
    "search.executors",
    "search.samplers",
    "search.driver",
    "search.session",
    "search.followup",
    "search.check",
    "search",
    "commands",
    "verbs",
    "cli",
]
"""Packages from the bottom to the top: a package imports only from those before it."""

SEARCH_MAY_IMPORT_OF_ANALYSIS = {"analysis.stats"}

HEAVY = {
    "torch": {
        "space.nn",
        "space.deploy",
        "space.timm",
        "runs.training",
        "runs.trials",
        "runs.measure",
        "runs.export",
        "runs.ratio_learning",
        "runs.datasets.loaders",
        "runs.datasets.augment",
        "runs.devices.device",
        "runs.devices.cuda_graph",
        "runs.devices.precision",
        "runs.system.seeding",
        "search.studies",
    },
    "ray": {"search.executors.ray_process"},
    "pandas": {
        "analysis.frames",
        "analysis.stats.anova",
        "analysis.plotting",
        "analysis.formats",
        "analysis.pareto",
        "analysis.ablation",
        "analysis.ratios",
        "analysis.audit",
        "analysis.figures",
        "analysis.report",
        "commands",
    },
}
"""Who may import a heavy library: packages and modules by prefix. Extend it with the code."""


def module_name(path: Path) -> str:
    """Return the dotted name below `partialnas`, such as `space.nn.layers`."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "partialnas":
        parts = parts[1:]
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


def source_files() -> Iterator[Path]:
    for room in ROOMS:
        yield from (
            path
            for path in sorted((ROOT / room).rglob("*.py"))
            if "notebooks" not in path.relative_to(ROOT).parts
        )
    yield from sorted((ROOT / "partialnas").glob("*.py"))
    for folder in ("commands", "verbs"):
        yield from sorted((ROOT / "partialnas" / folder).rglob("*.py"))


MODULES = {module_name(path): path for path in source_files()}


@cache
def syntax_tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of each import, functions' own included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def imported_modules(name: str) -> set[str]:
    """Return the modules of this project that a module imports."""
    imported = set()
    for target in imported_names(syntax_tree(name)):
        if target.partition(".")[0] != "partialnas":
            continue
        module = target.removeprefix("partialnas").removeprefix(".")
        while module and module not in MODULES:
            module = module.rpartition(".")[0]
        imported.add(module)
    return imported - {name, ""}


def package(module: str) -> str:
    """Return the entry of ORDER that a module belongs to."""
    while module not in ORDER and module:
        module = module.rpartition(".")[0]
    return module


def test_every_module_belongs_to_a_package_of_the_order() -> None:
    top = {"", "__main__"}
    assert {name for name in MODULES if not package(name)} == top
    assert {package(name) for name in MODULES} - {""} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_packages_import_only_from_packages_before_them(name: str) -> None:
    allowed = set(ORDER[: ORDER.index(name) + 1])
    for module in (m for m in MODULES if package(m) == name):
        packages = {package(m) for m in imported_modules(module)}
        assert packages <= allowed, f"{module} imports {sorted(packages - allowed)}"


def test_search_imports_only_statistics_from_analysis() -> None:
    for module in (m for m in MODULES if m.startswith("search.")):
        packages = {p for m in imported_modules(module) if (p := package(m)).startswith("analysis")}
        assert packages <= SEARCH_MAY_IMPORT_OF_ANALYSIS, module


def test_files_import_each_other_without_circles() -> None:
    graph = {name: imported_modules(name) for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_are_imported_where_the_list_says(library: str) -> None:
    allowed = HEAVY[library]
    importing = {
        name
        for name in MODULES
        if any(target.partition(".")[0] == library for target in imported_names(syntax_tree(name)))
    }
    outside = {
        name for name in importing if not any(f"{name}.".startswith(f"{a}.") for a in allowed)
    }
    assert not outside
    unused = {a for a in allowed if not any(f"{name}.".startswith(f"{a}.") for name in importing)}
    assert not unused


@pytest.mark.parametrize(
    "module",
    [
        "partialnas",
        "partialnas.cli",
        "partialnas.space",
        "partialnas.space.search_space.space",
        "partialnas.space.cost.cost",
        "partialnas.runs",
        "partialnas.runs.ledger.ledger",
        "partialnas.runs.records.job",
        "partialnas.search",
        "partialnas.search.study.study",
        "partialnas.search.session.run_study",
        "partialnas.analysis",
        "partialnas.analysis.report.report",
    ],
)
def test_light_modules_import_neither_torch_nor_ray(module: str) -> None:
    code = f"import {module}, sys; print(*({{'torch', 'ray', 'timm'}} & sys.modules.keys()))"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""


def test_a_search_runs_without_pandas() -> None:
    code = "import partialnas.search.session.run_study, sys; print('pandas' in sys.modules)"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for name in MODULES:
        for node in ast.iter_child_nodes(syntax_tree(name)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_the_project_file_lists_the_packages_and_data_of_the_tree() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    setuptools = settings["tool"]["setuptools"]
    packages = {
        "partialnas" + (f".{name}" if name else "")
        for name, path in MODULES.items()
        if path.name == "__init__.py"
    }
    assert Counter(setuptools["packages"]) == Counter(packages)
    folders = setuptools["package-dir"]  # not the links, which a source distribution lacks
    listed = {
        path
        for name, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in (ROOT / _folder_of(name, folders)).glob(pattern)
    }
    listed = {path.resolve() for path in listed}
    data = {
        path.resolve()
        for room in (*ROOMS, "partialnas")
        for path in (ROOT / room).rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and (path.suffix != ".py" or not (path.parent / "__init__.py").exists())
        and "notebooks" not in path.relative_to(ROOT).parts
    }
    assert listed == data


def _folder_of(package_name: str, folders: dict[str, str]) -> Path:
    """Return the folder of a package below the root, by that of the nearest package above it."""
    parent = max((p for p in folders if f"{package_name}.".startswith(f"{p}.")), key=len)
    return Path(folders[parent], *package_name[len(parent) :].split("."))


def test_every_stored_thing_is_read_without_pickle() -> None:
    for path in MODULES.values():
        text = path.read_text(encoding="utf-8")
        loads = text.count("torch.load(")
        assert text.count("weights_only=True") >= loads, path
        assert "yaml.load(" not in text, path
        assert "pickle.load(" not in text, path
