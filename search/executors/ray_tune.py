"""Run items on Ray Tune. This is the only module that imports Ray.

Tune starts the worker processes and keeps them busy. Items come from the feed through a searcher,
and their results go back to the feed. None of Ray's state outlives a run.

Retries are the searcher's task (see `RetryingFeed`), because Tune gives up if a process dies
between two items.
"""

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import ray
from ray import tune
from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray._private import worker as ray_worker
from ray.tune import tune as tune_loop
from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter, Searcher

from partialnas.search.executors.base import Feed, ItemFunction, ItemResult, ItemT, append_log
from partialnas.search.executors.cluster_files import copy_modules
from partialnas.search.executors.retry import MAX_DEATHS, RetryingFeed
from partialnas.search.executors.watchdog import Watchdog
from partialnas.space.errors import MachineError, UserError

_CONNECT_TIMEOUT_S = 10
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in workers as in the driver
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's snapshots are never read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


@dataclass(frozen=True, kw_only=True)
class RayTune:
    """Work on several items at once in worker processes, on this machine or on a cluster.

    A worker process that dies is replaced and its item retried; an item fails after three worker
    deaths. Tracebacks and everything that workers print go to `workers.log` in the folder.

    Attributes:
        folder: the study's folder; on a cluster, one that all nodes share.
        workers: number of items in flight.
        address: address of a Ray cluster to join; None starts Ray here, on the loopback interface.
        cpus_per_trial: threads per worker.
        gpus_per_trial: GPUs per worker; with 0.25, four workers share a GPU.
        time_limit_s: seconds after which a worker is considered hung. It is killed and its item
            ends as `timeout`.
        isolate: whether each item gets a new process.
        modules: Python files and packages to copy to the workers of a cluster.
    """

    folder: Path
    workers: int = 1
    address: str | None = None
    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    time_limit_s: float | None = None
    isolate: bool = False
    modules: tuple[Path, ...] = ()

    def run(self, feed: Feed[ItemT], work: ItemFunction[ItemT]) -> None:
        """See `Executor.run`."""
        folder = self.folder.resolve()
        marks = folder / ".watch"
        shutil.rmtree(marks, ignore_errors=True)
        try:
            # otherwise Ray prints a paragraph on the terminal for each process that dies
            quiet = _patched(ray_worker, "_worker_logs_enabled", False)
            with _ray_environment(), _driver_signals(), quiet, self._ray() as scratch:
                watchdog = Watchdog(folder / "workers.log", marks, self.time_limit_s)
                trainable = _trainable(ray.put(work), watchdog)
                items = RetryingFeed(feed, watchdog.log, MAX_DEATHS * self.workers)
                self._tune(_FeedSearcher(items), trainable, scratch)
        finally:
            shutil.rmtree(marks, ignore_errors=True)

    @contextmanager
    def _ray(self) -> Iterator[Path]:
        """Start or join Ray; yield Tune's folder, which is removed when Ray shuts down."""
        if ray.is_initialized():
            raise UserError("Ray is already initialized in this process; call ray.shutdown() first")
        scratch = Path(tempfile.mkdtemp(prefix="pnas-", dir=os.environ.get("RAY_TMPDIR", "/tmp")))
        try:
            self._start(scratch)
            yield scratch
        finally:
            ray.shutdown()
            shutil.rmtree(scratch, ignore_errors=True)

    def _start(self, scratch: Path) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is not None:
            _check_reachable(self.address)
            code = scratch / "code"
            code.mkdir()
            runtime_env = {"py_modules": [str(path) for path in copy_modules(self.modules, code)]}
            ray.init(address=self.address, runtime_env=runtime_env, **quiet)
        else:
            # Ray accepts 127.0.0.1 as an address only if clusters are disabled; otherwise it
            # listens on all interfaces
            with _patched(ray_constants, "ENABLE_RAY_CLUSTER", False):
                ray.init(
                    address="local",
                    num_cpus=self.workers * self.cpus_per_trial,
                    num_gpus=None if self.gpus_per_trial else 0,
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(scratch),
                    **quiet,
                )
        if threading.current_thread() is threading.main_thread():
            # replaces the handler that Ray installs below Python's, which aborts the process
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        for kind, required in (("CPU", self.cpus_per_trial), ("GPU", self.gpus_per_trial)):
            available = ray.cluster_resources().get(kind, 0)  # type: ignore[no-untyped-call]
            if available < required:
                raise MachineError(
                    f"each trial requires {required:g} {kind}, but Ray finds {available:g}"
                )

    def _tune(
        self, searcher: "_FeedSearcher[ItemT]", trainable: type["_Worker"], scratch: Path
    ) -> None:
        """Run Tune's loop until the searcher stops it."""
        share = {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}
        tuner = tune.Tuner(
            tune.with_resources(trainable, share),
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(searcher, max_concurrent=self.workers),
                num_samples=-1,
                reuse_actors=not self.isolate,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[_TuneListener(searcher, self.folder.resolve() / "workers.log")],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except _Stop as stop:
            error = stop.__cause__
        else:
            raise RuntimeError("Tune's loop ended before the feed")
        if error is not None:
            raise error


class _Stop(BaseException):
    """Stops Tune's loop at once, because all items are done or because of its cause."""


class _FeedSearcher(Searcher, Generic[ItemT]):
    """The search algorithm that Tune sees: passes items to Tune and results to the feed."""

    def __init__(self, items: RetryingFeed[ItemT]) -> None:
        super().__init__()
        self.items = items

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        with _stopping_on_error():
            work_item = self.items.next(trial_id)
        if work_item is None:
            self._stop_when_done()
            return None
        return {"work_item": work_item}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        with _stopping_on_error():
            if error or result is None:
                self.items.retry(trial_id)
                return  # Tune reports the cause of the death after this call
            self.items.finish(trial_id, result["answer"])
        self._stop_when_done()

    def _stop_when_done(self) -> None:
        """Stop without Tune's own end, which saves every trial and stops workers one by one."""
        if self.items.done:
            raise _Stop

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles the searcher with its settings; a feed cannot be pickled

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a study resumes from its ledger."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study resumes from its ledger")


