"""One measurement per network, on one scale, as columns that trials are joined with."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from partialnas.runs.records.measurement import Measurement, MeasurementTable, reference_scales
from partialnas.runs.records.timing_choice import (
    TimingSetup,
    select_measurements,
    study_timing_setup,
)

_CONDITIONS = ("device", "threads", "batch_size", "resolution", "precision", "form", "runtime")
MEASURED_COLUMNS = (
    "throughput_img_s",
    "throughput_raw_img_s",
    "latency_ms",
    "relative_throughput",
    "relative_low",
    "relative_high",
    "peak_memory_bytes",
)
"""What is measured."""

TIMING_COLUMNS = (
    *MEASURED_COLUMNS,
    "noisy",
    "tainted",
    *_CONDITIONS,
    "processor",
    "reference_name",
)
"""What a trial learns from the measurement of its network."""

_TOLD = ("digest", *(key for key in TIMING_COLUMNS if key in Measurement.model_fields), "processor")


def timing_table(
    measurements: MeasurementTable,
    protocol: Mapping[str, Any],
    resolution: int | None = None,
    timing: str | None = None,
) -> pd.DataFrame:
    """The measurement that stands for each network; its digest is the index.

    It is one that was taken by the study's protocol, on the study's own machine where there is one:
    the latest that is quiet, or the latest where all are noisy or tainted (see `runs.timings`).
    Throughput and latency are the relative throughput times the reference's median, so that a
    machine that is slower today does not matter; the figure as it was timed is
    `throughput_raw_img_s`. `noisy` marks tainted ones, too: in both cases the machine was not
    quiet.

    Args:
        measurements: all of a study, in the order in which they were taken.
        protocol: the study's `measure` settings; without them those of the last measurement.
        resolution: side of the images in pixels; None where all are of one size.
        timing: settings that replace those of the protocol, such as `batch_size=1,device=H100`.

    Raises:
        UserError: `timing` makes no sense.
    """
    way = _way(measurements, protocol, resolution, timing)
    if way is None:
        return pd.DataFrame(columns=[*TIMING_COLUMNS])
    fitting, stands = select_measurements(measurements, way, (resolution, None))
    if not fitting:
        return pd.DataFrame(columns=[*TIMING_COLUMNS])
    scales, places = reference_scales(measurements, fitting), [*stands.values()]
    told = {name: measurements.column(name) for name in _TOLD}
    table = pd.DataFrame({name: [*map(each.__getitem__, places)] for name, each in told.items()})
    table["throughput_raw_img_s"] = table["throughput_img_s"]
    table["noisy"] |= table["tainted"]
    known = np.array([scales[place] for place in places], dtype=np.float64)  # of None NaN
    speed = table["relative_throughput"].astype("float64") * known
    table["throughput_img_s"] = speed.fillna(table["throughput_img_s"])
    latency = 1000 * table["batch_size"] / speed
    table["latency_ms"] = latency.fillna(table["latency_ms"])
    return table.set_index("digest")[[*TIMING_COLUMNS]]


def _way(
    measurements: MeasurementTable,
    protocol: Mapping[str, Any],
    resolution: int | None,
    timing: str | None,
) -> TimingSetup | None:
    """Which measurements are meant; None where nothing tells."""
    if protocol:
        own = study_timing_setup(protocol)
    else:
        sizes = measurements.columns["resolution"]
        of_size = [place for place, size in enumerate(sizes) if resolution in (None, size)]
        if not of_size:
            return None
        own = TimingSetup.from_measurement(measurements[of_size[-1]])
    return own if timing is None else own.with_overrides(timing)
