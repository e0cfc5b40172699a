"""Measure the networks of a bundle on this board; needs only Python 3.9, numpy and onnxruntime.

    python measure.py            measure every network relative to the reference, write result.json
    python measure.py --help     threads, batch size, seconds, execution provider

Networks are interleaved with the reference in the order reference, network, network, reference. The
reported speed is the median over these rounds of the ratio of their times, with a 95 % interval by
order statistics; slow drift of the board cancels. Import the result where the bundle was written,
with `partialnas remeasure DIR --import result.json`.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Callable, NamedTuple  # noqa: UP035 (older Pythons on boards)

import numpy as np

BUNDLE_FORMAT = 1
MIN_VALUES, MIN_ROUNDS, MAX_ROUNDS, WINDOW = 6, 25, 2000, 5
AGREEMENT, WARM_UP_SHARE, MAX_CLOCK_GAP, MAX_FOREIGN_SHARE = 0.05, 0.25, 0.05, 0.1
CORES = os.cpu_count() or 1
MIN_TIMING_S = {"cpu": 0.001, "other": 0.010}


class BoardTiming(NamedTuple):
    """Seconds of one forward pass by two clocks."""

    primary: float
    secondary: float


Runner = Callable[[int], BoardTiming]
Round = tuple[BoardTiming, BoardTiming]  # network, reference


def main(arguments: list[str] | None = None) -> None:
    """Measure the bundle in this script's folder."""
    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    options = _parse_options(manifest["protocol"], arguments)
    reference, networks = manifest["reference"], manifest["networks"]
    sessions = {
        network["digest"]: _session(folder, network, options) for network in [reference, *networks]
    }
    measurements: list[dict[str, Any]] = []
    for number, network in enumerate(networks, start=1):
        print(f"{number}/{len(networks)} {network['name']} ...", end=" ", flush=True)
        measurement = _measure(network, reference, sessions, options)
        measurements.append(measurement)
        marks = [mark for mark in ("noisy", "tainted") if measurement[mark]]
        print(f"{measurement['relative']:.3f} x reference", *marks)
    result = {
        "partialnas_result": BUNDLE_FORMAT,
        "study": manifest["study"],
        "resolution": manifest["resolution"],
        "in_chans": manifest["in_chans"],
        "form": manifest["form"],
        "reference": {key: reference[key] for key in ("digest", "name", "form", "sha256")},
        "device": options.device or ("cpu" if _is_cpu(options) else options.provider),
        "provider": sessions[reference["digest"]].get_providers()[0],
        "threads": options.threads,
        "batch_size": options.batch_size,
        "environment": _environment(),
        "measurements": measurements,
    }
    Path(options.out).write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    print(f"wrote {options.out}")


