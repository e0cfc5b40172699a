"""Stop a run on signals, without losing finished trials.

The first Ctrl-C starts no new trial and waits for the running ones; the second stops at once.
SIGTERM and SIGUSR1, which batch systems send before they kill a job, stop at once, too. Interrupted
trials continue from their checkpoints when the study is run again.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODES = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGUSR1: 75}
"""Exit codes of the command line; 75 (EX_TEMPFAIL) tells a batch script to requeue the job."""

_STOP_MESSAGE = (
    "stopping: waiting for the running trials, no new ones are started; press Ctrl-C again to stop "
    "at once (they continue from their checkpoints in the next run)"
)


class Terminated(BaseException):
    """Raised when SIGTERM or SIGUSR1 ends a run."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.exit_code = EXIT_CODES[number]


class StopRequest:
    """Whether and how a run has been asked to stop.

    Attributes:
        requested: whether Ctrl-C was pressed.
        number: SIGTERM or SIGUSR1 if received, else None.
        changed: set on the first Ctrl-C and when signals are no longer handled.
    """

    def __init__(self) -> None:
        self.requested = False
        self.number: signal.Signals | None = None
        self.changed = threading.Event()

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGINT."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.changed.set()

    def terminate(self, number: int, _frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGUSR1 with the only exception that Ray passes on."""
        if self.number is None:
            self.number = signal.Signals(number)
            raise KeyboardInterrupt


@contextmanager
def handle_signals(notify: Callable[[str], None]) -> Iterator[StopRequest]:
    """Handle signals for the duration of the context, in the main thread only.

    Args:
        notify: shows the user one line. It is called from another thread, because a signal may
            arrive while the main thread is writing.

    Raises:
        KeyboardInterrupt: on a second Ctrl-C.
        Terminated: on SIGTERM or SIGUSR1.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    notifier = threading.Thread(target=_notify_on_stop, args=(stop, notify), daemon=True)
    notifier.start()
    handlers = {signal.SIGINT: stop.interrupt, **dict.fromkeys(EXIT_CODES, stop.terminate)}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stop
    except KeyboardInterrupt:
        if stop.number is None:
            raise
        raise Terminated(stop.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.changed.set()
        notifier.join()


def _notify_on_stop(stop: StopRequest, notify: Callable[[str], None]) -> None:
    stop.changed.wait()
    if stop.requested:
        notify(_STOP_MESSAGE)
