"""What no test can know without a GPU: one fact a line, with what is expected of it.

    python benchmarks/gpu_acceptance.py                # all parts, some minutes
    python benchmarks/gpu_acceptance.py env steps      # some parts
    python benchmarks/gpu_acceptance.py --device cpu   # a dry run with few images

Images are made up: 45,000 of 32x32 pixels, each with a line that tells its class. A part that
fails is reported, and the others go on; the exit code is then 1. `docs/gpu.md` explains the facts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from gpu_machine import LEARNED, PLAIN, RICH, TASK, Machine, small
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from partialnas.runs.config.protocol import Precision
from partialnas.runs.devices.device import count_gpus
from partialnas.runs.devices.precision import DTYPES, precision_settings
from partialnas.runs.measure.measure import measure
from partialnas.runs.records.record import Record
from partialnas.runs.system.environment import environment
from partialnas.runs.trials.split_cache import SPLIT_CACHE
from partialnas.space.arch.presets import preset
from partialnas.space.deploy.fuse import deploy
from partialnas.space.errors import DeviceFaultError
from partialnas.space.nn.network import Network

MIXING: dict[str, Any] = {"mixup": 0.2, "cutmix": 1.0, "flip": True, "drop_path": 0.1}
PRECISIONS = ("float32", "bfloat16", "float16")
LOGIT_BOUNDS: dict[Precision, float] = {
    "float32": 1e-4,
    "tfloat32": 1e-2,
    "bfloat16": 2e-2,
    "float16": 5e-3,
}
"""Largest differences from logits in double precision, as shares of the largest logit."""


class Fact(NamedTuple):
    """One observation, and what is expected of it."""

    what: str
    value: object
    expected: str = ""


Facts = Iterator[Fact]


def summary(record: Record) -> str:
    """Return state and main metrics of a trial in one line."""
    if record.state != "done":
        return f"{record.state}: {record.reason}"
    shown = ("val_accuracy", "val_nll", "ratio_gap")
    numbers = [f"{key} {record.metrics[key]:.3g}" for key in shown if key in record.metrics]
    return ", ".join(["done", *numbers, f"{record.seconds:.1f} s"])


def env(machine: Machine) -> Facts:
    """Versions, and what the driver and Ray see."""
    for key, value in environment().items():
        yield Fact(key, value)
    yield Fact("GPUs of PyTorch", count_gpus(), "1 or more")
    if find_spec("ray") is not None and machine.is_gpu:
        from ray._private.accelerators import NvidiaGPUAcceleratorManager

        seen = NvidiaGPUAcceleratorManager.get_current_node_num_accelerators()
        yield Fact("GPUs of Ray itself", seen, "as many; runs pass PyTorch's number in any case")


def train(machine: Machine) -> Facts:
    """Trainings of all kinds of networks in all precisions."""
    networks = {"plain": PLAIN, "rich": RICH, **LEARNED}
    for name, network in networks.items():
        for precision in PRECISIONS[: machine.repetitions]:
            settings = {**MIXING, "precision": precision, "clip_grad": 1.0, "ema": 0.9}
            (record,) = machine.run(network, 2, **settings)
            yield Fact(f"{name} {precision}", summary(record), "done; ratio_gap at most 0.001")


def precision(machine: Machine) -> Facts:
    """Logits of the deploy form, compared with double precision on the CPU."""
    torch.manual_seed(0)
    network = Network(RICH, TASK.channels, TASK.classes).eval()
    images = torch.randn(32, 3, 32, 32, dtype=torch.float64)
    expected = deploy(network.double())(images)
    for name, bound in LOGIT_BOUNDS.items():
        if name == "tfloat32" and not machine.is_gpu:
            continue
        kind = torch.device(machine.device), DTYPES[name]
        with torch.no_grad(), precision_settings(name, kind[0]):
            logits = deploy(network).to(*kind)(images.to(*kind))
        gap = float((logits.cpu().double() - expected).abs().max() / expected.abs().max())
        yield Fact(f"logits in {name}", f"{gap:.1e}", f"at most {bound:g}")


def uncapturable(machine: Machine) -> Facts:
    """What is left of a process after a network that no CUDA graph can capture."""
    protocol = machine.protocol(batch_size=8, max_seconds=min(machine.seconds, 2))
    yield Fact("input-dependent ratios", measure(LEARNED["input"], TASK, protocol).runtime, "eager")
    if machine.is_gpu:
        is_default = torch.cuda.current_stream() == torch.cuda.default_stream()
        yield Fact("current stream is the default", is_default, "True")
        torch.cuda.empty_cache()
        yield Fact("empty_cache", "no error", "no error")
    yield Fact("a training with drop path", summary(machine.run(RICH, drop_path=0.1)[0]), "done")
    runtime = measure(PLAIN, TASK, protocol).runtime
    yield Fact("a static network", runtime, "cuda_graph (eager on a CPU)")


def speeds(machine: Machine) -> Facts:
    """Repeatability of measurements, and the speed of each precision and runtime."""
    networks = {"rich": RICH, "partialnet_t0": preset("partialnet_t0")}
    for name, network in list(networks.items())[: machine.repetitions - 1]:
        for kind in PRECISIONS[: machine.repetitions]:
            protocol = machine.protocol(precision=kind)
            both = [measure(network, TASK, protocol, PLAIN) for _ in range(2)]
            ratio = both[1].throughput_img_s / both[0].throughput_img_s
            yield Fact(f"{name} {kind}: images/s", f"{both[0].throughput_img_s:.0f}")
            yield Fact("  the second measurement", f"{ratio:.3f} of the first", "0.98 to 1.02")
            marks = [mark for m in both for mark in ("noisy", "tainted") if getattr(m, mark)]
            yield Fact("  runtime and marks", (both[0].runtime, *marks), "cuda_graph, no marks")
    for runtime in ("eager", "cuda_graph", "compiled") if machine.is_gpu else ("eager",):
        result = measure(RICH, TASK, machine.protocol(runtime=runtime))
        yield Fact(f"rich {runtime}: images/s", f"{result.throughput_img_s:.0f}")


def steps(machine: Machine) -> Facts:
    """Time of a training step, and the share of it in which the device works."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if machine.is_gpu else [])]
    networks = {"plain": PLAIN, "rich": RICH, "partialnet_t0": preset("partialnet_t0")}
    networks |= LEARNED
    for name, network in list(networks.items())[: machine.repetitions]:
        training = machine.training(network, 4, precision="bfloat16", flip=True)
        training.run_epoch()
        machine.wait()
        started = time.perf_counter()
        training.run_epoch()
        machine.wait()
        seconds = time.perf_counter() - started
        with profile(activities=activities) as profiler:
            training.run_epoch()
            machine.wait()
        events = [e for e in profiler.events() or () if e.device_type.name == "CUDA"]
        busy = sum(event.self_device_time_total for event in events) / 1e6 / seconds
        yield Fact(
            f"{name}: ms a step", f"{1000 * seconds / training.steps:.2f}", "see docs/gpu.md"
        )
        yield Fact("  device events a step", f"{len(events) / training.steps:.0f}")
        yield Fact("  device busy", f"{100 * busy:.0f} %", "see docs/gpu.md")


