"""A study whose ledger is local and whose workers write where all machines can read."""

import uuid
from pathlib import Path

from partialnas.runs.files import file_in_the_way
from partialnas.space.errors import MachineError, UserError

_SHARED = ("checkpoints", "weights")
_LOG = "workers.log"


def shared_folder(folder: Path, shared: str | None) -> Path:
    """Where workers write checkpoints, weights and their log; links in `folder` lead there.

    Args:
        folder: of the study.
        shared: a folder that all machines mount, in which the study gets one of its own; without
            it workers write into `folder`.

    Raises:
        UserError: the study has begun without `shared`.
        MachineError: the folder cannot be made.
    """
    if shared is None:
        return folder.resolve()
    first = folder / _SHARED[0]
    if first.is_symlink():
        return first.resolve().parent
    place = Path(shared).expanduser().resolve() / f"{folder.name}-{uuid.uuid4().hex[:8]}"
    if own := [name for name in (*_SHARED, _LOG) if (folder / name).exists()]:
        raise UserError(
            f"executor.shared: {folder / own[0]} is there already: the study has begun without a "
            "shared folder; leave executor.shared out, or use another --out"
        )
    if blocking := file_in_the_way(place):
        raise UserError(f"executor.shared: {blocking} is a file, not a folder")
    try:
        for name in _SHARED:
            (place / name).mkdir(parents=True)
            (folder / name).symlink_to(place / name)
        (folder / _LOG).symlink_to(place / _LOG)
    except OSError as error:
        raise MachineError(f"executor.shared: {place}: {error.strerror}") from error
    return place
