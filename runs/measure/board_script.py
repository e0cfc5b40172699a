"""Measures the networks of a bundle on this board; needs Python 3.9, numpy and onnxruntime alone.

    python measure.py            measures every network beside the reference, writes result.json
    python measure.py --help     threads, batch size, seconds, execution provider

Networks run in turns with the reference, in the order reference, network, network, reference. What
is told is the median over these rounds of the ratio of their times, and its 95 % interval by order
statistics; so drift of the board cancels. Read the result back where the bundle was made, with
`partialnas remeasure DIR --import result.json`.
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
FEWEST, MIN_ROUNDS, MAX_ROUNDS, WINDOW = 6, 25, 2000, 5
AGREEMENT, WARM_UP_SHARE, MAX_CLOCK_GAP, MOST_FOREIGN = 0.05, 0.25, 0.05, 0.1
LAP_S = {"cpu": 0.001, "other": 0.010}


class BoardTiming(NamedTuple):
    """Seconds of one forward pass, by the clock that decides and by another one."""

    own: float
    other: float


Runner = Callable[[int], BoardTiming]
Round = tuple[BoardTiming, BoardTiming]


def main(arguments: list[str] | None = None) -> None:
    """Measures the bundle in this script's folder."""
    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    asked = _arguments(manifest["protocol"], arguments)
    sessions = {each["digest"]: _session(folder, each, asked) for each in _all(manifest)}
    reference, networks = manifest["reference"], manifest["networks"]
    beside = sessions[reference["digest"]]
    measured: list[dict[str, Any]] = []
    for network in networks:
        print(f"{len(measured) + 1}/{len(networks)} {network['name']} ...", end=" ", flush=True)
        found = _measure(network, sessions[network["digest"]], reference, beside, asked)
        measured.append(found)
        marks = [mark for mark in ("noisy", "tainted") if found[mark]]
        print(f"{found['relative']:.3f} x reference", *marks)
    result = {
        "partialnas_result": BUNDLE_FORMAT,
        "study": manifest["study"],
        "resolution": manifest["resolution"],
        "in_chans": manifest["in_chans"],
        "form": manifest["form"],
        "reference": {key: reference[key] for key in ("digest", "name", "form", "sha256")},
        "device": asked.device or _device(asked),
        "provider": beside.get_providers()[0],
        "threads": asked.threads,
        "batch_size": asked.batch_size,
        "environment": _environment(),
        "measurements": measured,
    }
    Path(asked.out).write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    print(f"wrote {asked.out}")


