"""Settings of all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

# Without a deadline: no property concerns time, and a busy machine may be slow.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files beside this one: their tests are the longest and should not be last."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.parent != here)
