"""Plug-ins are found by module or entry point, identified by their code, and never run unseen."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.job import trial_key
from partialnas.space import plugins
from partialnas.space.arch.operation_registry import OPERATIONS
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError
from partialnas.space.plugins import load_plugins, load_recorded_plugins, plugins_of, source_digest
from partialnas.space.source_code import code_digest

OPERATION = """
from partialnas.space.arch.operation_registry import register_operation
register_operation("shuffle", module="{name}:Shuffle", cost="{name}:cost")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on the module path; what tests import and register is undone."""
    before = dict(sys.modules), dict(plugins._LOADED), dict(OPERATIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for target, content in zip((sys.modules, plugins._LOADED, OPERATIONS), before, strict=True):
        for key in target.keys() - content.keys():
            del target[key]


def test_comments_docstrings_and_empty_lines_do_not_count(folder: Path) -> None:
    code = 'def double(x):\n    text = "# kept"\n    return 2 * x, text\n'
    (folder / "bare.py").write_text(code)
    digest = source_digest("bare")
    commented = '"""About é."""\n\n# a comment\n' + code.replace(", text", ", text  # both")
    commented = commented.replace("(x):\n", '(x):\n    """Return two values\n    of x."""\n')
    for text, equal in ((commented, True), (code.replace("# kept", "# cut"), False)):
        (folder / "bare.py").write_text(text)
        assert (source_digest("bare") == digest) is equal


def test_a_package_counts_with_all_its_files(folder: Path) -> None:
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("x = 1\n")
    before = source_digest("pack")
    (folder / "pack" / "inner.py").write_text("y = 2\n")
    assert source_digest("pack") != before


def test_a_plugin_is_found_by_the_name_of_its_entry_point(folder: Path) -> None:
    (folder / "installed_plugin.py").write_text("VALUE = 1\n")
    info = folder / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[partialnas.plugins]\ntoy = installed_plugin\n")
    assert load_plugins(["toy"]) == {"installed_plugin": source_digest("installed_plugin")}
    with pytest.raises(UserError, match=r"no Python module 'absent'.*installed plug-ins: toy"):
        load_plugins(["absent"])


def test_trial_keys_depend_on_the_plugins_that_they_use(folder: Path) -> None:
    plan = {"width": 8, "depths": (1, 1, 1, 1), "stem_stride": 1, "head_width": 16}
    task, recipe = Task(data="digits", resolution=8, channels=1, classes=10), Recipe()
    plain = Plan.model_validate(plan).architecture()
    before = trial_key(plain, task, recipe, 1, 0)

    (folder / "ops.py").write_text(OPERATION.format(name="ops"))
    digests = load_plugins(["ops"])
    shuffled = Plan.model_validate(plan | {"operations": ["conv", "shuffle"]}).architecture()
    key = trial_key(shuffled, task, recipe, 1, 0)
    assert plugins_of(["ops:Shuffle", "numpy:array"]) == digests
    assert trial_key(plain, task, recipe, 1, 0) == before
    plugins._LOADED["ops"] = "0" * 16  # as if its source differed
    assert trial_key(shuffled, task, recipe, 1, 0) != key
    with pytest.raises(UserError, match="not the one that the study recorded"):
        load_plugins(digests)


def test_a_ledger_runs_only_the_source_that_it_recorded(folder: Path) -> None:
    (folder / "trap.py").write_text("raise SystemExit('imported')\n")
    (message,) = load_recorded_plugins({"trap": "0" * 16})
    assert "has changed since the study ran" in message
    assert "trap" not in sys.modules
    (message,) = load_recorded_plugins({"nowhere": "0" * 16})
    assert "is neither installed here nor beside the study" in message


def test_a_ledger_uses_the_plugin_in_the_recorded_folder_of_its_study(folder: Path) -> None:
    beside = folder / "studies"
    beside.mkdir()
    (beside / "lying_beside.py").write_text("VALUE = 1\n")
    recorded = {"lying_beside": code_digest({"lying_beside.py": "VALUE = 1\n"})}
    path = [*sys.path]
    try:
        assert len(load_recorded_plugins(recorded)) == 1
        assert load_recorded_plugins(recorded, beside) == []
        assert load_recorded_plugins(recorded) == []
    finally:
        sys.path[:] = path


def test_a_plugin_that_fails_names_its_error(folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match="cannot import broken: ZeroDivisionError"):
        load_plugins(["broken"])
