"""Faults of machines, injected into real studies (see benchmarks/chaos.py)."""

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import chaos


@pytest.mark.slow
@pytest.mark.parametrize("name", chaos.FAULTS)
def test_a_study_survives(name: str) -> None:
    if name == "disk-full" and os.geteuid() != 0:
        pytest.skip("mounting a small disk requires root")
    study = chaos.inject_fault(name)
    assert study.violations == [], study.remarks
