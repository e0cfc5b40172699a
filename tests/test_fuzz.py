"""Mutated studies and architectures are accepted or rejected in words (see benchmarks/fuzz.py)."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import fuzz


def test_sixty_mutated_studies() -> None:
    assert [*fuzz.defects(60, seed=1)] == []


@pytest.mark.slow
def test_a_thousand_mutated_studies() -> None:
    assert [*fuzz.defects(1000, seed=2)] == []


@pytest.mark.slow
def test_25_mutated_studies_are_checked_in_full() -> None:
    assert [*fuzz.check_defects(25, seed=3)] == []
