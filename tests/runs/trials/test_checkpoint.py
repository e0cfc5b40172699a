import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from partialnas.runs.system.files import checkpoint_path, temporary_path, write_file
from partialnas.runs.trials.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint
from partialnas.space.errors import MachineError

KEY = "0123456789abcdef"
STATE: dict[str, Any] = {"network": {"weight": torch.arange(1000.0)}, "curve": [{"epoch": 1}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return checkpoint_path(tmp_path, KEY)


def test_a_checkpoint_round_trips(path: Path) -> None:
    save_checkpoint(path, STATE, KEY)
    state = load_checkpoint(path, KEY)
    assert state is not None
    torch.testing.assert_close(state, STATE)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_missing_checkpoint_is_none(path: Path) -> None:
    assert load_checkpoint(path, KEY) is None
    remove_checkpoint(path)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_none(share: float, path: Path) -> None:
    save_checkpoint(path, STATE, KEY)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert load_checkpoint(path, KEY) is None


def test_a_checkpoint_that_would_run_code_is_none(path: Path) -> None:
    save_checkpoint(path, {"state": Path("anything that is no plain data")}, KEY)
    assert load_checkpoint(path, KEY) is None


def test_a_file_without_a_state_is_none(path: Path) -> None:
    path.parent.mkdir()
    torch.save([1, 2], path)
    assert load_checkpoint(path, KEY) is None


def test_removal_includes_the_file_of_an_interrupted_write(path: Path) -> None:
    save_checkpoint(path, STATE, KEY)
    temporary_path(path).write_bytes(b"half")
    remove_checkpoint(path)
    assert list(path.parent.iterdir()) == []


def test_a_full_disk_raises_an_error_and_keeps_the_last_checkpoint(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(path, STATE, KEY)

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match=r"cannot be written \(No space left on device\)"):
        save_checkpoint(path, {"curve": []}, KEY)
    torch.testing.assert_close(load_checkpoint(path, KEY), STATE)


def test_a_folder_that_cannot_be_created_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MachineError, match="cannot be written"):
        write_file(tmp_path / "file" / "below", b"content")
