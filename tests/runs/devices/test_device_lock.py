import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from fake_nvml import FakeNvml, Gpu, InstallNvml

from partialnas.runs.devices.device_lock import exclusive_access, shared_access
from partialnas.space.errors import MachineError

HOLDER = """
import sys, time
from partialnas.runs.devices.device_lock import exclusive_access, shared_access
with {verb}("{device}"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def hold_in_child(verb: str, device: str = "cpu") -> "subprocess.Popen[str]":
    """Start a child process, and wait until it holds the device."""
    program = HOLDER.format(verb=verb, device=device)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


@pytest.fixture
def measuring_child() -> Iterator["subprocess.Popen[str]"]:
    child = hold_in_child("exclusive_access")
    with child:
        yield child
        child.kill()


@pytest.fixture
def sharing_child() -> Iterator["subprocess.Popen[str]"]:
    child = hold_in_child("shared_access")
    with child:
        yield child
        child.kill()


class LockThread:
    """A thread that enters a lock and holds it until `end`."""

    def __init__(self, lock: AbstractContextManager[None]) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()
        self._lock = lock
        self._thread = threading.Thread(target=self._visit)
        self._thread.start()

    def _visit(self) -> None:
        with self._lock:
            self.inside.set()
            self.leave.wait(30)

    def is_inside(self, within: float = 10.0) -> bool:
        return self.inside.wait(within)

    def end(self) -> None:
        self.leave.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def is_free(device: str = "cpu") -> bool:
    try:
        with exclusive_access(device, timeout_s=0.1):
            return True
    except MachineError:
        return False


def test_many_may_share() -> None:
    with shared_access("cpu"), shared_access("cpu"):
        thread = LockThread(shared_access("cpu"))
        assert thread.is_inside()
        thread.end()
    assert is_free()


def test_measuring_waits_for_sharing_in_another_process(
    sharing_child: "subprocess.Popen[str]",
) -> None:
    with pytest.raises(MachineError, match=r"device cpu stayed busy for 0\.1 s"):
        exclusive_access("cpu", timeout_s=0.1).__enter__()
    sharing_child.terminate()
    with exclusive_access("cpu", timeout_s=30):
        pass


def test_measuring_excludes_measuring() -> None:
    with exclusive_access("cpu"):
        assert not is_free()
    assert is_free()


def test_sharing_waits_for_measuring() -> None:
    with exclusive_access("cpu"):
        thread = LockThread(shared_access("cpu"))
        assert not thread.is_inside(within=0.2)
    assert thread.is_inside()
    thread.end()


def test_a_waiting_measurement_has_priority_over_later_trainings() -> None:
    first = LockThread(shared_access("cpu"))
    assert first.is_inside()
    measurer = LockThread(exclusive_access("cpu"))
    assert not measurer.is_inside(within=0.2)
    late = LockThread(shared_access("cpu"))
    assert not late.is_inside(within=0.2)
    first.end()
    assert measurer.is_inside()
    assert not late.is_inside(within=0.1)
    measurer.end()
    assert late.is_inside()
    late.end()


def test_a_measurement_that_times_out_lets_trainings_in_again() -> None:
    with shared_access("cpu"):
        assert not is_free()
        with shared_access("cpu"):
            pass


@pytest.mark.parametrize("verb", ["exclusive_access", "shared_access"])
def test_a_killed_holder_frees_the_device(verb: str) -> None:
    child = hold_in_child(verb)
    assert not is_free()
    os.kill(child.pid, signal.SIGKILL)
    with child:
        pass
    assert child.returncode == -signal.SIGKILL
    with exclusive_access("cpu", timeout_s=30):
        pass


@pytest.mark.parametrize("verb", ["exclusive_access", "shared_access"])
def test_ctrl_c_ends_the_wait(measuring_child: "subprocess.Popen[str]", verb: str) -> None:
    # a shell that started the tests in the background has had Ctrl-C ignored
    asks = "print('asks')\nwith "
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program = heard + HOLDER.format(verb=verb, device="cpu").replace("with ", asks, 1)
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "asks\n"
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        said, complained = child.communicate(timeout=30)
    assert said == ""
    assert "KeyboardInterrupt" in complained
    assert measuring_child.poll() is None


def test_an_exception_inside_frees_the_device() -> None:
    with pytest.raises(ZeroDivisionError), exclusive_access("cpu"):
        _ = 1 // 0
    with pytest.raises(ZeroDivisionError), shared_access("cpu"):
        _ = 1 // 0
    assert is_free()


def test_gpus_are_apart_and_cuda_is_the_first_gpu() -> None:
    with exclusive_access("cuda:0"):
        assert is_free("cuda:1")
        assert not is_free("cuda")


@pytest.mark.parametrize("access", [shared_access, exclusive_access])
def test_nothing_is_measured_on_the_cpu_while_a_gpu_works(
    access: Callable[[str], AbstractContextManager[None]],
) -> None:
    """A core launches the kernels of the GPU, and shares cache and clock with the others."""
    with access("cuda"):
        assert not is_free("cpu")
        training = LockThread(shared_access("cpu"))  # which may be slow beside it
        assert training.is_inside()
        training.end()
    assert is_free("cpu")


def test_work_on_cpu_and_gpus_never_waits_in_a_circle() -> None:
    """Threads of all kinds enter in a random order, again and again."""
    random.seed(0)
    kinds = [shared_access, exclusive_access]
    requests = [(access, name) for access in kinds for name in ("cpu", "cuda:0", "cuda:1")] * 4
    random.shuffle(requests)
    entered: list[str] = []

    def work(access: Callable[[str], AbstractContextManager[None]], device: str) -> None:
        for _ in range(3):
            with access(device):
                entered.append(device)
                time.sleep(random.random() / 200)

    threads = [threading.Thread(target=work, args=each, daemon=True) for each in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(entered) == 3 * len(requests)


def test_a_wait_for_the_cpu_counts_in_the_time_that_a_gpu_may_be_busy() -> None:
    with exclusive_access("cpu"):
        assert not is_free("cuda")
    assert is_free("cuda")


def test_gpus_are_identified_by_visible_devices(
    monkeypatch: pytest.MonkeyPatch, install_nvml: InstallNvml
) -> None:
    install_nvml(None)
    with exclusive_access("cuda:3"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
        assert is_free("cuda:0")
        assert not is_free("cuda:1")


@pytest.mark.parametrize("visible", ["1", "GPU-bbbb-2", "GPU-bb", "0,GPU-bbbb-2"])
def test_a_gpu_has_one_lock_however_it_is_visible(
    monkeypatch: pytest.MonkeyPatch, visible: str, install_nvml: InstallNvml
) -> None:
    install_nvml(FakeNvml((Gpu("GPU-aaaa-1"), Gpu("GPU-bbbb-2"))))
    with exclusive_access("cuda:1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert not is_free(f"cuda:{visible.count(',')}")


def test_gpus_of_different_containers_have_different_locks(
    monkeypatch: pytest.MonkeyPatch, install_nvml: InstallNvml
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    install_nvml(FakeNvml([Gpu("GPU-aaaa-1")]))
    with exclusive_access("cuda"):
        install_nvml(FakeNvml([Gpu("GPU-bbbb-2")]))
        assert is_free("cuda")


def test_instances_of_a_gpu_have_locks_of_their_own(
    monkeypatch: pytest.MonkeyPatch, install_nvml: InstallNvml
) -> None:
    instances = Gpu("MIG-cccc-3"), Gpu("MIG-dddd-4")
    install_nvml(FakeNvml([Gpu("GPU-aaaa-1", instances=instances)]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-cccc-3")
    with exclusive_access("cuda"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-dddd-4")
        assert is_free("cuda")


def test_the_locks_are_the_users_alone(temporary_locks: Path) -> None:
    old = os.umask(0)
    try:
        with exclusive_access("cpu"):
            pass
    finally:
        os.umask(old)
    (folder,) = temporary_locks.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    files = list(folder.iterdir())
    assert files
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


def test_a_folder_that_others_write_to_is_refused(temporary_locks: Path) -> None:
    with exclusive_access("cpu"):
        pass
    (folder,) = temporary_locks.iterdir()
    folder.chmod(0o777)
    with pytest.raises(MachineError, match="only you can write"), shared_access("cpu"):
        pass


def test_a_link_in_place_of_a_lock_is_not_followed(temporary_locks: Path) -> None:
    with exclusive_access("cpu"):
        pass
    (folder,) = temporary_locks.iterdir()
    target = temporary_locks / "precious"
    for file in folder.iterdir():
        file.unlink()
        file.symlink_to(target)
    with pytest.raises(MachineError, match="cannot open the device lock"), shared_access("cpu"):
        pass
    assert not target.exists()


@pytest.mark.parametrize(
    ("verb", "device"),
    [("shared_access", "cpu"), ("shared_access", "cuda"), ("exclusive_access", "cuda")],
)
def test_waiting_for_a_measurement_on_the_cpu_is_logged_once(
    measuring_child: "subprocess.Popen[str]", verb: str, device: str
) -> None:
    program = HOLDER.format(verb=verb, device=device).replace("time.sleep(60)", "pass")
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        expected = f"waiting for cpu: in use by process {measuring_child.pid}\n"
        assert waiting.stderr.readline() == expected
        measuring_child.kill()
        assert waiting.stderr.read() == ""


@pytest.mark.parametrize("stopped", [False, True])
def test_waiting_to_measure_is_logged_once(
    sharing_child: "subprocess.Popen[str]", stopped: bool
) -> None:
    if stopped:
        sharing_child.send_signal(signal.SIGSTOP)
    program = HOLDER.format(verb="exclusive_access", device="cpu").replace("time.sleep(60)", "pass")
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == (
            f"waiting for cpu: in use by process {sharing_child.pid}{' (stopped)' * stopped}\n"
        )
        sharing_child.kill()
        assert waiting.stderr.read() == ""
    free_now = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (free_now.stdout, free_now.stderr) == ("held\n", "")