def lanes(machine: Machine) -> Facts:
    """Several seeds at a time: their results and their time, compared with one seed."""
    seeds = tuple(range(machine.repetitions))
    machine.run(RICH)  # warms up
    seconds: dict[str, float] = {}
    records: dict[str, list[Record]] = {}
    for name, chosen, count in (("one", seeds[:1], 1), ("lanes", seeds, len(seeds))):
        started = time.perf_counter()
        records[name] = machine.run(RICH, 2, chosen, count, precision="bfloat16")
        seconds[name] = time.perf_counter() - started
    nll = [records[name][0].metrics["val_nll"] for name in ("one", "lanes")]
    yield Fact("val_nll of seed 0, alone and in a lane", nll, "equal, or as near as in `repeat`")
    ratio = seconds["lanes"] / seconds["one"]
    yield Fact(f"{len(seeds)} lanes to one training", f"{ratio:.2f} of its time", "see docs/gpu.md")


def repeat(machine: Machine) -> Facts:
    """A training, the same again, and the same resumed from a stored state on the device."""

    def losses(stop: int | None) -> list[float]:
        training = machine.training(RICH, 3)
        for epoch in range(3):
            if epoch == stop:
                with tempfile.TemporaryFile() as file:
                    torch.save(training.state_dict(), file)
                    file.seek(0)
                    state = torch.load(file, map_location="cpu", weights_only=True)
                training = machine.training(RICH, 3)
                training.load_state_dict(state)
            training.run_epoch()
        return [row["val_nll"] for row in training.curve]

    with precision_settings("float32", torch.device(machine.device)):
        once, again, resumed = losses(None), losses(None), losses(1)
    for name, other in (("repeated", again), ("resumed", resumed)):
        gap = max(abs(a - b) for a, b in zip(once, other, strict=True))
        yield Fact(f"val_nll {name}: difference", f"{gap:.1e}", "0 on a CPU")
    records = [machine.run(RICH, 2, deterministic=True)[0] for _ in range(2)]
    equal = records[0].metrics == records[1].metrics
    yield Fact("equal with recipe.deterministic", equal, "True")


