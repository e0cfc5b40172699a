"""Every verb succeeds in hostile environments, or says why not (see benchmarks/hostile.py)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import hostile


@pytest.fixture(scope="module")
def original() -> Iterator[hostile.Files]:
    with hostile.original_files() as files:
        yield files


def test_every_verb_has_arguments_and_every_environment_is_sampled() -> None:
    assert sorted(hostile.VERBS) == sorted(hostile.verbs())
    runs = hostile.sampled_runs()
    assert {name for _, names in runs for name in names} == {*hostile.ENVIRONMENTS}
    for _, names in runs:
        keys = [key for name in names for key in hostile.ENVIRONMENTS[name].variables]
        assert len(keys) == len({*keys})


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "environments"), hostile.sampled_runs())
def test_no_environment_is_called_a_defect(
    verb: str, environments: tuple[str, ...], original: hostile.Files
) -> None:
    assert hostile.defect(verb, environments, original) == ""
