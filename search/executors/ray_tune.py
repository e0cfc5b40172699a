"""Run items on Ray Tune, in a child process that this process controls.

Ray ends a process from C++ if one of Ray's own processes is lost. In a child process, it cannot end
the driver, change its signal handlers or environment, or print on its terminal. The child
(`ray_process`) asks for work items and reports their results; this process answers from the feed.
"""

import os
import pickle
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic

import partialnas
from partialnas.runs.system.linux import MAX_SOCKET_BYTES
from partialnas.runs.system.run_folder import end_session, run_folder, start_session
from partialnas.search.executors.base import Feed, ItemFunction, ItemT, append_log
from partialnas.search.executors.cluster_files import CODE
from partialnas.search.executors.retry import MAX_DEATHS, RetryingFeed
from partialnas.search.executors.watchdog import Watchdog
from partialnas.search.resolve.resources import Hardware
from partialnas.space.errors import MachineError, UserError

_CONNECT_TIMEOUT_S = 10
_JOIN_TIMEOUT_S = 120
_RAY_LOG = "ray.log"
_LOG_TAIL = 8000
"""Bytes of Ray's output to keep after a failure."""

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's snapshots are never read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
_ALLOCATOR = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""Settings of torch's allocator in workers that share a GPU.

Segments that grow leave fewer gaps that a worker holds and cannot use.
"""

_LONGEST_SOCKET = f"{'x' * 13}/ray/session_2000-01-01_00-00-00_000000_1234567/sockets/plasma_store"


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
        gpus_per_trial: share of a GPU per worker; with 0.25, four workers share a GPU.
        gpus: number of GPUs that a Ray on this machine manages.
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
    gpus: int = 0
    time_limit_s: float | None = None
    isolate: bool = False
    modules: tuple[Path, ...] = ()

    def run(self, feed: Feed[ItemT], work: ItemFunction[ItemT]) -> None:
        """See `Executor.run`.

        Raises:
            MachineError: Ray cannot be started, or one of its processes is lost.
        """
        if self.address is not None:
            _check_reachable(self.address)
        folder = self.folder.resolve()
        marks = folder / ".watch"
        shutil.rmtree(marks, ignore_errors=True)
        watchdog = Watchdog(folder / "workers.log", marks, self.time_limit_s)
        items = RetryingFeed(feed, watchdog, MAX_DEATHS * self.workers)
        try:
            with run_folder(_temporary_folder()) as scratch:
                environment = _environment(os.environ, joins_cluster=self.address is not None)
                if 0 < self.gpus_per_trial < 1 and "PYTORCH_CUDA_ALLOC_CONF" not in environment:
                    environment = _ALLOCATOR | environment
                with _ray_process(scratch, environment, "run_items") as connection:
                    server = _Server(connection, items, watchdog.log, scratch / _RAY_LOG)
                    server.send((self, scratch, Path.cwd(), watchdog))
                    server.send_work(work)
                    server.run()
        finally:
            shutil.rmtree(marks, ignore_errors=True)


def cluster_hardware(address: str) -> Hardware:
    """Return the hardware of all machines of a Ray cluster.

    Raises:
        UserError: no cluster answers at the address.
        MachineError: Ray cannot join the cluster.
    """
    _check_reachable(address)
    with run_folder(_temporary_folder()) as scratch:
        environment = _environment(os.environ, joins_cluster=True)
        with _ray_process(scratch, environment, "report_hardware") as connection:
            connection.send((address, scratch))
            try:
                if not connection.poll(_JOIN_TIMEOUT_S):
                    raise MachineError(
                        f"the Ray cluster at {address} does not answer within {_JOIN_TIMEOUT_S} s"
                    )
                cpus, gpus = connection.recv()
            except (EOFError, OSError):
                output = (scratch / _RAY_LOG).read_text(errors="replace").strip()
                reason = output.rpartition("\n")[2] or "Ray has ended"
                raise MachineError(f"cannot join the cluster at {address}: {reason}") from None
    return Hardware(cpus, gpus)


@contextmanager
def _ray_process(
    scratch: Path, environment: Mapping[str, str], function: str
) -> Iterator[Connection]:
    """Start a child process that runs a function of `ray_process`; yield the connection to it.

    In the end, all of Ray's processes are ended.

    The child's current folder, which Ray adds to the module path of the workers, contains this
    package and nothing else.
    """
    code = scratch / CODE
    code.mkdir()
    (package,) = partialnas.__path__
    (code / partialnas.__name__).symlink_to(package)
    ours, theirs = socket.socketpair()
    module = "partialnas.search.executors.ray_process"
    program = f"from {module} import {function}; {function}({theirs.fileno()})"
    with theirs, (scratch / _RAY_LOG).open("wb") as log:
        process = start_session(
            scratch,
            [sys.executable, "-c", program],
            environment,
            cwd=code,
            pass_fds=[theirs.fileno()],
            stdout=log,
            stderr=log,
        )
    try:
        with Connection(ours.detach()) as connection:
            yield connection
    finally:
        end_session(process)


class _Server(Generic[ItemT]):
    """Answer the calls of the child process from a feed. Items are opaque to the child."""

    def __init__(
        self, connection: Connection, items: RetryingFeed[ItemT], log: Path, ray_log: Path
    ) -> None:
        self._connection = connection
        self._items = items
        self._log = log
        self._ray_log = ray_log

    def run(self) -> None:
        """Answer calls until the feed has ended and all of its items are done."""
        while not self._items.done:
            name, *arguments = self._receive()
            answer = getattr(self, f"_on_{name}")(*arguments)
            if not self._items.done:
                self.send(answer)

    def send(self, message: Any) -> None:
        """Send a message to the child process."""
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._failure() from error

    def send_work(self, work: ItemFunction[ItemT]) -> None:
        """Send what the workers run, with large arrays apart, so that workers share them."""
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(work, protocol=5, buffer_callback=buffers.append)
        parts: list[Any] = [data, *(buffer.raw() for buffer in buffers)]
        self.send(len(parts))
        try:
            for part in parts:
                self._connection.send_bytes(part)
        except OSError as error:
            raise self._failure() from error

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._failure() from error

    def _on_next(self, trial_id: str) -> bytes | None:
        item = self._items.next(trial_id)
        return None if item is None else pickle.dumps(item)

    def _on_start(self, trial_id: str) -> None:
        self._items.start(trial_id)

    def _on_finish(self, trial_id: str, answer: bytes) -> None:
        self._items.finish(trial_id, pickle.loads(answer))  # noqa: S301  # from our own worker

    def _on_retry(self, trial_id: str) -> None:
        self._items.retry(trial_id)

    def _on_worker_error(self, text: str) -> None:
        append_log(self._log, f"a worker failed: {text}")

    def _on_error(self, message: str) -> None:
        raise MachineError(message)

    def _on_failure(self, message: str) -> None:
        raise self._failure(message)

    def _failure(self, message: str = "Ray has ended unexpectedly") -> MachineError:
        """Copy the end of Ray's output to the log; return the error that ends the run."""
        text = self._ray_log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        append_log(self._log, f"{message}; the end of Ray's output:\n{text}")
        return MachineError(
            f"{message}; see the end of {self._log}. Finished trials are kept; run the same "
            "command again to resume"
        )