def memory(machine: Machine) -> Facts:
    """Memory that trials leave behind, and the time to bring images to the device."""
    for width in (16, 64, 24)[: machine.repetitions]:
        machine.run(small(width=width), precision="bfloat16")
        if machine.is_gpu:
            allocated = torch.cuda.memory_allocated() / 2**20
            yield Fact(f"allocated after width {width}", f"{allocated:.0f} MiB", "below 300 MiB")
    SPLIT_CACHE.clear()
    for name, expected in (("first", "below 1 s"), ("next", "0.00 s")):
        started = time.perf_counter()
        SPLIT_CACHE.get(machine.splits, machine.recipe(), torch.device(machine.device))
        machine.wait()
        seconds = time.perf_counter() - started
        yield Fact(f"images for the {name} trial", f"{seconds:.2f} s", expected)


def out_of_memory(machine: Machine) -> Facts:
    """A batch that does not fit is divided in two, and the next trial has whole batches again."""
    network = small(width=96)
    machine.run(network)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    machine.run(network)
    needed = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    for share, name in ((0.75 * needed / total, "three quarters of its need"), (1.0, "afterwards")):
        torch.cuda.set_per_process_memory_fraction(share)
        (record,) = machine.run(network)
        parts = record.environment.get("micro_batch", "whole batches")
        expected = f"done, {machine.batch_size // 2 if share < 1 else 'whole batches'}"
        yield Fact(name, f"{summary(record)}, {parts}", expected)


class Broken(nn.Module):
    """A network whose index is out of range: a device-side assert on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, TASK.classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return N x classes logits."""
        return self.weight[torch.full((len(x),), 9, device=x.device)]


def broken_trial(machine: Machine) -> str:
    """Train a network that breaks the device of this process, and return what comes of it."""
    with patch("partialnas.runs.trials.trial_run.build_network", lambda *_: Broken()):
        try:
            return summary(machine.run(PLAIN)[0])
        except DeviceFaultError as error:
            return f"DeviceFaultError: {error}"


def poison(machine: Machine) -> Facts:
    """A device-side assert is a fault of the device; its process is lost, and no other."""
    code = (
        "import gpu_acceptance as g; "
        f"print(g.broken_trial(g.Machine({machine.device!r})).splitlines()[0])"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=here, check=False)
    said = (result.stdout or result.stderr[-300:]).strip()
    yield Fact("in another process", said, "DeviceFaultError: ... device-side assert")
    yield Fact("a training in this one", summary(machine.run(PLAIN)[0]), "done")


BURN = """
import torch
a = torch.randn(8192, 8192, device="cuda")
print("ready", flush=True)
while True:
    a = (a @ a).clamp(-1, 1)
    torch.cuda.synchronize()
"""


def stranger(machine: Machine) -> Facts:
    """Another process that uses the GPU taints a measurement."""
    protocol = machine.protocol(batch_size=64, max_seconds=4)
    alone = measure(PLAIN, TASK, protocol)
    yield Fact("tainted, alone", alone.tainted, "False; None if the driver tells nothing")
    with subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            beside = measure(PLAIN, TASK, protocol)
        finally:
            other.kill()
    yield Fact("tainted, beside another process", beside.tainted, "True, or None")


PARTS: dict[str, Callable[[Machine], Facts]] = {
    part.__name__: part
    for part in (
        *(env, train, precision, uncapturable, out_of_memory, poison, repeat),
        *(steps, lanes, speeds, memory, stranger),
    )
}
"""What is checked first, then what is timed."""

NEED_A_GPU = ("out_of_memory", "stranger")


def run_parts(names: list[str], machine: Machine) -> int:
    """Print the facts of these parts, and return how many of the parts raised an error."""
    failures = 0
    for name in names:
        print(f"== {name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", flush=True)
        if name in NEED_A_GPU and not machine.is_gpu:
            print("   needs a GPU", flush=True)
            continue
        started = time.perf_counter()
        try:
            for what, value, expected in PARTS[name](machine):
                hint = f"   [{expected}]" if expected else ""
                print(f"   {what:42} {value}{hint}", flush=True)
        except Exception:
            failures += 1
            print(f"   FAILED\n{traceback.format_exc(limit=-4)}", flush=True)
        print(f"   {time.perf_counter() - started:.0f} s", flush=True)
    return failures


def main() -> None:
    """Run the chosen parts, and end with exit code 1 if one of them raised an error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--device", default="cuda", help="cuda (default), or cpu for a dry run")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic trainings
    torch.set_num_threads(1)
    sys.exit(1 if run_parts(options.parts or list(PARTS), Machine(options.device)) else 0)


if __name__ == "__main__":
    main()
