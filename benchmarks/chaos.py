"""Inject faults into real studies, and print a table of the results.

    python benchmarks/chaos.py [NAME...]

Each fault hits a study that the command line runs in separate processes. Then the same command is
repeated until the study is done. Invariants after every fault:

- unique records: there is one final record per network, seed and fidelity;
- records kept: trials that were final before the fault are in the ledger unchanged;
- no repeats: no trial that was final before a fault is run again after it;
- completes: the same command ends with all trials of the study.

The exit code is 1 if an invariant does not hold.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from chaos_signals import send_at_many_moments
from chaos_study import IN_PROCESS, PROGRAM, RAY, SHORT_GRACE, TRIALS, ChaosStudy

from partialnas.search.session.signals import EXIT_CODES
from partialnas.space.errors import MachineError


def driver_killed(times: int) -> Callable[[ChaosStudy], None]:
    """Return a fault that kills the driver at random moments, one time in three with Ray."""

    def inject(study: ChaosStudy) -> None:
        rng = random.Random(0)
        for repeat in range(times):
            driver = study.start(RAY if repeat % 3 == 0 else IN_PROCESS)
            study.wait_for(len(study.finished) + 1, driver)
            time.sleep(rng.uniform(0, 0.1))
            _kill_driver(driver)
            study.check_after_fault()
        study.remarks.append(f"{len(study.finished)} of {TRIALS} done at the last fault")
        study.finish()

    inject.__doc__ = f"Driver killed {times} times at random moments, one time in three with Ray."
    return inject


def _kill_driver(driver: "subprocess.Popen[str]") -> None:
    """Kill the driver; wait for its children except Ray's agents, which take a minute to end."""
    children = psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
    driver.kill()
    driver.communicate()
    psutil.wait_procs([p for p in children if not _name(p).endswith("Agent")], timeout=60)


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return process.name()
    return ""


def worker_killed(study: ChaosStudy) -> None:
    """Worker killed three times."""
    driver = study.start(RAY)
    killed = 0
    for goal in (3, 9, 15):
        study.wait_for(goal, driver)
        study.check_after_fault()
        while driver.poll() is None and not (workers := _workers(driver)):
            time.sleep(0.05)
        if driver.poll() is None:
            workers[0].kill()
            killed += 1
    study.wait_until_ended(driver)
    study.expect("three workers are killed", holds=killed == 3)
    study.remarks.append(f"{killed} workers killed")
    study.finish()


def _workers(driver: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Return the worker processes of the driver."""
    children = psutil.Process(driver.pid).children(recursive=True)
    return [p for p in children if "ray::ResourceTrainable" in " ".join(_command(p))]


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def ray_lost(study: ChaosStudy) -> None:
    """Ray's raylet killed while it starts, its GCS while trials run."""
    (study.folder / "fault").write_text("hangs")  # the study cannot end before the fault
    (study.folder / "one-in").write_text("4")
    for name, goal in (("raylet", 0), ("gcs_server", 3)):
        driver = study.start(RAY)
        lost: list[psutil.Process] = []
        while driver.poll() is None and not lost:
            lost = _children(driver, name)
            time.sleep(0.01)
        study.wait_for(goal, driver)
        for process in lost:
            process.kill()
        errors = study.wait_until_ended(driver)
        message = "has ended unexpectedly" in errors and "to resume" in errors
        study.expect(f"loss of {name} reported", holds=driver.returncode == 1 and message)
        study.expect("no traceback", holds="Traceback" not in errors and "bug" not in errors)
        study.check_after_fault()
    (study.folder / "fault").unlink()
    study.finish()


def _children(driver: "subprocess.Popen[str]", name: str) -> list[psutil.Process]:
    children = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in children if _name(process) == name]


_NODE_LOSS = """
import sys, threading, time
from pathlib import Path
from ray._private import node
from ray.cluster_utils import Cluster
from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.executors.ray_process import LeanNode
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study_file import load_study
node.Node = LeanNode
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = cluster.add_node(num_cpus=1)
path, out = Path(sys.argv[1]), Path(sys.argv[3])
def remove_second_node():
    while True:
        time.sleep(0.1)
        try:
            with Ledger.open(out) as ledger:
                if ledger.state_counts()["done"] >= 10:
                    break
        except Exception:
            pass
    cluster.remove_node(second, allow_graceful=False)
    print("second node lost", file=sys.stderr)
threading.Thread(target=remove_second_node, daemon=True).start()
try:
    run_study(load_study(path), out, base_dir=path.parent, address=cluster.address)
finally:
    cluster.shutdown()
"""


