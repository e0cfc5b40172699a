import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.records.measurement import Measurement, rescale, to_common_scale

POSITIVE = st.floats(1e-3, 1e6)


def measurement(**changes: Any) -> Measurement:
    facts: dict[str, Any] = {
        "digest": "a" * 16,
        "name": "candidate",
        "device": "cpu",
        "device_kind": "cpu",
        "threads": 1,
        "batch_size": 32,
        "resolution": 28,
        "in_chans": 1,
        "precision": "float32",
        "form": "deploy",
        "throughput_img_s": 3200.0,
        "latency_ms": 10.0,
        "rounds": 30,
        "wall_cpu_gap": 0.01,
        "noisy": False,
        "load": 0.5,
        "environment": {"processor": "Chip 9", "cores": 2},
        "taken": "2030-01-01T00:00:00+00:00",
    }
    return Measurement(**facts | changes)


def relative_to(relative: float, reference: float, **changes: Any) -> Measurement:
    """Return a measurement interleaved with a reference of this throughput (images per second)."""
    facts: dict[str, Any] = {
        "relative_throughput": relative,
        "relative_low": relative * 0.99,
        "relative_high": relative * 1.01,
        "reference_digest": "b" * 16,
        "reference_name": "reference",
        "reference_form": "deploy",
        "reference_throughput_img_s": reference,
        "throughput_img_s": relative * reference,
        "latency_ms": 32_000 / (relative * reference),
    }
    return measurement(**facts | changes)


def assert_consistent(result: Measurement) -> None:
    assert result.relative_throughput is not None
    assert result.reference_throughput_img_s is not None
    expected = result.relative_throughput * result.reference_throughput_img_s
    assert result.throughput_img_s == pytest.approx(expected)
    assert result.latency_ms * result.throughput_img_s == pytest.approx(1000 * result.batch_size)


def test_measurements_survive_json() -> None:
    for value in (measurement(), relative_to(0.5, 100.0), measurement(peak_memory_bytes=5)):
        assert Measurement.model_validate_json(value.model_dump_json()) == value


@pytest.mark.parametrize("key", ["throughput_img_s", "latency_ms"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_measurement_without_speed_is_rejected(key: str, value: float) -> None:
    with pytest.raises(ValidationError):
        measurement(**{key: value})


def test_the_protocol_of_a_study_file_is_the_default() -> None:
    stated = {"device": "cpu", "threads": 1, "batch_size": 32, "form": "deploy"}
    assert Protocol.model_validate(stated) == Protocol()


@pytest.mark.parametrize(
    "invalid",
    [
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"threads": 0},
        {"batch_size": 0},
        {"precision": "int8"},
        {"form": "compiled"},
        {"max_seconds": 0},
        {"target_half_width": 0},
        {"target_half_width": 1},
        {"batch": 32},
    ],
)
def test_a_wrong_protocol_names_the_key(invalid: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        Protocol.model_validate(invalid)
    assert [mistake["loc"] for mistake in error.value.errors()] == [tuple(invalid)]


@given(POSITIVE, POSITIVE, POSITIVE)
def test_rescaling_keeps_the_values_consistent(relative: float, old: float, new: float) -> None:
    rescaled = rescale(relative_to(relative, old), new)
    assert_consistent(rescaled)
    assert rescaled.relative_throughput == relative
    assert rescaled.reference_throughput_img_s == new


def test_without_a_reference_there_is_nothing_to_rescale() -> None:
    assert rescale(measurement(), 5.0) == measurement()
    assert to_common_scale([measurement()]) == [measurement()]


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=12))
def test_on_one_scale_the_relatively_faster_has_more_images_a_second(
    speeds: list[tuple[float, float]],
) -> None:
    scaled = to_common_scale([relative_to(relative, reference) for relative, reference in speeds])
    for result, (relative, _) in zip(scaled, speeds, strict=True):
        assert_consistent(result)
        assert result.relative_throughput == relative
    order = sorted(range(len(scaled)), key=lambda i: speeds[i][0])
    throughputs = [scaled[i].throughput_img_s for i in order]
    assert throughputs == sorted(throughputs)
    assert len({result.reference_throughput_img_s for result in scaled}) == 1


def test_the_scale_is_the_references_median() -> None:
    scaled = to_common_scale(
        [relative_to(2.0, 100.0), relative_to(1.0, 130.0), relative_to(0.5, 110.0)]
    )
    assert [result.throughput_img_s for result in scaled] == [220.0, 110.0, 55.0]
    assert [result.latency_ms for result in scaled] == pytest.approx(
        [32_000 / 220, 32_000 / 110, 32_000 / 55]
    )


@pytest.mark.parametrize(
    "other",
    [
        {"threads": 2},
        {"batch_size": 1},
        {"resolution": 32},
        {"in_chans": 3},
        {"precision": "bfloat16"},
        {"device": "Card A", "device_kind": "cuda"},
        {"runtime": "cuda_graph"},
        {"reference_digest": "c" * 16},
        {"reference_form": "training"},
        {"environment": {"processor": "Chip 8"}},
    ],
)
def test_other_conditions_have_another_scale(other: dict[str, Any]) -> None:
    scaled = to_common_scale([relative_to(2.0, 100.0), relative_to(2.0, 300.0, **other)])
    assert [result.throughput_img_s for result in scaled] == [200.0, 600.0]


def test_the_form_of_the_network_does_not_change_the_scale() -> None:
    scaled = to_common_scale([relative_to(2.0, 100.0), relative_to(2.0, 300.0, form="training")])
    assert [result.throughput_img_s for result in scaled] == [400.0, 400.0]


@pytest.mark.parametrize(
    ("changes", "text", "count"),
    [
        ({}, "", 0),
        ({"noisy": True, "tainted": True}, "noisy, tainted", 2),
        ({"throttle_reasons": "power cap"}, "throttled (power cap)", 0),
        ({"throttle_reasons": "power brake, power cap"}, "throttled (power brake, power cap)", 1),
        ({"tainted": None}, "other processes unknown", 0),
        ({"runtime": "eager", "reference_runtime": "cuda_graph"}, "eager", 0),
        ({"runtime": "eager", "reference_runtime": "eager"}, "", 0),
    ],
)
def test_marks_are_named_and_those_of_quality_counted(
    changes: dict[str, Any], text: str, count: int
) -> None:
    marked = measurement(**{"noisy": False, **changes})
    assert (marked.marks_text, marked.num_marks) == (text, count)
    assert Measurement.model_validate_json(marked.model_dump_json()) == marked


def test_the_scale_is_that_of_the_runtime_of_the_reference() -> None:
    """An eager network beside a captured reference shares the scale of captured networks."""
    captured = {"runtime": "cuda_graph", "reference_runtime": "cuda_graph"}
    mixed = {"runtime": "eager", "reference_runtime": "cuda_graph"}
    speeds = to_common_scale(
        [
            relative_to(1.0, 1000.0, **captured),
            relative_to(2.0, 3000.0, **mixed),
            relative_to(1.0, 100.0, runtime="eager"),
        ]
    )
    assert [m.throughput_img_s for m in speeds] == [2000.0, 4000.0, 100.0]


def test_no_torch_is_imported() -> None:
    program = (
        "import sys, partialnas.runs.records.measurement, partialnas.runs.measure.timing_stats;"
        "assert not {'torch', 'scipy', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
