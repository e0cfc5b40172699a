"""The faces of the package: lazy, complete, and typed by a twin that agrees with the table."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

FACES = (
    "partialnas",
    "partialnas.space",
    "partialnas.runs",
    "partialnas.search",
    "partialnas.analysis",
)
HEAVY = {"torch", "ray", "timm", "torchvision", "pandas", "matplotlib", "textalloc"}


def source(face: str) -> Path:
    path = importlib.import_module(face).__file__
    assert path is not None
    return Path(path)


def typed_imports(face: str) -> dict[str, str]:
    """Return the module of each name that a face imports for type checkers."""
    tree = ast.parse(source(face).read_text(encoding="utf-8"))
    blocks = (node for node in tree.body if isinstance(node, ast.If))
    twin = next(node for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING")
    modules = {}
    for node in twin.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        for alias in node.names:
            assert alias.asname == alias.name, "only `import x as x` exports a name"
            modules[alias.name] = node.module
    return modules


@pytest.mark.parametrize("face", FACES)
def test_the_typed_imports_agree_with_the_table(face: str) -> None:
    module = importlib.import_module(face)
    assert typed_imports(face) == module._MODULES
    assert {*module.__all__} == {*module._MODULES}


@pytest.mark.parametrize("face", FACES)
def test_every_name_resolves_and_is_listed(face: str) -> None:
    module = importlib.import_module(face)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'misspelt'"):
        _ = module.misspelt


@pytest.mark.parametrize("face", FACES)
def test_no_name_is_that_of_a_module_or_package_beside_the_face(face: str) -> None:
    beside = {path.stem for path in source(face).parent.iterdir()}
    assert not beside & {*importlib.import_module(face).__all__}


@pytest.mark.parametrize("face", FACES)
def test_importing_a_face_imports_no_heavy_library(face: str) -> None:
    code = f"import sys, {face}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {*run.stdout.split()} & HEAVY
