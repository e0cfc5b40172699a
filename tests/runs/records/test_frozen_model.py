import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.records.frozen_model import frozen_subject
from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError

LEARNED = {"learned": {"grain": 2}}


def network(*blocks: list[dict[str, Any]], width: int = 16) -> Architecture:
    stages = [{"width": width, "blocks": [{"parts": parts} for parts in blocks]}]
    return Architecture.from_data({"stem_stride": 1, "stages": stages, "head_width": 16})


def parts(first: Any, *operations: str, others: Any = "1/8") -> list[dict[str, Any]]:
    middle = [{"op": operation, "ratio": others} for operation in operations[:-1]]
    return [{"op": "conv", "ratio": first}, *middle, {"op": operations[-1]}]


TWO = parts(LEARNED, "identity")
THREE = parts(LEARNED, "channel", "identity", others=LEARNED)


@given(one=st.integers(1, 15), two=st.integers(1, 15))
def test_each_learned_part_gets_its_channels_and_the_last_takes_the_rest(
    one: int, two: int
) -> None:
    architecture = network(TWO, parts(LEARNED, "channel"))
    frozen = frozen_subject(
        architecture, {"stage 1, block 1": float(one), "stage 1, block 2": float(two)}
    )
    stated = network(parts(f"{one}/16", "identity"), parts(f"{two}/16", "channel"))
    assert frozen.digest == stated.digest
    assert frozen.learned is None


@given(one=st.integers(1, 14), data=st.data())
def test_both_learned_parts_of_three_get_their_channels(one: int, data: st.DataObject) -> None:
    two = data.draw(st.integers(1, 15 - one))
    names = [boundary.name for boundary in network(THREE).boundaries]
    frozen = frozen_subject(network(THREE), dict(zip(names, (one, two), strict=True)))
    expected = [("conv", one), ("channel", two), ("identity", 16 - one - two)]
    assert [part[:2] for part in frozen.realized[0][0].parts] == expected


def test_parts_that_do_not_learn_keep_their_channels() -> None:
    architecture = network(parts(LEARNED, "channel", "identity", others="1/4"))
    frozen = frozen_subject(architecture, {"stage 1, block 1": 6})
    expected = [("conv", 6), ("channel", 4), ("identity", 6)]
    assert [part[:2] for part in frozen.realized[0][0].parts] == expected


def test_a_part_without_channels_is_removed() -> None:
    frozen = frozen_subject(network(TWO), {"stage 1, block 1": 16})
    assert [part[:2] for part in frozen.realized[0][0].parts] == [("conv", 16)]


def test_blocks_that_do_not_learn_stay_as_they_are() -> None:
    architecture = network(TWO, parts("1/4", "identity"))
    frozen = frozen_subject(architecture, {"stage 1, block 1": 8})
    assert frozen.stages[0].blocks[1] == architecture.stages[0].blocks[1]
    assert frozen.stages[0].blocks[0].parts[0].ratio == Fraction(1, 2)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({}, "stage 1, block 1: the number of its channels is missing"),
        ({"stage 1, block 1": 3.5}, "expected an integer number of channels, got 3.5"),
        ({"stage 1, block 1": 17}, r"add up to its 16 channels, got 17 \+ -1"),
        ({"stage 1, block 1": -1}, r"add up to its 16 channels, got -1 \+ 17"),
    ],
)
def test_invalid_channels_are_rejected(channels: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        frozen_subject(network(TWO), channels)


def test_ratios_that_depend_on_the_image_have_no_static_network() -> None:
    by_input = network(parts({"learned": {"per": "input"}}, "identity"))
    with pytest.raises(UserError, match="depend on the image"):
        frozen_subject(by_input, {"stage 1, block 1": 4})


def test_no_torch_is_imported() -> None:
    code = "import sys, partialnas.runs.records.frozen_model; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
