import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from partialnas.runs.system.allocator import keep_freed_memory
{before}
def forward():
    for millions in (20, 36, 68):  # bytes, allocated, written and freed
        b"x" * (millions * 1_000_000)
for _ in range(3):
    forward()
start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    forward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start) // 10)
"""


def faults(before: str) -> int:
    """Return the page faults per pass, counted in a separate process."""
    run = subprocess.run(
        [sys.executable, "-c", FAULTS.format(before=before)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="adjusts glibc only")
def test_freed_memory_is_used_again() -> None:
    assert faults("") > 1000
    assert faults("assert keep_freed_memory()") < 100
