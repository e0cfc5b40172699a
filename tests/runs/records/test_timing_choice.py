from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.timing_choice import (
    TimingSetup,
    best_measurement,
    best_measurements,
    machine,
    study_machine,
    study_timing_setup,
)
from partialnas.space.errors import UserError

WAY = TimingSetup.from_protocol(Protocol())


def taken(relative: float, **changes: Any) -> Measurement:
    facts: dict[str, Any] = {
        "digest": "a" * 16, "name": "net", "device": "cpu", "device_kind": "cpu", "threads": 1,
        "batch_size": 32, "resolution": 28, "in_chans": 1, "precision": "float32",
        "form": "deploy", "throughput_img_s": 100 * relative, "latency_ms": 1.0,
        "relative_throughput": relative, "rounds": 30, "wall_cpu_gap": 0.01, "noisy": False,
        "load": 0.5, "environment": {"processor": "Chip 9"}, "taken": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    return Measurement(**facts | changes)


NOISY, TAINTED = {"noisy": True}, {"tainted": True}
OTHER_CHIP = {"environment": {"processor": "Chip 8"}}


@pytest.mark.parametrize(
    ("measurements", "stands"),
    [
        ([taken(1), taken(2)], 2),
        ([taken(1), taken(2, **NOISY)], 1),
        ([taken(1), taken(2, **TAINTED)], 1),
        ([taken(1, **NOISY), taken(2, **TAINTED)], 2),
        ([taken(1, **TAINTED), taken(2, **NOISY, **TAINTED)], 1),
        ([taken(1, **NOISY), taken(2, **NOISY)], 2),
        ([taken(1, **NOISY), taken(2, **OTHER_CHIP)], 1),  # the study's machine goes first
        ([taken(1, batch_size=1), taken(2), taken(3, batch_size=1)], 2),
        ([taken(1), taken(2, runtime="onnxruntime"), taken(3, runtime="compiled")], 1),
        ([taken(1), taken(2, precision="bfloat16"), taken(3, threads=4)], 1),
        ([taken(1), taken(2, form="training")], 1),
        ([taken(1, form="training")], 1),  # a network that has no deploy form
    ],
)
def test_the_best_measurement_under_the_protocol_is_selected(
    measurements: list[Measurement], stands: float
) -> None:
    found = best_measurements(measurements, WAY)["a" * 16]
    assert found.relative_throughput == stands


def test_measurements_with_another_setup_are_not_selected() -> None:
    for other in ({"batch_size": 1}, {"device_kind": "cuda"}, {"runtime": "compiled"}):
        assert best_measurements([taken(1, **other)], WAY) == {}
    trained = TimingSetup.from_protocol(Protocol(form="training"))
    assert best_measurement([taken(1)], trained) is None


def test_cuda_graphs_are_preferred_on_a_gpu() -> None:
    card = {"device": "Card A", "device_kind": "cuda"}
    graph, plain = taken(1, **card, runtime="cuda_graph"), taken(2, **card)
    way = TimingSetup.from_protocol(Protocol(device="cuda:1"))
    assert best_measurement([graph, plain], way) is graph
    assert best_measurement([plain], way) is plain
    assert best_measurement([graph, plain], way.with_overrides("runtime=eager")) is plain


def test_the_study_machine_is_that_of_the_first_measurement() -> None:
    elsewhere = taken(1, **OTHER_CHIP)
    assert study_machine([taken(3, batch_size=1, **OTHER_CHIP), taken(1), elsewhere], WAY) == (
        *("cpu", "Chip 9"),
    )
    assert machine(elsewhere) == ("cpu", "Chip 8")
    assert study_machine([], WAY) is None


def test_settings_choose_other_measurements() -> None:
    board = taken(5, batch_size=1, runtime="onnxruntime", environment={"processor": "Pi 5"})
    everything = [taken(1), taken(2, **OTHER_CHIP), taken(3, batch_size=1), board]
    for text, expected in {
        "": 1,
        "device=chip 8": 2,
        "batch_size=1": 3,
        "batch_size=1, runtime=onnxruntime": 5,
        "device=Pi,batch_size=1,runtime=onnxruntime": 5,
    }.items():
        (found,) = best_measurements(everything, WAY.with_overrides(text)).values()
        assert found.relative_throughput == expected
    assert best_measurements(everything, WAY.with_overrides("device=Pi")) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("batch=1", "choose from device, threads, batch_size"),
        ("batch_size", "expected settings such as batch_size=1"),
        ("batch_size=", "expected settings such as batch_size=1"),
        ("batch_size=0", "batch_size"),
        ("precision=int8", "precision"),
        ("runtime=fast", "runtime"),
    ],
)
def test_invalid_timing_settings_are_rejected(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        WAY.with_overrides(text)


def test_the_setup_of_a_frozen_study() -> None:
    assert study_timing_setup({"device": "cuda:1", "batch_size": 8}) == TimingSetup(
        "cuda", 1, 8, "float32", "deploy", "auto"
    )


KINDS = {
    "digest": ["a" * 16, "b" * 16], "threads": [1, 4], "form": ["deploy", "training"],
    "noisy": [False, True], "tainted": [False, True], "runtime": ["eager", "onnxruntime"],
    "environment": [{"processor": "Chip 9"}, {"processor": "Chip 8"}, {}],
}  # fmt: skip
SOME = st.builds(taken, st.just(1.0), **{key: st.sampled_from(of) for key, of in KINDS.items()})


@given(st.lists(SOME, max_size=12), st.sampled_from([WAY, WAY.with_overrides("form=training")]))
def test_selection_for_many_networks_equals_selection_for_each(
    everyone: list[Measurement], way: TimingSetup
) -> None:
    everyone = [m.model_copy(update={"rounds": place + 1}) for place, m in enumerate(everyone)]
    alone = {
        digest: best_measurement(
            [m for m in everyone if m.digest == digest], way, study_machine(everyone, way)
        )
        for digest in KINDS["digest"]
    }
    assert best_measurements(everyone, way) == {d: m for d, m in alone.items() if m is not None}
