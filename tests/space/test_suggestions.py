"""Hints at similar names: one helper for keys, quantities, axes, presets, samplers and verbs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.space.arch.presets import PRESETS
from partialnas.space.axes.levels import AXES
from partialnas.space.validation import expected_one_of, suggest

QUANTITIES = ("val_accuracy", "val_nll", "throughput_img_s", "latency_ms", "params", "macs")


@pytest.mark.parametrize(
    ("name", "choices", "hint"),
    [
        ("accuracy", QUANTITIES, "did you mean val_accuracy?"),
        ("accuracy_val", QUANTITIES, "did you mean val_accuracy?"),
        ("val-acuracy", QUANTITIES, "did you mean val_accuracy?"),
        ("Latency", QUANTITIES, "did you mean latency_ms?"),
        ("MACs", QUANTITIES, "did you mean macs?"),
        ("FLOPs", QUANTITIES, "did you mean macs?"),
        ("widths", AXES, "did you mean width?"),
        ("mlpratio", AXES, "did you mean mlp_ratio?"),
        ("partialnet_t9", PRESETS[:3], f"did you mean {', '.join(PRESETS[:2])} or {PRESETS[2]}?"),
        ("zzz", ("short", "standard"), "choose short or standard"),
        ("x", (), ""),
    ],
)
def test_similar_names_are_suggested_and_otherwise_all(
    name: str, choices: tuple[str, ...], hint: str
) -> None:
    assert suggest(name, choices) == hint


@given(st.sampled_from(AXES), st.data())
def test_a_name_with_one_wrong_letter_suggests_the_name(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    wrong = name[:place] + data.draw(st.characters(codec="ascii")) + name[place + 1 :]
    hint = suggest(wrong, [name, "another_long_word"])
    assert hint.startswith("did you mean") == (len(name) > 2)
    assert name in hint


@given(st.text(), st.lists(st.text()))
def test_any_text_gets_a_hint_without_an_error(name: str, choices: list[str]) -> None:
    assert bool(suggest(name, choices)) == bool(choices)


def test_a_wrong_value_names_all_options() -> None:
    assert expected_one_of((1, 2), 3) == "expected one of 1, 2, got 3"
    assert expected_one_of(("relu", "gelu"), "rleu") == (
        "expected one of relu, gelu, got 'rleu'; did you mean relu?"
    )
