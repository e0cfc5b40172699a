"""Handle the signals that stop a run; finished trials are kept.

After the first Ctrl-C, no new trial is started and the running ones finish; the second Ctrl-C stops
the run immediately. So do SIGTERM and SIGUSR1, which batch systems send before they kill a job, and
SIGHUP, which is sent when a terminal is closed. Interrupted trials continue from their checkpoints
when the study is run again.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_CODES = {
    signal.SIGINT: 128 + signal.SIGINT,
    signal.SIGTERM: 128 + signal.SIGTERM,
    signal.SIGHUP: 128 + signal.SIGHUP,
    signal.SIGUSR1: 75,
}
"""Exit codes of the command line; 75 (EX_TEMPFAIL) tells a batch script to requeue the job."""

_STOP_MESSAGE = (
    "stopping: waiting for the running trials, no new ones are started; press Ctrl-C again to stop "
    "at once (they continue from their checkpoints in the next run)"
)

_received: list[list[signal.Signals]] = []
"""Received signals, one list for each active `raise_on_signals`; empty outside the command line."""

Handler = Callable[[int, FrameType | None], None]


class Terminated(KeyboardInterrupt):
    """Raised when a signal other than SIGINT ends a run.

    It is a KeyboardInterrupt, so that code that does not catch Ctrl-C does not catch it either.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.exit_code = EXIT_CODES[number]


def stop_message(number: signal.Signals) -> str:
    """Return the message that is printed when a signal ends the command line."""
    if number == signal.SIGINT:
        return "interrupted; finished trials are kept"
    return f"ended by {number.name}; finished trials are kept; run the same command again to resume"


def exit_on_signals() -> None:
    """Exit immediately on a signal; for the time before anything needs cleaning up."""

    def end(number: int, _frame: FrameType | None) -> None:
        _end_process(signal.Signals(number))

    _install(end)


@contextmanager
def raise_on_signals() -> Iterator[list[signal.Signals]]:
    """Raise KeyboardInterrupt on Ctrl-C and `Terminated` on other signals, within the context.

    The process exits immediately on a second signal, because a library may have suppressed the
    first exception, and on a signal during an import, because extension modules abort the process
    if an exception is raised there.

    Yields:
        A list to which received signals are added, also those that `handle_signals` handles.
    """
    received: list[signal.Signals] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        if len(received) > 1:
            _end_process(received[-1])
        _raise(received[-1], frame)

    _received.append(received)
    before = _install(stop)
    try:
        yield received
    finally:
        _restore(before)
        _received.pop()


def release_signals() -> None:
    """Restore the default handling of signals, after the exit code is determined."""
    _install(signal.SIG_DFL)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # would requeue a job that has ended


class StopRequest:
    """A request to stop a run.

    Attributes:
        requested: whether Ctrl-C was pressed.
        number: signal that stops the run at once, or None.
        changed: set on the first Ctrl-C and when signals are no longer handled.
    """

    def __init__(self) -> None:
        self.requested = False
        self.number: signal.Signals | None = None
        self.changed = threading.Event()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: set `requested` on the first Ctrl-C, raise otherwise."""
        received = signal.Signals(number)
        if _received:
            _received[-1].append(received)
        if received == signal.SIGINT and not self.requested:
            self.requested = True
            self.changed.set()
            return
        self.number = received
        _raise(received, frame if _received else None)  # the kernel of a notebook continues

    def check(self) -> None:
        """Raise the exception again if a library or a trial's code has suppressed it."""
        if self.number is not None:
            _raise(self.number)


@contextmanager
def handle_signals(notify: Callable[[str], None]) -> Iterator[StopRequest]:
    """Handle the signals of a run within the context; outside the main thread, do nothing.

    Args:
        notify: shows one line to the user. It is called from another thread, because a signal may
            arrive while the main thread is writing.

    Raises:
        KeyboardInterrupt: on a second Ctrl-C.
        Terminated: on SIGTERM, SIGUSR1 or SIGHUP.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    if _received and _received[-1]:  # a library has suppressed the exception
        _raise(_received[-1][-1])
    notifier = threading.Thread(target=_notify_on_stop, args=(stop, notify), daemon=True)
    notifier.start()
    before = _install(stop.handle)
    try:
        yield stop
        stop.check()
    finally:
        _restore(before)
        stop.changed.set()
        notifier.join()


def _notify_on_stop(stop: StopRequest, notify: Callable[[str], None]) -> None:
    stop.changed.wait()
    if stop.requested:
        notify(_STOP_MESSAGE)


def _install(handler: Handler | signal.Handlers) -> dict[signal.Signals, object]:
    """Set the handler of all signals and return the previous ones; keep `nohup` effective."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    numbers = [n for n in EXIT_CODES if not (n == signal.SIGHUP and ignored)]
    return {number: signal.signal(number, handler) for number in numbers}


def _restore(handlers: dict[signal.Signals, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)  # type: ignore[arg-type]


def _raise(number: signal.Signals, frame: FrameType | None = None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end_process(number)
        frame = frame.f_back
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def _end_process(number: signal.Signals) -> None:
    with suppress(OSError):
        show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a live view has hidden it
        os.write(2, f"{show_cursor}{stop_message(number)}\n".encode())
    os._exit(EXIT_CODES[number])
