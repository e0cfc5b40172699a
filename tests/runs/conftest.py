import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.system.seeding import torch_threads
from partialnas.runs.trials.context import Context


@pytest.fixture(scope="session")
def few_digits() -> Splits:
    """Return splits of 192 digits, for tests that do not depend on accuracy."""
    whole = load_splits(resolve_task("digits"))
    parts = {
        f"{name}_{axis}": getattr(whole, f"{name}_{axis}")[:192]
        for name in ("train", "val", "test")
        for axis in "xy"
    }
    return Splits(**parts, mean=whole.mean, std=whole.std)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch use one thread in the tests of a file."""
    with torch_threads(1):
        yield


@pytest.fixture
def context(few_digits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """Return a context with a study's folder, and use separate device locks.

    Every epoch is saved, so that tests can interrupt a trial after any of them.
    """
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "locks"))
    return Context(splits=few_digits, folder=tmp_path / "study", checkpoint_every_s=0)
