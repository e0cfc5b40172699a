"""How signals end a run: once the workers are done, or at once. Nothing that is finished is lost.

The first Ctrl-C hands out nothing more and waits for what is under way; the second ends the run
now. SIGTERM and SIGUSR1, which batch systems send before they kill, end it now as well; trials
that were under way go on from their checkpoints when the study is run again.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODES = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGUSR1: 75}
"""What the command line ends with; 75 (try again) tells a batch script to queue the job again."""

_LAST_WORDS = (
    "stopping: nothing new is started, and the trials under way are waited for; "
    "Ctrl-C again ends now, and they go on from their checkpoints next time"
)


class Terminated(BaseException):
    """A run was ended by SIGTERM or SIGUSR1."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.exit_code = EXIT_CODES[number]


class StopRequest:
    """Whether somebody has asked a run to end.

    Attributes:
        requested: by a first Ctrl-C.
        number: of the signal that ends it now, if one does.
        heard: set when there is something to tell the reader, or nothing more to come.
    """

    def __init__(self) -> None:
        self.requested = False
        self.number: signal.Signals | None = None
        self.heard = threading.Event()

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Answers SIGINT."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.heard.set()

    def terminate(self, number: int, _frame: FrameType | None) -> None:
        """Answers SIGTERM and SIGUSR1; Ray understands no other exception than this one."""
        if self.number is None:
            self.number = signal.Signals(number)
            raise KeyboardInterrupt


@contextmanager
def handle_signals(tell: Callable[[str], None]) -> Iterator[StopRequest]:
    """Heeds signals for a while, in the main thread; elsewhere they are left as they are.

    Args:
        tell: shows the reader a line. It is called from another thread: a signal may come while
            the main one is writing.

    Raises:
        KeyboardInterrupt: by a second Ctrl-C.
        Terminated: by SIGTERM or SIGUSR1.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    teller = threading.Thread(target=_tell, args=(stop, tell), daemon=True)
    teller.start()
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
        stop.heard.set()
        teller.join()


def _tell(stop: StopRequest, tell: Callable[[str], None]) -> None:
    stop.heard.wait()
    if stop.requested:
        tell(_LAST_WORDS)