class _TuneListener(tune.Callback):
    """Reports started items, logs worker deaths, and empties the results that Tune keeps.

    Tune passes all arguments by name.
    """

    def __init__(self, searcher: _FeedSearcher[Any], log: Path) -> None:
        self._searcher = searcher  # not its items: Tune pickles callbacks
        self._log = log

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:  # type: ignore[override]
        self._searcher.items.start(trial.trial_id)

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:  # type: ignore[override]
        trial.last_result.clear()
        trial.metric_n_steps.clear()

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:  # type: ignore[override]
        if trial.error_file:
            text = Path(trial.error_file).read_text(encoding="utf-8").partition("\n")[2]
            with _stopping_on_error():
                append_log(self._log, f"a worker failed: {text}")


class _Worker(tune.Trainable):
    """The worker process: set up once, then given one item after another."""

    def prepare(self, config: dict[str, Any], work: Any, watchdog: Watchdog) -> None:
        self.reset_config(config)
        self._watchdog = watchdog
        self._broken: MachineError | None = None
        # Ray's handler raises an exception, which would count as a failure of the network
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            watchdog.redirect_output()
            self._work = ray.get(work)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            self._broken = MachineError(f"a worker process could not be set up: {message}")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._item = new_config["work_item"].item
        return True

    def step(self) -> dict[str, Any]:
        """Return the item's result, or the exception that ends the run."""
        return {"answer": self._broken or self._result_or_error(), "done": True}

    def _result_or_error(self) -> ItemResult | Exception:
        try:
            return self._watchdog.run_item(self._work, self._item)
        except (UserError, MachineError) as error:
            return error
        except OSError as error:  # raised by the watchdog's own files
            return MachineError(str(error))


def _trainable(work: Any, watchdog: Watchdog) -> type[_Worker]:
    class Bound(_Worker):
        def setup(self, config: dict[str, Any]) -> None:
            self.prepare(config, work, watchdog)

    return Bound


@contextmanager
def _stopping_on_error() -> Iterator[None]:
    """Stop Tune's loop on an exception, which Tune would record as a failed trial."""
    try:
        yield
    except Exception as error:
        raise _Stop from error


def _check_reachable(address: str) -> None:
    """Refuse an address that does not answer within seconds; Ray itself takes minutes."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise UserError(f"address: expected HOST:PORT of a Ray cluster's head, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(f"no Ray cluster answers at {address} ({error})") from error


@contextmanager
def _patched(owner: Any, name: str, value: object) -> Iterator[None]:
    """Set something in Ray that has no public option, for the duration of a context."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _driver_signals() -> Iterator[None]:
    """Keep Ray from replacing the signal handlers of the driver."""
    handle: Any = ray_utils.set_sigterm_handler

    def set_if_unhandled(handler: Any) -> None:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            handle(handler)

    with (
        _patched(ray_utils, "set_sigterm_handler", set_if_unhandled),
        _patched(tune_loop, "_setup_signal_catching", threading.Event),
    ):
        yield


@contextmanager
def _ray_environment() -> Iterator[None]:
    """Set Ray's environment variables for the duration of a run."""
    before = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(_ENVIRONMENT)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name in _ENVIRONMENT:
            os.environ.pop(name, None)
        os.environ.update(before)
