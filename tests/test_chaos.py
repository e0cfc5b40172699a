"""Faults that machines have, done for real to whole studies (see benchmarks/chaos.py)."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PATH = Path(__file__).parents[1] / "benchmarks" / "chaos.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chaos", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos"] = module
    spec.loader.exec_module(module)
    return module


CHAOS: Any = loaded()


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAOS.FAULTS)
def test_a_study_survives(name: str) -> None:
    if name == "disk-full" and os.geteuid() != 0:
        pytest.skip("mounting a small disk takes rights that this user does not have")
    scene = CHAOS.happen(name)
    assert scene.broken == [], scene.remarks
