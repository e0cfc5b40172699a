"""One measurement per network, on one scale, as columns that trials are joined with."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from partialnas.runs.measurement import Measurement, same_scale

_CONDITIONS = ("device", "threads", "batch_size", "resolution", "precision", "form")
FIGURES = (
    "throughput_img_s",
    "throughput_raw_img_s",
    "latency_ms",
    "relative_throughput",
    "relative_low",
    "relative_high",
    "peak_memory_bytes",
)
"""What is measured."""

COLUMNS = (*FIGURES, "noisy", *_CONDITIONS, "processor", "reference_name")
"""What a trial learns from the measurement of its network."""


def measured(
    measurements: Sequence[Measurement],
    protocol: Mapping[str, Any],
    resolution: int | None = None,
) -> pd.DataFrame:
    """The measurement that stands for each network; its digest is the index.

    Of those taken by the study's protocol the latest quiet one stands for a network, or the latest
    noisy one where there is no other. Throughput and latency are the relative throughput times the
    reference's median, so that a machine that is slower today does not matter; the figure as it was
    timed is `throughput_raw_img_s`.

    Args:
        measurements: all of a study, in the order in which they were taken.
        protocol: the study's `measure` settings; without them those of the last measurement.
        resolution: side of the images in pixels; None where all are of one size.
    """
    of_size = [m for m in measurements if resolution in (None, m.resolution)]
    suitable = _suitable(of_size, protocol)
    if not suitable:
        return pd.DataFrame(columns=[*COLUMNS])
    table = pd.DataFrame([vars(measurement) for measurement in same_scale(suitable)])
    table["throughput_raw_img_s"] = [m.throughput_img_s for m in suitable]
    table["processor"] = [m.environment.get("processor") for m in suitable]
    # a network without a deploy form is measured in its training form under the same protocol
    table["asked"] = table["form"].eq(protocol.get("form", suitable[-1].form))
    chosen = table.sort_values("noisy", ascending=False, kind="stable")
    chosen = chosen.sort_values("asked", kind="stable").drop_duplicates("digest", keep="last")
    return chosen.set_index("digest")[[*COLUMNS]]


def _suitable(
    measurements: Sequence[Measurement], protocol: Mapping[str, Any]
) -> list[Measurement]:
    """The measurements that were taken by the protocol, whatever form the network has."""
    if not measurements:
        return []
    wanted = _settings(measurements[-1])
    if protocol:
        kind = str(protocol["device"]).partition(":")[0]
        wanted = (kind, protocol["threads"], protocol["batch_size"], protocol["precision"])
    return [m for m in measurements if _settings(m) == wanted]


def _settings(m: Measurement) -> tuple[str, int, int, str]:
    return m.device_kind, m.threads, m.batch_size, m.precision
