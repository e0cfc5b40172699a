"""Dotted keys, with quotes around names that have dots or equals signs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.config.overrides import apply_overrides, split_assignment, split_key
from partialnas.space.errors import UserError

NAMES = st.text(st.characters(exclude_characters="\"'", exclude_categories=["Z", "Cc"]), min_size=1)


@pytest.mark.parametrize(
    ("text", "names", "value"),
    [
        ("recipe.epochs=2", ["recipe", "epochs"], "2"),
        ('arms."v1.5".width=16', ["arms", "v1.5", "width"], "16"),
        ("arms.'a=b'.width=x=y", ["arms", "a=b", "width"], "x=y"),
        ('arms."stages 1-2".x=', ["arms", "stages 1-2", "x"], ""),
        ('arms."it\'s".x=1', ["arms", "it's", "x"], "1"),
        (" a . b = 3", ["a", "b"], " 3"),
    ],
)
def test_a_setting_is_split(text: str, names: list[str], value: str) -> None:
    key, rest = split_assignment(text)
    assert (split_key(key), rest) == (names, value)


@given(st.lists(NAMES, min_size=1, max_size=4), st.text())
def test_any_quoted_names_are_found(names: list[str], value: str) -> None:
    key = ".".join(f'"{name}"' for name in names)
    assert split_assignment(f"{key}={value}") == (key, value)
    assert split_key(key) == names
    data = apply_overrides({}, {key: value})
    for name in names:
        data = data[name]
    assert data == value


@pytest.mark.parametrize("text", ["", "=3", "x", "a..b=1", 'a."b=1', ".a=1", "a.=1", 'a."b"c=1'])
def test_other_texts_are_rejected(text: str) -> None:
    with pytest.raises(UserError, match="expected KEY=VALUE"):
        split_assignment(text)