def node_lost(study: ChaosStudy) -> None:
    """One of two nodes lost."""
    study.program = ("-c", _NODE_LOSS)
    errors = study.wait_until_ended(study.start(RAY))
    study.check_after_fault()
    study.expect("a node is lost", holds="second node lost" in errors)
    study.remarks.append(f"{len(study.finished)} of {TRIALS} done without the node")
    study.program = PROGRAM
    study.finish()


def misbehaving(fault: str) -> Callable[[ChaosStudy], None]:
    """Return a fault of one trial in five, or of fewer if each fault costs a worker process."""
    one_in = 18 if fault == "hangs" else 5

    def inject(study: ChaosStudy) -> None:
        (study.folder / "fault").write_text(fault)
        (study.folder / "one-in").write_text(str(one_in))
        executor = RAY | {"time_limit_s": 3} if fault == "hangs" else IN_PROCESS
        if fault == "hangs":
            study.program = ("-c", SHORT_GRACE)
        study.finish(executor)
        states = Counter(row.state for row in study.rows())
        reasons = sorted({row.reason for row in study.rows() if row.reason})
        study.remarks.append(f"{dict(states)}: {'; '.join(reasons)}")
        state = "timeout" if fault == "hangs" else "failed"
        study.expect("only these trials fail", holds=0 < states[state] < TRIALS / 2)

    inject.__doc__ = f"One trial in {one_in} {fault}."
    return inject


def disk_full(study: ChaosStudy) -> None:
    """Disk full while the ledger is written."""
    with _small_disk(study) as grow:
        driver = study.start(IN_PROCESS)
        errors = study.wait_until_ended(driver)
        study.expect("the error is reported", holds=driver.returncode == 1 and "full" in errors)
        study.check_after_fault()
        study.remarks.append(f"{len(study.finished)} of {TRIALS} done at the last fault")
        grow()
        study.finish()


@contextmanager
def _small_disk(study: ChaosStudy) -> Iterator[Callable[[], None]]:
    """Mount a disk of 300 kB for the results, and yield a function that enlarges it."""
    study.out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, "size=300k", "tmpfs", str(study.out)], check=True)
    try:
        yield lambda: subprocess.run([*mount, "remount,size=50m", str(study.out)], check=True)
    finally:
        subprocess.run(["umount", str(study.out)], check=True)


