"""The child process of `RayTune`: starts Ray and runs Tune. No other module imports Ray.

Tune starts the worker processes and keeps them busy. Items come from the driver through a searcher,
and their results go back to it. None of Ray's state outlives a run. Retries are the driver's task
(see `RetryingFeed`), because Tune gives up if a process dies between two items.
"""

import logging
import os
import pickle
import select
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from ray import tune
from ray._private import node, ray_constants
from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter, Searcher

from partialnas.runs.system.run_folder import end_other_members
from partialnas.search.executors.base import ItemResult
from partialnas.search.executors.cluster_files import copy_modules, study_modules
from partialnas.search.executors.ray_tune import RayTune
from partialnas.search.executors.watchdog import Watchdog
from partialnas.space.errors import MachineError, UserError

_RAY_PROCESSES = {"gcs_server", "raylet"}
"""Processes without which Ray cannot work; Ray itself notices the loss after a minute."""

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

_SENT_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Environment variables that the workers of a cluster get from the driver."""

_POLL_S = 0.5
_GRACE_S = 2.0
"""Seconds in which Ray may report the loss of a process itself."""


def run_items(file: int) -> None:
    """Run items for the driver at the other end of a socket, until it closes the socket."""
    driver = _Driver(file)
    settings, scratch, cwd, watchdog = driver.receive()
    threading.Thread(target=_end_with_driver, args=(file, scratch), daemon=True).start()
    threading.Thread(target=_watch_ray, args=(driver,), daemon=True).start()
    try:
        _run(settings, driver, scratch, cwd, watchdog)
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, MachineError):
            driver.report("error", str(error))
        else:
            driver.report("failure", f"Ray failed ({type(error).__name__}: {error})")
    threading.Event().wait()  # until the driver ends this process


def report_hardware(file: int) -> None:
    """Tell the driver at the other end of a socket the numbers of CPUs and GPUs of a cluster."""
    driver = _Driver(file)
    address, scratch = driver.receive()
    threading.Thread(target=_end_with_driver, args=(file, scratch), daemon=True).start()
    ray.init(address=address, **_QUIET)
    driver.report(*(int(_total(kind)) for kind in ("CPU", "GPU")))


class _Driver:
    """The process that owns the feed; it answers the calls of this one."""

    def __init__(self, file: int) -> None:
        os.set_inheritable(file, False)
        self._connection = Connection(file)
        self._sending = threading.Lock()

    def call(self, name: str, *arguments: str | bytes) -> Any:
        """Call a function of the driver; return its answer."""
        self._send(name, *arguments)
        return self.receive()

    def receive(self) -> Any:
        """Receive a message; end this process if there is no driver any more."""
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            return threading.Event().wait()  # until the other thread ends this process

    def receive_bytes(self) -> bytes:
        """Receive a part of a large message."""
        return self._connection.recv_bytes()

    def report(self, *message: str | int) -> None:
        """Send a message without an answer; an `error` says all, a `failure` is one of Ray."""
        with suppress(OSError):
            self._send(*message)

    def _send(self, *message: str | bytes | int) -> None:
        with self._sending:
            self._connection.send(message)


def _end_with_driver(file: int, scratch: Path) -> None:
    """End this process and Ray when the driver has ended or has closed the socket."""
    poller = select.poll()
    poller.register(file, 0)  # reports that the other end is closed
    poller.poll()
    end_other_members()
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


def _watch_ray(driver: _Driver) -> None:
    """Report the loss of one of Ray's processes."""
    running: dict[str, psutil.Process] = {}
    while not (lost := [name for name, process in running.items() if _has_ended(process)]):
        if len(running) < len(_RAY_PROCESSES):
            running |= _started_processes()
        time.sleep(_POLL_S)
    time.sleep(_GRACE_S)
    driver.report("failure", f"Ray's process {lost[0]} has ended unexpectedly")


def _started_processes() -> dict[str, psutil.Process]:
    """Return those of Ray's processes that have been started so far, by name.

    `process_iter` leaves out processes that end meanwhile; asked for the name of one that has
    ended, psutil raises an exception.
    """
    return {
        process.info["name"]: process
        for process in psutil.process_iter(["name", "ppid"])
        if process.info["ppid"] == os.getpid() and process.info["name"] in _RAY_PROCESSES
    }


