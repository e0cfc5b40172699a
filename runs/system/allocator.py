"""The memory allocator's habits, which otherwise decide how fast a small network is."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's malloc.h; part of its binary interface
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 2**31 - 1
_FROM_HEAP = 2**30


def keep_freed_memory() -> bool:
    """Makes the process keep memory that is freed, for the next operator; False where it cannot.

    Each operator's result is allocated anew and freed soon. By default glibc hands large pieces
    back to the system and has them zeroed page by page when it asks again: up to a third of the
    time of a forward pass, more or less of it by what was allocated before. Kept memory takes that
    away from every network alike. It holds until the process ends and costs what the process used
    at its peak. Other C libraries are left as they are.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is None:
        return False
    return all([adjust(_M_MMAP_THRESHOLD, _FROM_HEAP), adjust(_M_TRIM_THRESHOLD, _KEEP)])


@contextmanager
def gc_paused() -> Iterator[None]:
    """Makes many objects without looking through all of them again and again.

    Python looks for garbage the more often the more objects there are; where a long ledger is read
    there is none to be found.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
