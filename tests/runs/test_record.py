import math
from typing import Any

import pytest
from pydantic import ValidationError

from partialnas.runs.record import Record

FACTS: dict[str, Any] = {
    "key": "k", "digest": "d", "name": "n", "seed": 0, "fidelity": 1, "state": "done"
}  # fmt: skip


def test_a_record_survives_json() -> None:
    record = Record(**FACTS, metrics={"val_nll": 0.1}, curve=({"epoch": 1, "val_nll": 0.1},))
    assert Record.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("state", ["early", "failed", "timeout"])
def test_who_does_not_end_well_says_why(state: str) -> None:
    with pytest.raises(ValidationError, match="states its reason"):
        Record(**{**FACTS, "state": state})
    assert Record(**{**FACTS, "state": state}, reason="because").reason == "because"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_only_finite_numbers_are_kept(value: float) -> None:
    with pytest.raises(ValidationError):
        Record(**FACTS, metrics={"val_nll": value})
    with pytest.raises(ValidationError):
        Record(**FACTS, curve=({"val_nll": value},))
