"""Files for the reader: written whole under a temporary name, then renamed."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from partialnas.space.errors import MachineError


def write_file(path: Path, content: bytes | str) -> Path:
    """Puts `content` into `path`; a file that was there stays whole until the new one is.

    Raises:
        MachineError: the folder cannot be made or written, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
        os.replace(draft, path)  # noqa: PTH105 - same call, and the one whose atomicity is documented
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise MachineError(
            f"{path}: cannot be written ({error.strerror}); choose another place with -o, "
            "or make room there"
        ) from None
    return path
