"""Folders and processes of runs: private, locked by the driver, removed after its death."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from partialnas.runs.system import run_folder as module
from partialnas.runs.system.run_folder import (
    end_session,
    remove_leftovers,
    run_folder,
    start_session,
)

_DRIVER = """
import os, sys, time
from pathlib import Path
from subprocess import DEVNULL
from partialnas.runs.system.run_folder import run_folder, start_session
with run_folder(Path(sys.argv[1])) as folder:
    command = ["sh", "-c", "sleep 600 & sleep 600; true"]
    child = start_session(folder, command, os.environ, stdout=DEVNULL)
    print(child.pid, flush=True)
    time.sleep(600)
"""


def members(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def start_driver(parent: Path) -> tuple["subprocess.Popen[str]", int]:
    command = [sys.executable, "-c", _DRIVER, str(parent)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    session = int(driver.stdout.readline())
    while len(members(session)) < 3:
        time.sleep(0.01)
    return driver, session


def test_a_folder_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), run_folder(tmp_path) as folder:
        (folder / "file").touch()
        assert folder.stat().st_mode & 0o777 == 0o700
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_session_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    with run_folder(tmp_path) as folder:
        leader = start_session(folder, ["sh", "-c", "sleep 600 & exit 7"], os.environ)
        while [p.name() for p in members(leader.pid)] != ["sleep"]:  # the leader has ended
            time.sleep(0.01)
        assert end_session(leader) == 7
        assert not members(leader.pid)


def test_a_dead_driver_loses_its_processes_and_its_folder_to_the_next_run(tmp_path: Path) -> None:
    driver, session = start_driver(tmp_path)
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (folder,) = tmp_path.iterdir()
    remove_leftovers(tmp_path)
    assert len(members(session)) == 3, "the driver lives"
    driver.kill()
    driver.communicate()
    assert len(members(session)) == 3
    with run_folder(tmp_path) as later:
        assert not members(session)
        assert [*tmp_path.iterdir()] == [later]
    assert not folder.exists()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_reused_session_number_is_not_mistaken_for_the_dead_one(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    folder = tmp_path / "pnas-dead"
    folder.mkdir()
    (folder / "driver.lock").write_text(f"{stranger.pid}\n")
    remove_leftovers(tmp_path)
    assert not folder.exists()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("locked", [True, False])
def test_a_folder_without_a_session_is_removed_only_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    folder = tmp_path / "pnas-starting"
    folder.mkdir()
    if locked:
        (folder / "driver.lock").touch()
    remove_leftovers(tmp_path)
    assert folder.exists()
    monkeypatch.setattr(module, "_YOUNG_S", -1)
    remove_leftovers(tmp_path)
    assert not folder.exists()


def test_an_old_folder_in_use_and_foreign_files_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_YOUNG_S", -1)
    folder = tmp_path / "pnas-older-version"
    folder.mkdir()
    (tmp_path / "pnas-file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pnas-link").symlink_to(tmp_path / "elsewhere")
    user = subprocess.Popen([sys.executable, "-c", "input()", f"{folder}/x"], stdin=subprocess.PIPE)
    while str(folder) not in " ".join(psutil.Process(user.pid).cmdline()):
        time.sleep(0.01)
    remove_leftovers(tmp_path)
    assert len([*tmp_path.iterdir()]) == 4
    user.kill()
    user.communicate()
    remove_leftovers(tmp_path)
    assert not folder.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="folders of another user require root")
def test_folders_of_another_user_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_YOUNG_S", -1)
    folder = tmp_path / "pnas-theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    remove_leftovers(tmp_path)
    assert folder.exists()
