"""The rooms: imports run one way, light rooms stay light, the package is one name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "space": {"space"},
    "runs": {"space", "runs"},
    "search": {"space", "runs", "search"},
    "analysis": {"space", "runs", "analysis"},
}


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_run_one_way(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        rooms = {n.split(".")[1] for n in imported(path) if n.startswith("partialnas.")}
        assert rooms <= ALLOWED[room], f"{path} imports {rooms - ALLOWED[room]}"


@pytest.mark.parametrize(
    "module",
    [
        "partialnas",
        "partialnas.cli",
        "partialnas.space",
        "partialnas.space.architecture",
        "partialnas.space.cost",
        "partialnas.space.space",
        "partialnas.runs",
        "partialnas.runs.record",
        "partialnas.runs.ledger",
        "partialnas.runs.subject",
        "partialnas.search",
        "partialnas.search.study",
        "partialnas.search.runner",
        "partialnas.analysis",
    ],
)
def test_values_take_neither_torch_nor_ray(module: str) -> None:
    code = f"import {module}, sys; print(*({{'torch', 'ray', 'timm'}} & sys.modules.keys()))"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""


def test_only_one_module_touches_ray() -> None:
    touching = [
        path.relative_to(ROOT).as_posix()
        for room in ALLOWED
        for path in (ROOT / room).rglob("*.py")
        if any(name.split(".")[0] == "ray" for name in imported(path))
    ]
    assert touching == ["search/ray_executor.py"]


def test_every_stored_thing_is_read_without_pickle() -> None:
    for room in ALLOWED:
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            loads = text.count("torch.load(")
            assert text.count("weights_only=True") >= loads, path
            assert "yaml.load(" not in text, path
            assert "pickle.load(" not in text, path
