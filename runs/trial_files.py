"""Where a study keeps what its trials leave on disk."""

from pathlib import Path


def checkpoint_path(folder: Path, key: str) -> Path:
    """The checkpoint of the trial `key` of a study in `folder`."""
    return folder / "checkpoints" / f"{key}.pt"


def trunk_path(folder: Path, key: str) -> Path:
    """Where trainings that differ in their lengths alone part, of a study in `folder`."""
    return folder / "checkpoints" / f"{key}.trunk"


def weights_path(folder: Path, key: str) -> Path:
    """The final weights of the trial `key` of a study in `folder`."""
    return folder / "weights" / f"{key}.safetensors"
