import pytest

from partialnas.runs.config.quantities import (
    QUANTITIES,
    format_significant,
    name_in_sentence,
    readable_name,
)


def test_keys_carry_their_unit() -> None:
    for key, quantity in QUANTITIES.items():
        assert quantity.key == key
        assert quantity.unit != "ms" or key.endswith("_ms")
        assert quantity.unit != "images/s" or key.endswith("_img_s")
        assert quantity.unit != "bytes" or key.endswith("_bytes")
    assert QUANTITIES["macs"].label == "MACs"
    assert QUANTITIES["val_accuracy"].label == "Validation accuracy (%)"


@pytest.mark.parametrize(
    ("key", "largest", "label", "factor"),
    [
        ("macs", 2.5e8, "MACs (M)", 1e6),
        ("params", 900, "Parameters", 1),
        ("params", 1e9, "Parameters (G)", 1e9),
        ("peak_memory_bytes", 3 * 2**20, "Peak memory (MiB)", 2**20),
        ("peak_memory_bytes", 100, "Peak memory (bytes)", 1),
        ("val_nll", 2e9, "Validation NLL (nats)", 1),
    ],
)
def test_axes_are_scaled_to_their_largest_value(
    key: str, largest: float, label: str, factor: float
) -> None:
    assert QUANTITIES[key].scaled_label(largest) == (label, factor)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (0.0123456, "0.01235"), (2.0, "2"), (1234.0, "1,234"), (0.0, "0")],
)
def test_numbers_are_written_without_powers_of_ten(value: float, text: str) -> None:
    assert format_significant(value) == text


def test_missing_values_are_written_as_nothing() -> None:
    assert QUANTITIES["val_nll"].text(float("nan")) == ""
    assert QUANTITIES["params"].text(3486160) == "3,486,160"


@pytest.mark.parametrize(
    ("key", "name", "within"),
    [
        ("val_nll", "Validation NLL", "validation NLL"),
        ("macs", "MACs", "MACs"),
        ("my_own_score", "My own score", "my own score"),
        ("F1", "F1", "f1"),
        ("_", "_", "_"),
    ],
)
def test_names_for_texts_have_no_underscores(key: str, name: str, within: str) -> None:
    assert (readable_name(key), name_in_sentence(key)) == (name, within)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.14e-5, "0.000031"),
        (-3.14e-5, "-0.000031"),
        (4e-12, "0.000000000004"),
        (1e-16, "0.0000"),  # rounding noise
        (0.0, "0.0000"),
        (0.00006, "0.0001"),
        (0.12345, "0.1235"),
    ],
)
def test_values_below_the_precision_of_a_quantity_are_not_shown_as_zero(
    value: float, text: str
) -> None:
    assert QUANTITIES["val_nll"].text(value) == text
