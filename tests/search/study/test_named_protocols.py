"""Named protocols of measurements, as `measure: NAME` or `measure: {use: NAME}` in a study."""

from typing import Any

import pytest

from partialnas.runs.config.overrides import apply_overrides
from partialnas.runs.config.protocol import Protocol
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import load_study
from partialnas.space.errors import UserError

ARMS = {"one": "partialnet_t0", "two": "fasternet_t0"}


def study(measure: Any, **settings: Any) -> Study:
    data = {"study": "s", "arms": ARMS, "measure": measure}
    return load_study(apply_overrides(data, settings))


def protocol(measure: Any, **settings: Any) -> Protocol:
    return study(measure, **settings).measure


@pytest.mark.parametrize(("name", "batch_size"), [("gpu-latency", 1), ("gpu-throughput", 256)])
def test_a_protocol_for_gpus_is_used_by_its_name(name: str, batch_size: int) -> None:
    used = protocol(name)
    assert (used.device, used.batch_size, used.form) == ("cuda", batch_size, "deploy")
    assert (used.precision, used.runtime) == ("bfloat16", "auto")
    assert used == protocol({"use": name})


def test_other_settings_replace_those_of_the_name() -> None:
    used = protocol({"use": "gpu-latency", "precision": "tfloat32"})
    assert (used.batch_size, used.precision) == (1, "tfloat32")
    assert used == protocol("gpu-latency", **{"measure.precision": "tfloat32"})


def test_a_name_states_no_time_limit() -> None:
    deciding = {"objectives": {"val_nll": "min", "macs": "min"}}
    assert study("gpu-latency", **deciding).protocol.max_seconds == 5
    assert (
        study("gpu-latency", **deciding, **{"measure.max_seconds": 20}).protocol.max_seconds == 20
    )


@pytest.mark.parametrize("measure", ["gpu-latncy", {"use": "gpu-latncy"}])
def test_an_unknown_name_is_an_error_with_the_closest(measure: Any) -> None:
    with pytest.raises(UserError, match="unknown protocol 'gpu-latncy'; did you mean gpu-latency"):
        protocol(measure)


def test_measuring_nothing_is_no_protocol_to_change() -> None:
    assert protocol("none").when == "never"
    with pytest.raises(UserError, match="measure is 'none'"):
        protocol("none", **{"measure.batch_size": 1})