def _arguments(protocol: dict[str, Any], arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the networks of this bundle.")
    parser.add_argument("--out", default="result.json", help="the file that is written")
    parser.add_argument("--threads", type=int, default=protocol["threads"])
    parser.add_argument("--batch-size", type=int, default=protocol["batch_size"])
    parser.add_argument("--seconds", type=float, default=protocol["max_seconds"], help="for each")
    parser.add_argument("--half-width", type=float, default=protocol["target_half_width"])
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of onnxruntime")
    parser.add_argument("--device", default="", help="what the board is called in figures")
    return parser.parse_args(arguments)


def _all(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [manifest["reference"], *manifest["networks"]]


def _session(folder: Path, network: dict[str, Any], asked: argparse.Namespace) -> Any:
    """A network ready to run; refused where its file is not the one that was made."""
    import onnxruntime

    path = folder / network["file"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != network["sha256"]:
        sys.exit(f"{path.name} is damaged: copy the bundle again")
    if asked.provider not in onnxruntime.get_available_providers():
        there = ", ".join(onnxruntime.get_available_providers())
        sys.exit(f"onnxruntime has no {asked.provider} here; it has {there}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = asked.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=[asked.provider])
    if session.get_providers()[0] != asked.provider:
        sys.exit(f"{asked.provider} cannot be used on this board")
    return session


def _measure(
    network: dict[str, Any],
    session: Any,
    reference: dict[str, Any],
    beside: Any,
    asked: argparse.Namespace,
) -> dict[str, Any]:
    on_cpu = asked.provider == "CPUExecutionProvider"
    itself = network["digest"] == reference["digest"]
    runners = [_runner(each, asked, on_cpu) for each in [session, *([] if itself else [beside])]]
    began, busy, own = time.perf_counter(), _busy_s(), time.process_time()
    rounds = time_interleaved(*runners, min_timing_s=LAP_S["cpu" if on_cpu else "other"], options=asked)
    foreign = _busy_s() - busy - (time.process_time() - own) - 0.01 * _cores()
    capacity = (time.perf_counter() - began) * _cores()
    told = summarize_rounds(rounds, asked.half_width)
    if itself:
        told |= {"relative": 1.0, "low": 1.0, "high": 1.0}
    return {
        **{key: network[key] for key in ("digest", "name", "form", "sha256")},
        **told,
        "tainted": on_cpu and foreign > MOST_FOREIGN * capacity,
        "logit_difference": _difference(session, network),
        "taken": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    }


def summarize_rounds(rounds: list[Round], half_width: float) -> dict[str, Any]:
    """What rounds say: the network's speed relative to the reference, and marks against it."""
    speeds = [reference.own / network.own for network, reference in rounds]
    middle, low, high = median_interval(speeds)
    by_other = median(reference.other / network.other for network, reference in rounds)
    gap = abs(by_other / middle - 1)
    return {
        "relative": middle,
        "low": low,
        "high": high,
        "reference_seconds": median(reference.own for _, reference in rounds),
        "seconds": median(network.own for network, _ in rounds),
        "rounds": len(rounds),
        "clock_gap": gap,
        "noisy": gap > MAX_CLOCK_GAP or not settled(rounds, half_width),
    }


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """The median and the ends of its 95 % interval by order statistics."""
    ordered = sorted(values)
    count, ways, tail, spared = len(ordered), 1, 0, -1
    while 40 * (tail + ways) <= 2**count:
        spared, tail = spared + 1, tail + ways
        ways = ways * (count - spared) // (spared + 1)
    spared = max(spared, 0)
    return median(ordered), ordered[spared], ordered[-1 - spared]


def settled(rounds: list[Round], half_width: float) -> bool:
    """Whether the rounds tell the speed as exactly as asked."""
    if len(rounds) < FEWEST:
        return False
    middle, low, high = median_interval(
        [reference.own / network.own for network, reference in rounds]
    )
    return max(middle - low, high - middle) <= half_width * middle


def time_interleaved(
    network: Runner, reference: Runner | None = None, *, min_timing_s: float, options: argparse.Namespace
) -> list[Round]:
    """Plays rounds until the speed is known as exactly as asked, or time is up."""
    start = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        passes = _passes(network, min_timing_s)
        others = _passes(reference, min_timing_s) if reference else 0

        def play() -> Round:
            if reference is None:
                lap = network(passes)
                return lap, BoardTiming(1.0, 1.0)
            before = reference(others)
            first, second = network(passes), network(passes)
            return _mean(first, second), _mean(before, reference(others))

        _warm_up(play, start + WARM_UP_SHARE * options.seconds)
        rounds = [play()]
        while len(rounds) < MAX_ROUNDS and time.perf_counter() < start + options.seconds:
            rounds.append(play())
            due = len(rounds) >= MIN_ROUNDS and len(rounds) % WINDOW == 0
            if due and settled(rounds, options.half_width):
                break
        return rounds
    finally:
        gc.enable()


def _runner(session: Any, asked: argparse.Namespace, on_cpu: bool) -> Runner:
    """Times forward passes: by CPU time where one thread does all, else by the clock."""
    shape = session.get_inputs()[0].shape[1:]
    images = np.random.RandomState(0).standard_normal((asked.batch_size, *shape))
    feed = {"image": images.astype(np.float32)}
    fine = time.get_clock_info("thread_time").resolution < 1e-4
    cpu_time = time.thread_time if on_cpu and fine else time.perf_counter
    clocks = (cpu_time, time.perf_counter)
    own, other = clocks if asked.threads == 1 else clocks[::-1]

    def lap(passes: int) -> BoardTiming:
        other_start, own_start = other(), own()
        for _ in range(passes):
            session.run(None, feed)
        own_end, other_end = own(), other()
        return BoardTiming((own_end - own_start) / passes, (other_end - other_start) / passes)

    return lap


def _passes(runner: Runner, lap_s: float) -> int:
    """Passes of a lap of the length asked for; a first pass, slow for its own reasons, is lost."""
    runner(1)
    passes = 1
    while (seconds := runner(passes).own) * passes < lap_s:
        passes = max(passes + 1, math.ceil(lap_s / max(seconds, lap_s / 1000)))
    return passes


def _mean(one: BoardTiming, two: BoardTiming) -> BoardTiming:
    return BoardTiming((one.own + two.own) / 2, (one.other + two.other) / 2)


def _warm_up(play: Callable[[], Round], until: float) -> None:
    """Plays until two medians that follow each other agree, or time is up."""
    seconds: list[float] = []
    while time.perf_counter() < until:
        seconds.append(play()[0].own)
        if len(seconds) % WINDOW == 0 and len(seconds) > WINDOW:
            before, now = median(seconds[-2 * WINDOW : -WINDOW]), median(seconds[-WINDOW:])
            if abs(now / before - 1) < AGREEMENT:
                return


def _difference(session: Any, network: dict[str, Any]) -> float:
    """Of the logits here and where the bundle was made, on the same images, over the largest."""
    expected = np.array(network["logits"], dtype=np.float64)
    shape = session.get_inputs()[0].shape[1:]
    images = np.random.RandomState(0).standard_normal((len(expected), *shape))
    logits = np.asarray(session.run(None, {"image": images.astype(np.float32)})[0], np.float64)
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


def _busy_s() -> float:
    """Seconds that the cores have been busy, by Linux; 0 where it does not tell."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return 0.0
    fields = [int(word) for word in lines[0].split()[1:9]]  # of all cores
    return (sum(fields) - fields[3] - fields[4]) / ticks


def _cores() -> int:
    return os.cpu_count() or 1


def _device(asked: argparse.Namespace) -> str:
    return "cpu" if asked.provider == "CPUExecutionProvider" else asked.provider


def _environment() -> dict[str, Any]:
    import onnxruntime

    return {
        "processor": _processor(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "cores": _cores(),
    }


def _processor() -> str:
    """The board's or the processor's model, where the system tells it."""
    for path, mark in (("/proc/device-tree/model", ""), ("/proc/cpuinfo", "model name")):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        lines = [line for line in text.splitlines() if line.startswith(mark)]
        if lines:
            return lines[0].partition(":")[2].strip() if mark else text.strip("\0\n ")
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