def file_damaged(how: str) -> Callable[[ChaosStudy], None]:
    """Return a fault that damages the ledger's file between two runs."""

    def inject(study: ChaosStudy) -> None:
        study.wait_until_ended(study.start(IN_PROCESS, budget={"trials": TRIALS // 2}))
        study.check_after_fault()
        path = study.out / "ledger.sqlite"
        content = bytearray(path.read_bytes())
        if how == "truncated":
            content = content[: len(content) // 2]
        else:
            content[content.index(b"val_nll")] ^= 1
        path.write_bytes(content)
        driver = study.start(IN_PROCESS)
        errors = study.wait_until_ended(driver)
        advice = f"partialnas restore {study.out}"
        study.expect("refused with advice", holds=driver.returncode == 1 and advice in errors)
        restore = [sys.executable, "-m", "partialnas", "restore", str(study.out)]
        restored = subprocess.run(restore, capture_output=True, text=True, check=False)
        study.expect("restored from a backup", holds=restored.returncode == 0)
        study.finish()

    inject.__doc__ = f"Ledger {how}; restored with the command that the message names."
    return inject


def two_drivers(study: ChaosStudy) -> None:
    """Second driver started on the same study."""
    first = study.start(IN_PROCESS)
    study.wait_for(3, first)
    first.send_signal(signal.SIGSTOP)  # so that it does not end before the second starts
    second = study.start(IN_PROCESS)
    errors = study.wait_until_ended(second)
    first.send_signal(signal.SIGCONT)
    study.expect(
        "the second is refused", holds=second.returncode == 2 and f"process {first.pid}" in errors
    )
    study.wait_until_ended(first)
    study.check_after_fault()
    study.finish()


_JUMPING_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
static unsigned calls;
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += (calls++ * 2654435761u >> 16) % 172800 - 86400;
    return code;
}
"""


def clock_jumping(study: ChaosStudy) -> None:
    """Wall clock up to a day early or late at every call."""
    source, library = study.folder / "jump.c", study.folder / "jump.so"
    source.write_text(_JUMPING_CLOCK)
    compiler = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(compiler, check=True)
    limited = {"budget": {"trials": TRIALS, "hours": 1}}
    jumping = {"LD_PRELOAD": str(library)}
    driver = study.start(IN_PROCESS, environment=jumping, **limited)
    study.wait_for(TRIALS // 2, driver)
    _kill_driver(driver)
    study.check_after_fault()
    driver = study.start(IN_PROCESS, environment=jumping, **limited)
    study.wait_until_ended(driver)
    study.expect("completes with that clock", holds=driver.returncode == 0)
    study.finish(**limited)


def interrupted(times: int, executor: dict[str, Any]) -> Callable[[ChaosStudy], None]:
    """Return a fault that presses Ctrl-C once or twice."""

    def inject(study: ChaosStudy) -> None:
        driver = study.start(executor)
        study.wait_for(5, driver)
        for press in range(times):
            time.sleep(0.05 * press)
            driver.send_signal(signal.SIGINT)
        errors = study.wait_until_ended(driver)
        study.check_after_fault()
        holds = driver.returncode == 130 and "Traceback" not in errors
        study.expect("exit code 130, no traceback", holds=holds)
        states = Counter(row.state for row in study.rows())
        study.expect("no trial is left running", holds=states["running"] == 0)
        if times == 1:
            started = (study.folder / "calls").read_text().count("begin")
            done = (study.folder / "calls").read_text().count("end")
            study.expect("running trials are finished", holds=started == done == states["done"])
        study.finish()

    inject.__doc__ = f"Ctrl-C {'once' if times == 1 else 'twice'}, {executor['kind']}."
    return inject


def signalled(name: str) -> Callable[[ChaosStudy], None]:
    """Return a fault that sends the driver a signal of a cluster's scheduler."""

    def inject(study: ChaosStudy) -> None:
        driver = study.start(RAY)
        study.wait_for(5, driver)
        driver.send_signal(signal.Signals[name])
        errors = study.wait_until_ended(driver)
        study.check_after_fault()
        study.expect("no traceback", holds="Traceback" not in errors)
        code = EXIT_CODES[signal.Signals[name]]
        study.expect(f"exit code {code}", holds=driver.returncode == code)
        states = Counter(row.state for row in study.rows())
        study.expect("no trial is left running", holds=states["running"] == 0)
        study.finish()

    inject.__doc__ = f"{name}."
    return inject


def signals_at_many_moments(executor: dict[str, Any]) -> Callable[[ChaosStudy], None]:
    """Return a fault that sends forty signals, from the first import to the end of the run."""

    def inject(study: ChaosStudy) -> None:
        study.violations += send_at_many_moments(study.folder, executor, moments=40)

    inject.__doc__ = f"Signals at forty moments, {executor['kind']}."
    return inject


FAULTS: dict[str, Callable[[ChaosStudy], None]] = {
    "driver-killed": driver_killed(4),
    "worker-killed": worker_killed,
    "ray-lost": ray_lost,
    "node-lost": node_lost,
    **{
        f"trial-{fault.replace(' ', '-')}": misbehaving(fault)
        for fault in ("hangs", "raises", "returns NaN", "returns nothing", "eats memory")
    },
    "disk-full": disk_full,
    "ledger-truncated": file_damaged("truncated"),
    "ledger-flipped": file_damaged("with a flipped byte"),
    "two-drivers": two_drivers,
    "clock-jumping": clock_jumping,
    "ctrl-c": interrupted(1, IN_PROCESS),
    "ctrl-c-ray": interrupted(1, RAY),
    "ctrl-c-twice": interrupted(2, RAY),
    "sigterm": signalled("SIGTERM"),
}


LONG_FAULTS: dict[str, Callable[[ChaosStudy], None]] = {
    "driver-killed-often": driver_killed(10),
    "sigusr1": signalled("SIGUSR1"),
    "signals": signals_at_many_moments(IN_PROCESS),
    "signals-ray": signals_at_many_moments(RAY),
}
"""Faults that take long; the tests kill and signal less often, and send SIGUSR1 without Ray."""


def inject_fault(name: str) -> ChaosStudy:
    """Run a study with one fault in a temporary folder, and return it with its violations."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        study = ChaosStudy(Path(folder))
        try:
            (FAULTS | LONG_FAULTS)[name](study)
        except (OSError, subprocess.CalledProcessError, MachineError) as error:
            study.violations.append(f"{type(error).__name__}: {error}")
        return study


def main(names: list[str]) -> int:
    faults = FAULTS | LONG_FAULTS
    if unknown := set(names) - set(faults):
        sys.exit(f"unknown fault {min(unknown)!r}: choose from {', '.join(faults)}")
    print("| fault | invariants | remarks |\n|---|---|---|", flush=True)
    failed = False
    for name in names or faults:
        study = inject_fault(name)
        result = ", ".join(f"VIOLATED: {text}" for text in study.violations) or "all hold"
        label = (faults[name].__doc__ or name).rstrip(".")
        print(f"| {label} | {result} | {'; '.join(study.remarks)} |", flush=True)
        failed |= bool(study.violations)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
