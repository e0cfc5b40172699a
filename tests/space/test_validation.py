"""How mistakes in plain data are told: one line a key, by the path that was written."""

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError
from partialnas.space.values import Value, validate_as


class Inner(Value):
    rate: float = 0.1
    count: int = Field(default=1, ge=1)


class Outer(Value):
    version: Literal[1, 2] = 1
    width: int | tuple[int, int] = 8
    workers: int | Literal["auto"] = "auto"
    kinds: tuple[Literal["a", "b"] | Literal["c"], ...] = ()
    inner: Inner = Inner()
    several: dict[str, Inner] = Field(default_factory=dict)
    arms: dict[str, str | dict[str, Any]] = Field(default_factory=dict)
    flag: bool = False
    share: Annotated[float | None, Field(gt=0)] = None


def told(model: type[Value], data: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as caught:
        validate_as(model, data, "wrong")
    head, *lines = str(caught.value).splitlines()
    assert head == "wrong:"
    return [line.removeprefix("  ") for line in lines]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"width": "abc"}, "width: expected a whole number or a list, got 'abc'"),
        ({"width": [8, "x"]}, "width[1]: expected a whole number, got 'x'"),
        ({"width": [8]}, "width[1]: missing"),
        ({"workers": "many"}, "workers: expected a whole number or 'auto', got 'many'"),
        ({"kinds": ["a", "d"]}, "kinds[1]: expected 'a', 'b' or 'c', got 'd'"),
        ({"inner": 5}, "inner: expected keys such as rate and count, got 5"),
        ({"several": 5}, "several: expected keys with values, got 5"),
        ({"several": {"x": 5}}, "several.x: expected keys such as rate and count, got 5"),
        ({"arms": {"str": 5}}, "arms.str: expected a text or keys with values, got 5"),
        ({"flag": "maybe"}, "flag: expected true or false, got 'maybe'"),
        ({"share": "much"}, "share: expected a number, got 'much'"),
        ({"share": 0}, "share: input should be greater than 0, got 0"),
        ({"widht": 8}, "widht: unknown key; did you mean width?"),
        ({"inner": {"cuont": 8}}, "inner.cuont: unknown key; did you mean count?"),
        (
            {"several": {"x": {"zzz": 8}}},
            "several.x.zzz: unknown key; expected one of rate, count",
        ),
    ],
)
def test_a_mistake_is_one_line_by_the_key_that_was_written(data: dict[str, Any], line: str) -> None:
    assert told(Outer, data) == [line]


def test_mistakes_of_several_keys_are_all_told() -> None:
    data = {"width": "abc", "workers": "many", "inner": {"rate": True, "count": 0}}
    places = ["width", "workers", "inner.rate", "inner.count"]
    assert [line.partition(":")[0] for line in told(Outer, data)] == places


@given(st.booleans() | st.integers(1, 2).map(float))
def test_only_whole_numbers_are_whole_numbers(value: bool | float) -> None:
    for data in ({"version": value}, {"width": value}, {"width": [1, value]}, {"workers": value}):
        (line,) = told(Outer, data)
        assert "expected a whole number" in line
        assert line.endswith(f"got {value!r}")
    assert told(Outer, {"inner": {"count": value}})[0].startswith("inner.count: expected a whole")


def test_numbers_may_be_whole_and_text_as_yaml_reads_them_but_no_switch() -> None:
    for value in (1, 1.0, "1e-2"):
        assert validate_as(Inner, {"rate": value}, "").rate == float(value)
    assert told(Inner, {"rate": True}) == ["rate: expected a number, got True"]


@pytest.mark.parametrize("attention", ["chanel", {"chanel": "stages 1-3", "self": "stage 4"}])
def test_an_unknown_attention_is_told_once(attention: Any) -> None:
    expected = "attention: expected one of none, channel, spatial, self, got 'chanel'"
    assert told(Plan, {"attention": attention}) == [expected]


def test_keys_that_stand_for_others_are_known() -> None:
    assert told(Plan, {"prest": "partialnet_t0"}) == ["prest: unknown key; did you mean preset?"]
