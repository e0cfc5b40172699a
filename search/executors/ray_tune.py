"""Runs items on Ray Tune. The only module that touches Ray.

Tune starts the worker processes and keeps them busy; it decides nothing and remembers nothing. What
runs comes from the feed, through a searcher; what came of it goes back to the feed. None of Ray's
state outlives a run.

Who tries again what a dead process was working on is the searcher: Tune itself gives up at once
where a process dies between two items.
"""

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections import deque
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

from partialnas.search.executors.base import (
    END,
    WAIT,
    Feed,
    ItemFunction,
    ItemResult,
    ItemT,
    append_log,
    describe_item,
    failed_result,
)
from partialnas.search.executors.cluster_files import copy_modules
from partialnas.search.executors.watchdog import Watchdog
from partialnas.space.errors import MachineError, UserError

_MOST_DEATHS = 3
"""Processes that may die of one item, and in a row before each worker has begun anything."""
_PATIENCE_S = 10
_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a trial's relative paths mean what they mean in the driver
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # its snapshots are never read: the ledger remembers
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


@dataclass(frozen=True, kw_only=True)
class RayTune:
    """Works on several items at once in worker processes, here or on a cluster.

    A worker process that dies is replaced and its item tried again; an item that three have died of
    has failed. Tracebacks and whatever workers print go to `workers.log` in the folder.

    Attributes:
        folder: of the study; on a cluster, one that all nodes share.
        workers: items under way at once.
        address: of a Ray cluster to join; without one, Ray starts here, bound to loopback.
        cpus_per_trial: threads of each worker.
        gpus_per_trial: GPUs of each worker; 0.25 lets four share one.
        time_limit_s: after this many seconds on one item a worker is taken to hang: it is ended and
            the item counts as `timeout`.
        isolate: whether each item has a process of its own, begun for it.
        modules: files and packages of Python that travel to the workers of a cluster too.
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
            # It would print a paragraph on the terminal for each process that dies.
            quiet = _held(ray_worker, "_worker_logs_enabled", False)
            with _settings(), _own_signals(), quiet, self._ray() as scratch:
                watchdog = Watchdog(folder / "workers.log", marks, self.time_limit_s)
                trainable = _trainable(ray.put(work), watchdog)
                exchange = _Exchange(feed, watchdog.log, _MOST_DEATHS * self.workers)
                self._tune(exchange, trainable, scratch)
        finally:
            shutil.rmtree(marks, ignore_errors=True)

    @contextmanager
    def _ray(self) -> Iterator[Path]:
        """Ray, running or joined; the folder is Tune's, and goes when Ray does."""
        if ray.is_initialized():
            raise UserError("Ray runs in this process already; call ray.shutdown() first")
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
            _knock(self.address)
            code = scratch / "code"
            code.mkdir()
            travelling = {"py_modules": [str(each) for each in copy_modules(self.modules, code)]}
            ray.init(address=self.address, runtime_env=travelling, **quiet)
        else:
            # Only where it believes that there can be no cluster does Ray take 127.0.0.1 for an
            # address: it listens on that interface alone then, and on all of them otherwise.
            with _held(ray_constants, "ENABLE_RAY_CLUSTER", False):
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
            # Ray has put one beneath Python's, which aborts the process
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        for kind, share in (("CPU", self.cpus_per_trial), ("GPU", self.gpus_per_trial)):
            there = ray.cluster_resources().get(kind, 0)  # type: ignore[no-untyped-call]
            if there < share:
                raise MachineError(f"a trial is to have {share:g} {kind}, and Ray sees {there:g}")

    def _tune(
        self, exchange: "_Exchange[ItemT]", trainable: type["_Worker"], scratch: Path
    ) -> None:
        """Runs Tune's loop until the exchange ends it."""
        share = {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}
        tuner = tune.Tuner(
            tune.with_resources(trainable, share),
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(exchange, max_concurrent=self.workers),
                num_samples=-1,
                reuse_actors=not self.isolate,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[_Listener(exchange)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            tuner.fit()
        except _Ended as end:
            reason = end.__cause__
        else:
            raise RuntimeError("Tune's loop has ended, and the feed has not")
        if reason is not None:
            raise reason


class _Parcel(Generic[ItemT]):
    """An item on its way through Tune, which copies, prints and keeps all that it is handed.

    Attributes:
        item: taken out when it is done with.
        deaths: of processes that had begun it.
        begun: whether a process has begun it, this time.
    """

    def __init__(self, item: ItemT, deaths: int = 0) -> None:
        self.item: ItemT | None = item
        self.deaths = deaths
        self.begun = False

    def __deepcopy__(self, memo: object) -> "_Parcel[ItemT]":
        return self

    def __str__(self) -> str:
        return describe_item(self.item) if self.item else "done"


class _Ended(BaseException):
    """Ends Tune's loop at once: all is done, or its cause says why not."""


class _Exchange(Searcher, Generic[ItemT]):
    """What Tune takes for a search algorithm: it asks the feed, and tells it what came of items.

    Args:
        feed: of the items.
        log: where it is written down how workers died.
        most_stillborn: processes that may die in a row before they begin an item; that is no
            item's fault.
    """

    def __init__(self, feed: Feed[ItemT], log: Path, most_stillborn: int) -> None:
        super().__init__()
        self._feed = feed
        self._log = log
        self._most_stillborn = most_stillborn
        self._stillborn = 0
        self._parcels: dict[str, _Parcel[ItemT]] = {}
        self._again: deque[_Parcel[ItemT]] = deque()
        self._ended = False

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        parcel = self._again.popleft() if self._again else self._next()
        if parcel is None:
            return None
        self._parcels[trial_id] = parcel
        return {"parcel": parcel}

    def _next(self) -> _Parcel[ItemT] | None:
        """A new item of the feed; none while it waits, or what is under way comes to an end."""
        if not self._ended:
            with _ending():
                item = self._feed.ask()
            if item is not END:
                return None if item is WAIT else _Parcel(item)
            self._ended = True
        self._leave_when_done()
        return None

    def begun(self, trial_id: str) -> None:
        """A process has begun the item."""
        self._parcels[trial_id].begun = True
        self._stillborn = 0

    def died(self, told: str) -> None:
        """Writes down how a worker died."""
        with _ending():
            append_log(self._log, f"a worker failed: {told}")

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        parcel = self._parcels.pop(trial_id)
        item, parcel.item = parcel.item, None
        assert item is not None  # set when the parcel was made, taken out only here
        with _ending():
            if error or result is None:
                self._try_again(item, parcel)
                return  # Tune tells only now how the process died
            if isinstance(result["answer"], Exception):
                raise result["answer"]
            self._feed.tell(item, result["answer"])
        self._leave_when_done()

    def _try_again(self, item: ItemT, parcel: _Parcel[ItemT]) -> None:
        """Has an item whose process died tried again, or tells that it has failed."""
        deaths = parcel.deaths + parcel.begun
        self._stillborn += not parcel.begun
        if self._stillborn >= self._most_stillborn:
            raise MachineError(
                f"{self._stillborn} worker processes in a row died before they had begun anything; "
                f"{self._log} has what they said"
            )
        if deaths < _MOST_DEATHS:
            self._again.append(_Parcel(item, deaths))
        else:
            self._feed.tell(item, failed_result(item, f"worker process died {deaths} times"))

    def _leave_when_done(self) -> None:
        """Spares Tune its farewell: a snapshot of every trial, and workers stopped one by one."""
        if self._ended and not self._parcels and not self._again:
            raise _Ended

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it along with its own settings; a feed is not for pickling

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the ledger is what a study is resumed from."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is resumed from its ledger")


class _Listener(tune.Callback):
    """Passes on which items begin and how workers died, and empties what Tune would keep of items.

    Tune names all arguments when it calls.
    """

    def __init__(self, exchange: _Exchange[Any]) -> None:
        self._exchange = exchange

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:  # type: ignore[override]
        self._exchange.begun(trial.trial_id)

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:  # type: ignore[override]
        trial.last_result.clear()
        trial.metric_n_steps.clear()

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:  # type: ignore[override]
        if trial.error_file:
            told = Path(trial.error_file).read_text(encoding="utf-8")
            self._exchange.died(told.partition("\n")[2])


class _Worker(tune.Trainable):
    """What runs in a worker process: set up once, then handed one item after the other."""

    def prepare(self, config: dict[str, Any], work: Any, watchdog: Watchdog) -> None:
        self.reset_config(config)
        self._watchdog = watchdog
        self._broken: MachineError | None = None
        # Ray answers with an exception, which would be taken for one of the network
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            watchdog.redirect_output()
            self._work = ray.get(work)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            self._broken = MachineError(f"a worker process could not be set up: {what}")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._item = new_config["parcel"].item
        return True

    def step(self) -> dict[str, Any]:
        """The outcome, or the exception that is to end the run."""
        return {"answer": self._broken or self._answer(), "done": True}

    def _answer(self) -> ItemResult | Exception:
        try:
            return self._watchdog.run_item(self._work, self._item)
        except (UserError, MachineError) as error:
            return error
        except OSError as error:  # of the watchdog's own files
            return MachineError(str(error))


def _trainable(work: Any, watchdog: Watchdog) -> type[_Worker]:
    class Bound(_Worker):
        def setup(self, config: dict[str, Any]) -> None:
            self.prepare(config, work, watchdog)

    return Bound


@contextmanager
def _ending() -> Iterator[None]:
    """Lets an exception of the feed end Tune's loop, which would take it for a trial's failure."""
    try:
        yield
    except Exception as error:
        raise _Ended from error


def _knock(address: str) -> None:
    """Finds in seconds that nobody is there, which takes Ray minutes."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise UserError(f"address: expected HOST:PORT of a Ray cluster's head, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_S).close()
    except OSError as error:
        raise UserError(f"no Ray cluster answers at {address} ({error})") from error


@contextmanager
def _held(owner: Any, name: str, value: object) -> Iterator[None]:
    """Something of Ray that has no public switch, set for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Has Ray leave signals alone that the driver answers itself."""
    handle: Any = ray_utils.set_sigterm_handler

    def unless_answered(handler: Any) -> None:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            handle(handler)

    with (
        _held(ray_utils, "set_sigterm_handler", unless_answered),
        _held(tune_loop, "_setup_signal_catching", threading.Event),
    ):
        yield


@contextmanager
def _settings() -> Iterator[None]:
    """Ray's settings, which it reads from the environment, for the time of a run."""
    before = {name: os.environ.get(name) for name in _SETTINGS}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(_SETTINGS)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
