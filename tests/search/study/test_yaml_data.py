"""YAML is read as PyYAML reads it, within limits, and without the surprises of YAML 1.1."""

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from partialnas.search.study.yaml_data import (
    MAX_CHARACTERS,
    MAX_NESTING,
    flow_yaml,
    parse_yaml,
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@given(PLAIN)
def test_what_was_dumped_is_read_back(data: Any) -> None:
    assert parse_yaml(yaml.safe_dump(data, allow_unicode=True)) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2024-13-45", {"a": "2024-13-45"}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: =", {"a": "="}),
        ("a: &b {c: 1}\nd: {<<: *b, e: 2}", {"a": {"c": 1}, "d": {"c": 1, "e": 2}}),
        ("a: '010'", {"a": "010"}),
        ("a: 0x1F", {"a": 31}),
        ("a: 0.50", {"a": 0.5}),
        ("1: a", {1: "a"}),
        ("", None),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 010", "line 1: 010 means 8 in YAML (octal); write 10, 8 or '010'"),
        ("a:\n- 1:30", "line 2: 1:30 means 90 in YAML (base 60)"),
        ("a: 1:30.5", "base 60"),
        ("a: 1\na: 2", "line 2: duplicate key 'a'"),
        ("on: 1", "the key on means true in YAML; quote it: 'on'"),
        ("~: 1", "a key is empty"),
        ("a: !!int foo", "'foo' is not a valid int"),
        ("a: !!int ''", "'' is not a valid int"),
        ("a: !!bool maybe", "'maybe' is not a valid bool"),
        ("a: !!timestamp 2024-99-99", "is not supported"),
        ("a: !!python/object:os.system x", "is not supported"),
        ('a: "\\ud800"', "is not valid Unicode"),
        ("a: " + "9" * 5000, "is too large"),
        ("a: 0x" + "f" * 5000, "is too large"),
        ("a: 18446744073709551616", "is too large"),
        ("a: &x [*x]", "an anchor contains itself"),
        (BOMB, "anchors expand it to more than"),
        ("a: " + "[" * 500 + "]" * 500, f"nested more than {MAX_NESTING} levels"),
        ("- " * 500 + "a", f"nested more than {MAX_NESTING} levels"),
        ("a" * (MAX_CHARACTERS + 1), "characters; at most"),
        ("a: [", "line 1: "),
        ("a: 1\nb: [1, 2\nc: 3", "line 2: while parsing a flow sequence"),
        ("a: 1\nb: {x: 1\nc: 2", "line 2: while parsing a flow mapping"),
        ("a: 1\nb: 'x\nc: 2\n", "line 2: while scanning a quoted scalar"),
        ("a: 1\nb 2\n\n\nc: 3", "line 2: while scanning a simple key"),
        ("a:\n  - 1\n  b: 2", "line 3: while parsing a block collection"),
        ("a: 1\n b: 2", "line 2: mapping values are not allowed here"),
        ("--- a\n--- b", "line 2: expected a single document"),
        ("a: \x00", "unacceptable character"),
    ],
)
def test_what_is_not_meant_is_rejected_at_once_and_in_few_words(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=r".") as caught:
        parse_yaml(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300
    assert time.process_time() - start < 10


@pytest.mark.parametrize("text", [";\xa0", ":\xa0", " a ", "a\u2003", "a: b #", ""])
def test_a_text_on_one_line_keeps_its_spaces(text: str) -> None:
    assert parse_yaml(f"key: {flow_yaml(text)}") == {"key": text}