def _parse_options(protocol: dict[str, Any], arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the networks of this bundle.")
    add = parser.add_argument
    add("--out", default="result.json", help="output file")
    add("--threads", type=int, default=protocol["threads"], help="CPU threads")
    add("--batch-size", type=int, default=protocol["batch_size"], help="images per forward pass")
    add("--seconds", type=float, default=protocol["max_seconds"], help="time limit per network")
    add(
        "--half-width", type=float, default=protocol["target_half_width"],
        help="stop when the 95 %% interval is this narrow, as a share of the median",
    )  # fmt: skip
    add("--provider", default="CPUExecutionProvider", help="execution provider of onnxruntime")
    add("--device", default="", help="name of the board in figures and tables")
    return parser.parse_args(arguments)


def _session(folder: Path, network: dict[str, Any], options: argparse.Namespace) -> Any:
    """Load a network; exit if its file is damaged or the provider is unavailable."""
    import onnxruntime

    path = folder / network["file"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != network["sha256"]:
        sys.exit(f"{path.name} is damaged: copy the bundle again")
    providers = onnxruntime.get_available_providers()
    if options.provider not in providers:
        sys.exit(f"invalid --provider {options.provider!r}: choose from {', '.join(providers)}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=[options.provider])
    if session.get_providers()[0] != options.provider:
        sys.exit(f"{options.provider} cannot run on this board: choose another --provider")
    return session


def _is_cpu(options: argparse.Namespace) -> bool:
    return bool(options.provider == "CPUExecutionProvider")


def _measure(
    network: dict[str, Any],
    reference: dict[str, Any],
    sessions: dict[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:
    digests = dict.fromkeys([network["digest"], reference["digest"]])
    runners = [_runner(sessions[digest], options) for digest in digests]
    start, busy, process_time = time.perf_counter(), _busy_s(), time.process_time()
    rounds = time_interleaved(*runners, options=options)
    foreign = _busy_s() - busy - (time.process_time() - process_time) - 0.01 * CORES
    capacity = (time.perf_counter() - start) * CORES
    summary = summarize_rounds(rounds, options.half_width)
    if len(digests) == 1:
        summary |= {"relative": 1.0, "low": 1.0, "high": 1.0}
    return {
        **{key: network[key] for key in ("digest", "name", "form", "sha256")},
        **summary,
        "tainted": foreign > MAX_FOREIGN_SHARE * capacity if _is_cpu(options) else None,
        "logit_difference": _logit_difference(sessions[network["digest"]], network),
        "taken": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    }


def summarize_rounds(rounds: list[Round], half_width: float) -> dict[str, Any]:
    """Return the speed relative to the reference, times, and quality marks."""
    speed, low, high = median_interval(_relative_speeds(rounds))
    secondary = median(reference.secondary / network.secondary for network, reference in rounds)
    gap = abs(secondary / speed - 1)
    return {
        "relative": speed,
        "low": low,
        "high": high,
        "reference_seconds": median(reference.primary for _, reference in rounds),
        "seconds": median(network.primary for network, _ in rounds),
        "rounds": len(rounds),
        "clock_gap": gap,
        "noisy": gap > MAX_CLOCK_GAP or not is_precise_enough(rounds, half_width),
    }


def _relative_speeds(rounds: list[Round]) -> list[float]:
    return [reference.primary / network.primary for network, reference in rounds]


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median and the ends of its 95 % interval by order statistics."""
    ordered = sorted(values)
    count, combinations, tail, outside = len(ordered), 1, 0, -1
    while 40 * (tail + combinations) <= 2**count:
        outside, tail = outside + 1, tail + combinations
        combinations = combinations * (count - outside) // (outside + 1)
    outside = max(outside, 0)
    return median(ordered), ordered[outside], ordered[-1 - outside]


def is_precise_enough(rounds: list[Round], half_width: float) -> bool:
    """Return whether the interval of the relative speed is as narrow as requested."""
    if len(rounds) < MIN_VALUES:
        return False
    middle, low, high = median_interval(_relative_speeds(rounds))
    return max(middle - low, high - middle) <= half_width * middle


def time_interleaved(
    network: Runner, reference: Runner | None = None, *, options: argparse.Namespace
) -> list[Round]:
    """Run rounds until the interval is as narrow as requested, or time is up."""
    start, min_timing_s = time.perf_counter(), MIN_TIMING_S["cpu" if _is_cpu(options) else "other"]
    gc.collect()
    gc.disable()
    try:
        passes = _num_passes(network, min_timing_s)
        reference_passes = _num_passes(reference, min_timing_s) if reference else 0

        def run_round() -> Round:
            if reference is None:
                return network(passes), BoardTiming(1.0, 1.0)
            before = reference(reference_passes)
            first, second = network(passes), network(passes)
            return _mean(first, second), _mean(before, reference(reference_passes))

        _warm_up(run_round, start + WARM_UP_SHARE * options.seconds)
        rounds = [run_round()]
        while len(rounds) < MAX_ROUNDS and time.perf_counter() < start + options.seconds:
            rounds.append(run_round())
            is_checked = len(rounds) >= MIN_ROUNDS and len(rounds) % WINDOW == 0
            if is_checked and is_precise_enough(rounds, options.half_width):
                break
        return rounds
    finally:
        gc.enable()


def _runner(session: Any, options: argparse.Namespace) -> Runner:
    """Return a runner; its primary clock is CPU time with one thread, else the wall clock."""
    shape = session.get_inputs()[0].shape[1:]
    images = np.random.RandomState(0).standard_normal((options.batch_size, *shape))
    feed = {"image": images.astype(np.float32)}
    is_fine = time.get_clock_info("thread_time").resolution < 1e-4
    cpu_time = time.thread_time if _is_cpu(options) and is_fine else time.perf_counter
    clocks = (cpu_time, time.perf_counter)
    primary, secondary = clocks if options.threads == 1 else clocks[::-1]

    def run(passes: int) -> BoardTiming:
        secondary_start, primary_start = secondary(), primary()
        for _ in range(passes):
            session.run(None, feed)
        seconds = primary() - primary_start, secondary() - secondary_start
        return BoardTiming(seconds[0] / passes, seconds[1] / passes)

    return run


def _num_passes(runner: Runner, min_timing_s: float) -> int:
    """Return the passes of one timing of the minimum length; the first, slow pass is dropped."""
    runner(1)
    passes = 1
    while (seconds := runner(passes).primary) * passes < min_timing_s:
        passes = max(passes + 1, math.ceil(min_timing_s / max(seconds, min_timing_s / 1000)))
    return passes


def _mean(a: BoardTiming, b: BoardTiming) -> BoardTiming:
    return BoardTiming((a.primary + b.primary) / 2, (a.secondary + b.secondary) / 2)


def _warm_up(run_round: Callable[[], Round], until: float) -> None:
    """Run rounds until the medians of two consecutive windows agree, or time is up."""
    seconds: list[float] = []
    while time.perf_counter() < until:
        seconds.append(run_round()[0].primary)
        if len(seconds) % WINDOW == 0 and len(seconds) > WINDOW:
            before, now = median(seconds[-2 * WINDOW : -WINDOW]), median(seconds[-WINDOW:])
            if abs(now / before - 1) < AGREEMENT:
                return


def _logit_difference(session: Any, network: dict[str, Any]) -> float:
    """Return the largest difference from the manifest's logits, over the largest of them."""
    expected = np.array(network["logits"], dtype=np.float64)
    shape = session.get_inputs()[0].shape[1:]
    images = np.random.RandomState(0).standard_normal((len(expected), *shape))
    logits = np.asarray(session.run(None, {"image": images.astype(np.float32)})[0], np.float64)
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


def _busy_s() -> float:
    """Return the busy seconds of all cores by Linux's counters, or 0 if unavailable."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return 0.0
    fields = [int(word) for word in lines[0].split()[1:9]]  # sums over all cores
    return (sum(fields) - fields[3] - fields[4]) / ticks


def _environment() -> dict[str, Any]:
    import onnxruntime

    return {
        "processor": _processor(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "cores": CORES,
    }


def _processor() -> str:
    """Return the model of the board or its processor."""
    for path, label in (("/proc/device-tree/model", ""), ("/proc/cpuinfo", "model name")):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        lines = [line for line in text.splitlines() if line.startswith(label)]
        if lines:
            return lines[0].partition(":")[2].strip() if label else text.strip("\0\n ")
    return f"unknown ({platform.machine()})"


if __name__ == "__main__":
    main()
