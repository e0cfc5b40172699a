"""Error messages for invalid plain data: one line per key, with its path."""

import unicodedata
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError, printable, printable_message
from partialnas.space.validation import check_name
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


def messages(model: type[Value], data: dict[str, Any]) -> list[str]:
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
        ({"width": [8]}, "width: expected a whole number or 2 values, got [8]"),
        ({"workers": "many"}, "workers: expected a whole number or 'auto', got 'many'"),
        ({"kinds": ["a", "d"]}, "kinds[1]: expected 'a', 'b' or 'c', got 'd'"),
        ({"inner": 5}, "inner: expected a mapping with keys such as rate and count, got 5"),
        ({"several": 5}, "several: expected a mapping, got 5"),
        (
            {"several": {"x": 5}},
            "several.x: expected a mapping with keys such as rate and count, got 5",
        ),
        ({"arms": {"str": 5}}, "arms.str: expected a string or a mapping, got 5"),
        ({"flag": "maybe"}, "flag: expected true or false, got 'maybe'"),
        ({"share": "much"}, "share: expected a number, got 'much'"),
        ({"share": 0}, "share: input should be greater than 0, got 0"),
        ({"widht": 8}, "widht: unknown key; did you mean width?"),
        ({"inner": {"cuont": 8}}, "inner.cuont: unknown key; did you mean count?"),
        (
            {"several": {"x": {"zzz": 8}}},
            "several.x.zzz: unknown key; choose rate or count",
        ),
    ],
)
def test_an_error_is_one_line_with_its_path(data: dict[str, Any], line: str) -> None:
    assert messages(Outer, data) == [line]


def test_all_errors_are_reported() -> None:
    data = {"width": "abc", "workers": "many", "inner": {"rate": True, "count": 0}}
    places = ["width", "workers", "inner.rate", "inner.count"]
    assert [line.partition(":")[0] for line in messages(Outer, data)] == places


@given(st.booleans() | st.integers(1, 2).map(float))
def test_integers_reject_floats_and_booleans(value: bool | float) -> None:
    for data in ({"version": value}, {"width": value}, {"width": [1, value]}, {"workers": value}):
        (line,) = messages(Outer, data)
        assert "expected a whole number" in line
        assert line.endswith(f"got {value!r}")
    assert messages(Outer, {"inner": {"count": value}})[0].startswith(
        "inner.count: expected a whole"
    )


def test_floats_accept_integers_and_strings_but_no_booleans() -> None:
    for value in (1, 1.0, "1e-2"):
        assert validate_as(Inner, {"rate": value}, "").rate == float(value)
    assert messages(Inner, {"rate": True}) == ["rate: expected a number, got True"]


@pytest.mark.parametrize("attention", ["chanel", {"chanel": "stages 1-3", "self": "stage 4"}])
def test_an_unknown_attention_is_reported_once(attention: Any) -> None:
    expected = "attention: expected one of none, channel, spatial, self, got 'chanel'"
    expected += "; did you mean channel?"
    assert messages(Plan, {"attention": attention}) == [expected]


def test_shorthand_keys_are_suggested() -> None:
    assert messages(Plan, {"prest": "partialnet_t0"}) == [
        "prest: unknown key; did you mean preset?"
    ]


@pytest.mark.parametrize(
    ("unknown", "last"),
    [
        (50, "k49: "),
        (60, "and 10 more mistakes"),
        (200, "and 150 more mistakes"),
        (201, "and at least 150 more mistakes"),
        (9000, "and at least 150 more mistakes"),
    ],
)
def test_mistakes_beyond_the_first_are_counted_as_far_as_they_were_read(
    unknown: int, last: str
) -> None:
    lines = messages(Outer, {f"k{i}": 1 for i in range(unknown)})
    assert lines[-1].startswith(last)
    assert len(lines) <= 51


_BIDIRECTIONAL = {
    *"\u061c\u200e\u200f",
    *map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
}
_SPECIAL = "ab é漢\u00a0\u200d\u200c\x1b\a\r\n\t\x9b\u2028\ufeff" + "".join(_BIDIRECTIONAL)
_HOSTILE = st.text(st.sampled_from(_SPECIAL) | st.characters(), min_size=1, max_size=20)


@given(_HOSTILE)
def test_a_name_is_accepted_if_it_is_shown_as_it_is(name: str) -> None:
    controls = {c for c in name if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
    try:
        check_name(f"x{name}")
    except ValueError:
        assert printable(name) != name
        return
    assert not controls | (_BIDIRECTIONAL & {*name})
    assert printable(name) == name == printable_message(name)


def test_names_may_have_emoji_and_letters_of_any_script() -> None:
    for name in ("é", "漢字", "\U0001f469\u200d\U0001f52c", "می\u200cخواهم", "a\u00a0b", "❤\ufe0f"):
        check_name(name)
