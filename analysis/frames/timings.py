"""One measurement per network on a common scale, as columns of the trials."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from partialnas.runs.records.measurement import (
    STEADY_REASONS,
    Measurement,
    MeasurementTable,
    reference_scales,
)
from partialnas.runs.records.timing_choice import (
    TimingSetup,
    select_measurements,
    study_timing_setup,
)

_CONDITIONS = ("device", "threads", "batch_size", "resolution", "precision", "form", "runtime")
MEASURED_COLUMNS = (
    *("throughput_img_s", "throughput_raw_img_s", "latency_ms"),
    *("relative_throughput", "relative_low", "relative_high", "peak_memory_bytes"),
)
"""Measured quantities."""

TIMING_COLUMNS = (
    *(*MEASURED_COLUMNS, "noisy", "tainted"),
    *(*_CONDITIONS, "processor", "reference_name"),
)
"""Columns of a trial that come from the measurement of its network."""

_MEASUREMENT_COLUMNS = (
    *("digest", "throttle_reasons"),
    *(key for key in TIMING_COLUMNS if key in Measurement.model_fields),
    "processor",
)


def timing_table(
    measurements: MeasurementTable,
    protocol: Mapping[str, Any],
    resolution: int | None = None,
    timing: str | None = None,
) -> pd.DataFrame:
    """Return the measurement that represents each network; the index is the network's digest.

    It was taken by the study's protocol, on the study's own machine if it has one: the latest quiet
    measurement, or the latest if all are noisy or tainted (see `select_measurements`). Throughput
    and latency are the relative throughput times the reference's median, so that a machine which
    is slower today does not matter; `throughput_raw_img_s` is the throughput as timed. `noisy`
    marks tainted and throttled measurements too, except under a power cap alone (see
    `STEADY_REASONS`): the device was not in its usual state.

    Args:
        measurements: all measurements of a study, oldest first.
        protocol: the study's `measure` settings; if empty, those of the last measurement count.
        resolution: side of the images in pixels; None if all measurements have one size.
        timing: settings that replace those of the protocol, such as `batch_size=1,device=H100`.

    Raises:
        UserError: `timing` is invalid.
    """
    setup = _timing_setup(measurements, protocol, resolution, timing)
    if setup is None:
        return pd.DataFrame(columns=[*TIMING_COLUMNS])
    fitting, chosen = select_measurements(measurements, setup, (resolution, None))
    if not fitting:
        return pd.DataFrame(columns=[*TIMING_COLUMNS])
    scales, places = reference_scales(measurements, fitting), [*chosen.values()]
    columns = {name: measurements.column(name) for name in _MEASUREMENT_COLUMNS}
    if places != [*range(len(measurements))]:
        columns = {name: [*map(of_all.__getitem__, places)] for name, of_all in columns.items()}
    table = pd.DataFrame(columns)
    table["throughput_raw_img_s"] = table["throughput_img_s"]
    throttled = ~table.pop("throttle_reasons").isin(STEADY_REASONS)
    table["noisy"] |= table["tainted"].eq(True) | throttled
    scale = np.array([scales[place] for place in places], dtype=np.float64)  # NaN for None
    speed = table["relative_throughput"].astype("float64") * scale
    table["throughput_img_s"] = speed.fillna(table["throughput_img_s"])
    latency = 1000 * table["batch_size"] / speed
    table["latency_ms"] = latency.fillna(table["latency_ms"])
    return table.set_index("digest")[[*TIMING_COLUMNS]]


def eager_rows(table: pd.DataFrame) -> "pd.Series[bool]":
    """Return which networks ran eagerly on a GPU while others of the table ran as CUDA graphs.

    Small networks are several times slower eagerly, whatever they compute.

    Args:
        table: table of timings; without the column `runtime`, no runtime is known.
    """
    if "runtime" not in table:
        return pd.Series(data=False, index=table.index)
    eager: pd.Series[bool] = table["runtime"].eq("eager") & table["device"].ne("cpu")
    return eager & bool(table["runtime"].eq("cuda_graph").any())


def _timing_setup(
    measurements: MeasurementTable,
    protocol: Mapping[str, Any],
    resolution: int | None,
    timing: str | None,
) -> TimingSetup | None:
    """Return the setup of the measurements that count, or None if nothing states it."""
    if protocol:
        setup = study_timing_setup(protocol)
    else:
        sizes = measurements.columns["resolution"]
        of_size = [place for place, size in enumerate(sizes) if resolution in (None, size)]
        if not of_size:
            return None
        setup = TimingSetup.from_measurement(measurements[of_size[-1]])
    return setup if timing is None else setup.with_overrides(timing)
