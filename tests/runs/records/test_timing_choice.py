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

SETUP = TimingSetup.from_protocol(Protocol())


def measured(relative: float, **changes: Any) -> Measurement:
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
    ("measurements", "expected"),
    [
        ([measured(1), measured(2)], 2),
        ([measured(1), measured(2, **NOISY)], 1),
        ([measured(1), measured(2, **TAINTED)], 1),
        ([measured(1, **NOISY), measured(2, **TAINTED)], 2),
        ([measured(1, **TAINTED), measured(2, **NOISY, **TAINTED)], 1),
        ([measured(1, **NOISY), measured(2, **NOISY)], 2),
        ([measured(1, **NOISY), measured(2, **OTHER_CHIP)], 1),  # the study's machine is preferred
        ([measured(1, batch_size=1), measured(2), measured(3, batch_size=1)], 2),
        ([measured(1), measured(2, runtime="onnxruntime"), measured(3, runtime="compiled")], 1),
        ([measured(1), measured(2, precision="bfloat16"), measured(3, threads=4)], 1),
        ([measured(1), measured(2, form="training")], 1),
        ([measured(1, form="training")], 1),  # a network that has no deploy form
    ],
)
def test_the_best_measurement_under_the_protocol_is_selected(
    measurements: list[Measurement], expected: float
) -> None:
    best = best_measurements(measurements, SETUP)["a" * 16]
    assert best.relative_throughput == expected


def test_measurements_with_another_setup_are_not_selected() -> None:
    for other in ({"batch_size": 1}, {"device_kind": "cuda"}, {"runtime": "compiled"}):
        assert best_measurements([measured(1, **other)], SETUP) == {}
    trained = TimingSetup.from_protocol(Protocol(form="training"))
    assert best_measurement([measured(1)], trained) is None


def test_cuda_graphs_are_preferred_on_a_gpu() -> None:
    card = {"device": "Card A", "device_kind": "cuda"}
    graph, plain = measured(1, **card, runtime="cuda_graph"), measured(2, **card)
    setup = TimingSetup.from_protocol(Protocol(device="cuda:1"))
    assert best_measurement([graph, plain], setup) is graph
    assert best_measurement([plain], setup) is plain
    beside_graph = measured(3, **card, reference_runtime="cuda_graph")
    assert best_measurement([beside_graph, plain], setup) is beside_graph
    eager = setup.with_overrides("runtime=eager")
    assert best_measurement([graph, plain, beside_graph], eager) is plain


def test_the_study_machine_is_that_of_the_first_measurement() -> None:
    elsewhere = measured(1, **OTHER_CHIP)
    assert study_machine(
        [measured(3, batch_size=1, **OTHER_CHIP), measured(1), elsewhere], SETUP
    ) == (*("cpu", "Chip 9"),)
    assert machine(elsewhere) == ("cpu", "Chip 8")
    assert study_machine([], SETUP) is None


def test_settings_choose_other_measurements() -> None:
    board = measured(5, batch_size=1, runtime="onnxruntime", environment={"processor": "Pi 5"})
    everything = [measured(1), measured(2, **OTHER_CHIP), measured(3, batch_size=1), board]
    for text, expected in {
        "": 1,
        "device=chip 8": 2,
        "batch_size=1": 3,
        "batch_size=1, runtime=onnxruntime": 5,
        "device=Pi,batch_size=1,runtime=onnxruntime": 5,
    }.items():
        (best,) = best_measurements(everything, SETUP.with_overrides(text)).values()
        assert best.relative_throughput == expected
    assert best_measurements(everything, SETUP.with_overrides("device=Pi")) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch=1", "did you mean batch_size?"),
        ("batch_size", "expected settings such as batch_size=1"),
        ("batch_size=", "expected settings such as batch_size=1"),
        ("batch_size=0", "batch_size"),
        ("precision=int8", "precision"),
        ("runtime=fast", "runtime"),
    ],
)
def test_invalid_timing_settings_are_rejected(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SETUP.with_overrides(text)


def test_the_setup_of_a_frozen_study() -> None:
    assert study_timing_setup({"device": "cuda:1", "batch_size": 8}) == TimingSetup(
        "cuda", 1, 8, "float32", "deploy", "auto"
    )


KINDS = {
    "digest": ["a" * 16, "b" * 16], "threads": [1, 4], "form": ["deploy", "training"],
    "noisy": [False, True], "tainted": [False, None, True], "throttle_reasons": ["", "power cap"],
    "runtime": ["eager", "cuda_graph", "onnxruntime"], "reference_runtime": [None, "cuda_graph"],
    "environment": [{"processor": "Chip 9"}, {"processor": "Chip 8"}, {}],
}  # fmt: skip
SETUPS = [SETUP, *map(SETUP.with_overrides, ("form=training", "runtime=eager"))]
SOME = st.builds(measured, st.just(1.0), **{key: st.sampled_from(of) for key, of in KINDS.items()})


@given(st.lists(SOME, max_size=12), st.sampled_from(SETUPS))
def test_selection_for_many_networks_equals_selection_for_each(
    measurements: list[Measurement], setup: TimingSetup
) -> None:
    measurements = [
        m.model_copy(update={"rounds": number + 1}) for number, m in enumerate(measurements)
    ]
    expected = {
        digest: best_measurement(
            [m for m in measurements if m.digest == digest],
            setup,
            study_machine(measurements, setup),
        )
        for digest in KINDS["digest"]
    }
    assert best_measurements(measurements, setup) == {
        d: m for d, m in expected.items() if m is not None
    }
