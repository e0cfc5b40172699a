"""Does to studies what machines do to them, for real, and prints what came of each.

    python benchmarks/chaos.py [NAME...]

Each fault befalls a study that runs by the command line in processes of its own; then the same
command is run again until the study is done. What must hold after every fault:

- once: there is one final record for each network, seed and fidelity;
- kept: what was finished before the fault is in the ledger as it was;
- no repeats: no trial that was finished before a fault was called again after it;
- goes on: the same command ends with every trial of the study.

The exit code is 1 where something does not hold.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.errors import MachineError

HERE = Path(__file__).parent
TRIALS = 40

STUDY: dict[str, Any] = {
    "study": "chaos",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [4 * i for i in range(2, 40)], "mlp_ratio": [1, 2, 3]}},
    "search": {"sampler": "nsga2", "population": 8},
    "budget": {"trials": TRIALS},
    "trial": "chaos_trial:trial",
}
SHORT_GRACE = """
import sys
from pathlib import Path
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study_file import load_study

path, out = Path(sys.argv[1]), Path(sys.argv[3])
run_study(load_study(path), out, base_dir=path.parent, hang_grace_s=3)
"""
"""Runs a study as the command line does, and finds hung workers within seconds."""

RAY = {"kind": "ray", "workers": 2, "device": "cpu"}
ALONE = {"kind": "in-process", "device": "cpu"}


@dataclass
class Scene:
    """A study in a folder, and what has been seen of it.

    Attributes:
        folder: where the study's file, its calls and its results are.
        finished: by key what was final when the last fault befell.
        remarks: what the table says of the fault beside the invariants.
        broken: invariants that did not hold.
        program: arguments that make Python run a study.
    """

    folder: Path
    finished: dict[str, Any] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    program: tuple[str, ...] = ("-m", "partialnas", "run")

    @property
    def out(self) -> Path:
        """The study's results."""
        return self.folder / "out"

    def begin(
        self, executor: dict[str, Any], *, environment: dict[str, str] | None = None, **changes: Any
    ) -> "subprocess.Popen[str]":
        """Starts the study, or goes on with it."""
        path = self.write(executor, **changes)
        return subprocess.Popen(
            [sys.executable, *self.program, str(path), "--out", str(self.out)],
            env=self.environment | (environment or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, executor: dict[str, Any], **changes: Any) -> Path:
        """Writes the study's file, and its trial function beside it."""
        shutil.copy(HERE / "chaos_trial.py", self.folder)
        path = self.folder / "study.yaml"
        path.write_text(yaml.safe_dump({**STUDY, "executor": executor, **changes}))
        return path

    @property
    def environment(self) -> dict[str, str]:
        """Of the driver; Ray's workers are not to stand behind whatever else runs here."""
        return os.environ | {"PARTIALNAS_CHAOS": str(self.folder), "RAY_worker_niceness": "0"}

    def rows(self) -> list[Any]:
        """The trials of the ledger; none where it cannot be read yet."""
        with suppress(Exception), Ledger.open(self.out) as ledger:
            return ledger.trials()
        return []

    def wait(self, count: int, driver: "subprocess.Popen[str]") -> None:
        """Waits until so many trials are final, or the driver has ended."""
        while driver.poll() is None and sum(row.is_final for row in self.rows()) < count:
            time.sleep(0.05)

    def befell(self) -> None:
        """Takes down what is final just after a fault, and compares it with what was."""
        rows = {row.key: row for row in self.rows() if row.is_final}
        if any(rows.get(key) != row for key, row in self.finished.items()):
            self._break("kept")
        self._count_calls()
        self.finished = rows

    def _count_calls(self) -> None:
        """Finds calls, since the last look, of trials that had been final by then."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        begun = Counter(line.removeprefix("begin ") for line in lines if line.startswith("begin "))
        for row in self.finished.values():
            name = f"{row.digest} {row.seed} {row.fidelity}"
            if begun[name] > self.calls[name]:
                self._break("no repeats")
        self.calls = begun

    def ends(self, executor: dict[str, Any] = ALONE, **changes: Any) -> None:
        """Goes on to the end, in one process if not told otherwise, and looks at everything."""
        driver = self.begin(executor, **changes)
        _, told = driver.communicate()
        self.befell()
        rows = self.rows()
        if driver.returncode != 0 or len(self.finished) != TRIALS or len(rows) != TRIALS:
            self._break("goes on")
            self.remarks.append(told.strip().rpartition("\n")[2])
        if any(n > 1 for n in Counter((r.digest, r.seed, r.fidelity) for r in rows).values()):
            self._break("once")

    def expect(self, what: str, *, holds: bool) -> None:
        """Takes down something else that must hold."""
        if not holds:
            self._break(what)

    def _break(self, what: str) -> None:
        if what not in self.broken:
            self.broken.append(what)


def driver_killed(scene: Scene) -> None:
    """Driver killed ten times at random moments, three times with Ray."""
    chance = random.Random(0)
    for time_of_ten in range(10):
        driver = scene.begin(RAY if time_of_ten % 4 == 0 else ALONE)
        scene.wait(len(scene.finished) + 1, driver)
        time.sleep(chance.uniform(0, 0.4))
        _kill_family(driver)
        scene.befell()
    scene.remarks.append(f"{len(scene.finished)} of {TRIALS} done by then")
    scene.ends()


def _kill_family(driver: "subprocess.Popen[str]") -> None:
    """SIGKILL to the driver; waits for its children, but for Ray's agents, which take a minute."""
    family = psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
    driver.kill()
    driver.communicate()
    psutil.wait_procs([p for p in family if not _name(p).endswith("Agent")], timeout=60)


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return process.name()
    return ""


def worker_killed(scene: Scene) -> None:
    """Worker killed three times."""
    driver = scene.begin(RAY)
    killed = 0
    for goal in (5, 12, 20):
        scene.wait(goal, driver)
        scene.befell()
        while driver.poll() is None and not (workers := _workers(driver)):
            time.sleep(0.05)
        if driver.poll() is None:
            workers[0].kill()
            killed += 1
    driver.communicate()
    scene.expect(f"three workers were killed, but {killed}", holds=killed == 3)
    scene.ends()


def _workers(driver: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The driver's processes that work on trials."""
    family = psutil.Process(driver.pid).children(recursive=True)
    return [p for p in family if "ray::ResourceTrainable" in " ".join(_command(p))]


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


NODES = """
import os, sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study_file import load_study
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = cluster.add_node(num_cpus=1)
folder = Path(sys.argv[1])
def lose():
    while True:
        time.sleep(0.1)
        try:
            with Ledger.open(folder / "out") as ledger:
                if ledger.counts()["done"] >= 10:
                    break
        except Exception:
            pass
    cluster.remove_node(second, allow_graceful=False)
    print("lost", flush=True)
threading.Thread(target=lose, daemon=True).start()
try:
    run_study(load_study(folder / "study.yaml"), folder / "out", base_dir=folder,
              address=cluster.address)
finally:
    cluster.shutdown()
"""


def node_lost(scene: Scene) -> None:
    """One of two nodes lost."""
    scene.write(RAY)
    found = subprocess.run(
        [sys.executable, "-c", NODES, str(scene.folder)],
        env=scene.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    scene.befell()
    scene.expect("a node was lost", holds="lost" in found.stdout)
    scene.remarks.append(f"{len(scene.finished)} of {TRIALS} done without it")
    scene.ends()


def misbehaving(fault: str) -> Callable[[Scene], None]:
    """A fault of one trial in five; of fewer where each costs a worker process."""
    one_in = 18 if fault == "hangs" else 5

    def happen(scene: Scene) -> None:
        (scene.folder / "fault").write_text(fault)
        (scene.folder / "one-in").write_text(str(one_in))
        executor = RAY | {"time_limit_s": 3} if fault == "hangs" else ALONE
        if fault == "hangs":
            scene.program = ("-c", SHORT_GRACE)
        scene.ends(executor)
        states = Counter(row.state for row in scene.rows())
        reasons = sorted({row.reason for row in scene.rows() if row.reason})
        scene.remarks.append(f"{dict(states)}: {'; '.join(reasons)}")
        wanted = "timeout" if fault == "hangs" else "failed"
        scene.expect("only it fails, with its reason", holds=0 < states[wanted] < TRIALS / 2)

    happen.__doc__ = f"One trial in {one_in} {fault}."
    return happen


def disk_full(scene: Scene) -> None:
    """Disk full while the ledger is written."""
    with _small_disk(scene) as grow:
        driver = scene.begin(ALONE)
        _, told = driver.communicate()
        scene.expect("it is told", holds=driver.returncode == 1 and "full" in told)
        scene.befell()
        scene.remarks.append(f"{len(scene.finished)} of {TRIALS} done by then")
        grow()
        scene.ends()


@contextmanager
def _small_disk(scene: Scene) -> Iterator[Callable[[], None]]:
    """The results lie on a disk of 300 kB, which can be made larger."""
    scene.out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, "size=300k", "tmpfs", str(scene.out)], check=True)
    try:
        yield lambda: subprocess.run([*mount, "remount,size=50m", str(scene.out)], check=True)
    finally:
        subprocess.run(["umount", str(scene.out)], check=True)


def file_damaged(how: str) -> Callable[[Scene], None]:
    """The ledger's file damaged after a sitting that had ended."""

    def happen(scene: Scene) -> None:
        scene.begin(ALONE, budget={"trials": TRIALS // 2}).communicate()
        scene.befell()
        path = scene.out / "ledger.sqlite"
        content = bytearray(path.read_bytes())
        if how == "truncated":
            content = content[: len(content) // 2]
        else:
            content[content.index(b"val_nll")] ^= 1
        path.write_bytes(content)
        driver = scene.begin(ALONE)
        _, told = driver.communicate()
        copy = scene.out / "backups" / "ledger-1.sqlite"
        scene.expect("refused, a copy named", holds=driver.returncode == 1 and str(copy) in told)
        shutil.copy(copy, path)
        scene.ends()

    happen.__doc__ = f"Ledger {how}; the copy that is named put in its place."
    return happen


def two_drivers(scene: Scene) -> None:
    """Second driver started on the same study."""
    first = scene.begin(ALONE)
    scene.wait(3, first)
    first.send_signal(signal.SIGSTOP)  # it is not to be done before the second has begun
    second = scene.begin(ALONE)
    _, told = second.communicate()
    first.send_signal(signal.SIGCONT)
    scene.expect(
        "the second is refused", holds=second.returncode == 2 and f"process {first.pid}" in told
    )
    first.communicate()
    scene.befell()
    scene.ends()


JUMPING = """
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


def clock_jumping(scene: Scene) -> None:
    """The clock on the wall a day early or late at every look."""
    source, library = scene.folder / "jump.c", scene.folder / "jump.so"
    source.write_text(JUMPING)
    compiler = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(compiler, check=True)
    limited = {"budget": {"trials": TRIALS, "hours": 1}}
    jumping = {"LD_PRELOAD": str(library)}
    driver = scene.begin(ALONE, environment=jumping, **limited)
    scene.wait(TRIALS // 2, driver)
    _kill_family(driver)
    scene.befell()
    driver = scene.begin(ALONE, environment=jumping, **limited)
    driver.communicate()
    scene.expect("ends well by that clock", holds=driver.returncode == 0)
    scene.ends(**limited)


def interrupted(times: int, executor: dict[str, Any]) -> Callable[[Scene], None]:
    """Ctrl-C once or twice."""

    def happen(scene: Scene) -> None:
        driver = scene.begin(executor)
        scene.wait(5, driver)
        for press in range(times):
            time.sleep(0.05 * press)
            driver.send_signal(signal.SIGINT)
        _, told = driver.communicate()
        scene.befell()
        holds = driver.returncode == 130 and "Traceback" not in told
        scene.expect("exit code 130, no traceback", holds=holds)
        states = Counter(row.state for row in scene.rows())
        scene.expect("nothing is left running", holds=states["running"] == 0)
        if times == 1:
            begun = (scene.folder / "calls").read_text().count("begin")
            done = (scene.folder / "calls").read_text().count("end")
            scene.expect("what ran was finished", holds=begun == done == states["done"])
        scene.ends()

    happen.__doc__ = f"Ctrl-C {'once' if times == 1 else 'twice'}, {executor['kind']}."
    return happen


def signalled(name: str) -> Callable[[Scene], None]:
    """A signal of a cluster's scheduler."""

    def happen(scene: Scene) -> None:
        driver = scene.begin(RAY)
        scene.wait(5, driver)
        driver.send_signal(signal.Signals[name])
        _, told = driver.communicate()
        scene.befell()
        scene.expect("no traceback", holds="Traceback" not in told)
        scene.remarks.append(f"exit code {driver.returncode}")
        states = Counter(row.state for row in scene.rows())
        scene.expect("nothing is left running", holds=states["running"] == 0)
        scene.ends()

    happen.__doc__ = f"{name}."
    return happen


FAULTS: dict[str, Callable[[Scene], None]] = {
    "driver-killed": driver_killed,
    "worker-killed": worker_killed,
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
    "ctrl-c": interrupted(1, ALONE),
    "ctrl-c-ray": interrupted(1, RAY),
    "ctrl-c-twice": interrupted(2, RAY),
    "sigterm": signalled("SIGTERM"),
    "sigusr1": signalled("SIGUSR1"),
}


def happen(name: str) -> Scene:
    """One fault, in a folder of its own that goes when all is seen."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        scene = Scene(Path(folder))
        try:
            FAULTS[name](scene)
        except (OSError, subprocess.CalledProcessError, MachineError) as error:
            scene.broken.append(f"{type(error).__name__}: {error}")
        return scene


def main(names: list[str]) -> int:
    print("| fault | outcome | remarks |\n|---|---|---|", flush=True)
    broken = False
    for name in names or FAULTS:
        scene = happen(name)
        outcome = ", ".join(f"NOT {what}" for what in scene.broken) or "all holds"
        told = (FAULTS[name].__doc__ or name).rstrip(".")
        print(f"| {told} | {outcome} | {'; '.join(scene.remarks)} |", flush=True)
        broken |= bool(scene.broken)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
