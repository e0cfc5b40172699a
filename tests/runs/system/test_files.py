"""Files that cannot be written: what the errors advise, and that they come before the work."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from partialnas.cli import main
from partialnas.commands.studies import dashboard
from partialnas.commands.studies import data as data_command
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.datasets.task import Task
from partialnas.runs.export import export_model as exporting
from partialnas.runs.measure import board_bundle
from partialnas.runs.system.files import check_output_path, write_file
from partialnas.space.arch.presets import preset
from partialnas.space.errors import MachineError

DIGITS = Task(data="digits", resolution=8, channels=1, classes=10)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be written into, not even by root."""
    folder = tmp_path / "locked"
    folder.mkdir()
    mount = ["mount", "--bind", "-o", "ro", str(folder), str(folder)]
    is_root = os.geteuid() == 0
    if not is_root:
        folder.chmod(0o500)
    elif subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("root may write everywhere, and mounting is not allowed")
    yield folder
    if is_root:
        subprocess.run(["umount", str(folder)], check=True)
    else:
        folder.chmod(0o700)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free disk space"),
        (errno.EDQUOT, "free disk space, or raise the quota"),
        (errno.EACCES, "make the folder writable, or choose another path"),
        (errno.EROFS, "the file system is read-only; choose another path"),
        (errno.EIO, "repair the folder, or choose another path"),
    ],
)
@pytest.mark.parametrize("is_resumable", [False, True])
def test_the_advice_suits_the_cause_and_what_is_at_stake(
    number: int,
    advice: str,
    is_resumable: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(MachineError) as error:
        write_file(tmp_path / "file", "text", is_resumable=is_resumable)
    kept = ". Finished trials are kept; run the study again to continue" * is_resumable
    reason = os.strerror(number)
    assert str(error.value) == f"{tmp_path / 'file'}: cannot be written ({reason}); {advice}{kept}"


def test_a_folder_that_is_not_writable_is_named_before_the_work(
    locked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.chdir(tmp_path)
    for path in (locked / "file", locked / "new" / "folder" / "file"):
        with pytest.raises(MachineError, match=f"because {locked} is not writable; choose another"):
            check_output_path(path)
    check_output_path(tmp_path / "new" / "file")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(data_command, "inspect_data", work)
    monkeypatch.setattr(exporting, "load_trained_trial", work)
    monkeypatch.setattr(dashboard, "_copy_study", work)
    monkeypatch.setattr(board_bundle, "_export", work)
    for name in ("bundle", "bundle.zip"):
        with pytest.raises(MachineError, match="is not writable"):
            board_bundle.write_bundle(
                locked / name, [], DIGITS, Protocol(), preset("partialnet_t0"), {}
            )
    commands = (
        ["dashboard", str(tmp_path), "--export-only", "locked/journal"],
        ["data", "digits", "-o", "locked/sheet.png"],
        ["export-model", f"{tmp_path}:1", "-o", "locked/model"],
    )
    for command in commands:
        assert exit_code(*command) == 1
        assert f"cannot be written, because {locked} is not writable" in capsys.readouterr().err
    monkeypatch.chdir(locked)
    assert exit_code("new", "mine") == 1
    message = capsys.readouterr().err
    assert f"mine.yaml: cannot be written, because {locked} is not writable" in message
    assert "disk" not in message
    assert "trials" not in message


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code
