import math
from typing import Any

import pytest
from pydantic import ValidationError

from partialnas.runs.records.record import RatioEpoch, Record

FACTS: dict[str, Any] = {
    "key": "k", "digest": "d", "name": "n", "seed": 0, "fidelity": 1, "state": "done"
}  # fmt: skip


def test_a_record_survives_json() -> None:
    record = Record(**FACTS, metrics={"val_nll": 0.1}, curve=({"epoch": 1, "val_nll": 0.1},))
    assert Record.model_validate_json(record.model_dump_json()) == record


EPOCH: dict[str, Any] = {
    "epoch": 1, "channels": {"stage 1, block 1": 5.5}, "ratios": {"stage 1, block 1": 0.34375},
    "used_macs": 1e9, "budget_macs": 1.1e9,
}  # fmt: skip


def test_learned_ratios_survive_json() -> None:
    kinds = {"stage 1, block 1": {"clean": 0.25, "low-resolution": 0.125}}
    epoch = RatioEpoch(**EPOCH, per_kind=kinds, warnings=("stuck",))
    record = Record(**FACTS, ratios=(epoch, RatioEpoch(**(EPOCH | {"epoch": 2}))))
    assert Record.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 0}, "greater than or equal to 1"),
        ({"used_macs": math.nan}, "finite number"),
        ({"gradient_norm": math.inf}, "finite number"),
        ({"ratios": {"stage 1, block 2": 0.5}}, "only one has stage 1, block 1"),
    ],
)
def test_invalid_learned_ratios_are_rejected(change: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RatioEpoch(**(EPOCH | change))


@pytest.mark.parametrize("state", ["early", "failed", "timeout"])
def test_unsuccessful_records_need_a_reason(state: str) -> None:
    with pytest.raises(ValidationError, match="expected a reason for the state"):
        Record(**{**FACTS, "state": state})
    assert Record(**{**FACTS, "state": state}, reason="because").reason == "because"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_only_finite_numbers_are_kept(value: float) -> None:
    with pytest.raises(ValidationError):
        Record(**FACTS, metrics={"val_nll": value})
    with pytest.raises(ValidationError):
        Record(**FACTS, curve=({"val_nll": value},))