def _has_ended(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def _run(settings: RayTune, driver: _Driver, scratch: Path, cwd: Path, watchdog: Watchdog) -> None:
    """Start or join Ray and run Tune's loop, which ends with this process."""
    parts = [np.frombuffer(driver.receive_bytes(), np.uint8) for _ in range(driver.receive())]
    _start(settings, scratch)
    trainable = _trainable(ray.put(parts), watchdog, cwd)
    del parts
    share = {"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial}
    searcher = _ItemSearcher(driver)
    tune.Tuner(
        tune.with_resources(trainable, share),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(searcher, max_concurrent=settings.workers),
            num_samples=-1,
            reuse_actors=not settings.isolate,
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[_TuneListener(searcher)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    raise RuntimeError("Tune's loop ended before the feed")


def _start(settings: RayTune, scratch: Path) -> None:
    if settings.address is not None:
        copies = copy_modules(settings.modules, scratch)
        (scratch / "empty").mkdir()
        os.chdir(scratch / "empty")  # Ray adds the current folder to the workers' module path
        runtime_env = {
            "py_modules": [str(path) for path in copies],
            "env_vars": {name: os.environ[name] for name in _SENT_SETTINGS if name in os.environ},
        }
        ray.init(address=settings.address, runtime_env=runtime_env, **_QUIET)
    else:
        # Ray accepts 127.0.0.1 as an address only if clusters are disabled; otherwise it listens
        # on all interfaces
        ray_constants.ENABLE_RAY_CLUSTER = False
        node.Node = LeanNode  # type: ignore[misc]
        ray.init(
            address="local",
            num_cpus=settings.workers * settings.cpus_per_trial,
            num_gpus=settings.gpus,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(scratch / "ray"),  # Ray lets all users write to the folder it is given
            **_QUIET,
        )
    for kind, required in (("CPU", settings.cpus_per_trial), ("GPU", settings.gpus_per_trial)):
        if (total := _total(kind)) < required:
            raise MachineError(f"each trial requires {required:g} {kind}, but Ray finds {total:g}")


def _total(kind: str) -> float:
    """Return the number of CPUs or GPUs that Ray manages."""
    return float(ray.cluster_resources().get(kind, 0))  # type: ignore[no-untyped-call]


class LeanNode(node.Node):
    """Ray on this machine without the processes that a run never uses.

    Each is a Python process that takes seconds of CPU time: the autoscaler, the reader of log files
    (workers write to `workers.log`), and the dashboard, which Ray starts even if it is excluded.
    """

    def start_monitor(self) -> None:
        """Start no autoscaler."""

    def start_log_monitor(self) -> None:
        """Start no reader of log files."""

    def start_api_server(self, **_: object) -> None:
        """Start no dashboard."""


class _ItemSearcher(Searcher):
    """The search algorithm that Tune sees: passes items to Tune and results to the driver."""

    def __init__(self, driver: _Driver) -> None:
        super().__init__()
        self.driver = driver

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        item = self.driver.call("next", trial_id)
        return None if item is None else {"item": _Opaque(item)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if error or result is None:
            self.driver.call("retry", trial_id)  # Tune reports the cause after this call
        else:
            self.driver.call("finish", trial_id, result["answer"].data)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles the searcher with its settings; a connection cannot be pickled

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a study resumes from its ledger."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study resumes from its ledger")


class _Opaque:
    """Pickled data in a trial of Tune, which copies, prints and keeps its settings and results."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __deepcopy__(self, memo: object) -> "_Opaque":
        return self

    def __repr__(self) -> str:
        return f"{len(self.data)} bytes"


class _TuneListener(tune.Callback):
    """Reports started items and worker deaths, and empties the results that Tune keeps.

    Tune passes all arguments by name.
    """

    def __init__(self, searcher: _ItemSearcher) -> None:
        self._searcher = searcher  # not its driver: Tune pickles callbacks

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:  # type: ignore[override]
        self._searcher.driver.call("start", trial.trial_id)

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:  # type: ignore[override]
        trial.last_result.clear()
        trial.metric_n_steps.clear()

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:  # type: ignore[override]
        if trial.error_file:
            text = Path(trial.error_file).read_text(encoding="utf-8").partition("\n")[2]
            self._searcher.driver.call("worker_error", text)


class _Worker(tune.Trainable):
    """The worker process: set up once, then given one item after another."""

    def prepare(self, config: dict[str, Any], work: Any, watchdog: Watchdog, cwd: Path) -> None:
        self.reset_config(config)
        self._watchdog = watchdog
        self._broken: MachineError | None = None
        # Ray's handler raises an exception, which would count as a failure of the network
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if cwd.is_dir():  # relative paths mean the same as in the driver
            os.chdir(cwd)
        sys.path.extend(study_modules())
        try:
            watchdog.redirect_output()
            data, *buffers = ray.get(work)
            self._work = pickle.loads(data, buffers=buffers)  # noqa: S301  # from our own driver
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            self._broken = MachineError(f"a worker process could not be set up: {message}")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._item = new_config["item"]
        return True

    def step(self) -> dict[str, Any]:
        """Return the item's result, or the exception that ends the run."""
        answer = self._broken or self._result_or_error()
        return {"answer": _Opaque(pickle.dumps(answer)), "done": True}

    def _result_or_error(self) -> ItemResult | Exception:
        try:
            item = pickle.loads(self._item.data)  # noqa: S301  # from our own driver
            return self._watchdog.run_item(self._work, item)
        except (UserError, MachineError) as error:
            return error
        except OSError as error:  # raised by the watchdog's own files
            return MachineError(str(error))


def _trainable(work: Any, watchdog: Watchdog, cwd: Path) -> type[_Worker]:
    class Bound(_Worker):
        def setup(self, config: dict[str, Any]) -> None:
            self.prepare(config, work, watchdog, cwd)

    return Bound