def _environment(before: Mapping[str, str], *, joins_cluster: bool) -> dict[str, str]:
    """Return the environment of the child process and of everything that it starts.

    A Ray that is started here gets its own token, which only processes of this user can read. A
    cluster has its user's token.
    """
    ignored = {"RAY_ADDRESS", "PYTHONWARNINGS", "PYTHONOPTIMIZE"}  # Ray needs its docstrings
    if joins_cluster:
        token = {}
    else:
        ignored.add("RAY_AUTH_TOKEN_PATH")
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    kept = {name: value for name, value in before.items() if name not in ignored}
    return kept | _ENVIRONMENT | token


def _temporary_folder() -> Path:
    """Return the folder for Ray's files: RAY_TMPDIR, /tmp or Python's temporary folder.

    Raises:
        UserError: RAY_TMPDIR is not usable.
        MachineError: no folder is usable.
    """
    if requested := os.environ.get("RAY_TMPDIR"):
        if reason := _unusable(Path(requested)):
            raise UserError(f"RAY_TMPDIR: {requested} {reason}; choose another folder, or unset it")
        return Path(requested).absolute()
    candidates = [Path("/tmp"), Path(tempfile.gettempdir())]
    reasons = {folder: _unusable(folder) for folder in candidates}
    for folder, reason in reasons.items():
        if not reason:
            return folder
    listed = "; ".join(f"{folder} {reason}" for folder, reason in reasons.items())
    raise MachineError(f"no folder for Ray's files: {listed}. Set RAY_TMPDIR to another folder")


def _unusable(folder: Path) -> str:
    """Return why Ray cannot use a folder; empty if it can."""
    if not folder.is_dir():
        return "is not a folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "cannot be written"
    if not str(folder).isascii():
        return "has characters beyond ASCII, which Ray rejects"
    excess = len(os.fsencode(folder.absolute() / _LONGEST_SOCKET)) - MAX_SOCKET_BYTES
    return f"is {excess} bytes too long for the names of sockets" if excess > 0 else ""


def _check_reachable(address: str) -> None:
    """Refuse an address that does not answer within seconds; Ray itself takes minutes."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdecimal():
        raise UserError(f"address: expected HOST:PORT of a Ray cluster's head, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(f"no Ray cluster answers at {address} ({error})") from error
