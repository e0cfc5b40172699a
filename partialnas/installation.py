"""How partialnas was installed, for messages that name the command that adds packages."""

import json
import re
import shlex
from importlib.metadata import distributions, requires
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_ROOT = Path(__file__).resolve().parents[1]


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra, such as `onnx`.

    It matches the installation: a checkout in editable mode, a folder, a wheel, a repository, or
    an index of packages. Where the folder or the wheel is gone, it names the packages.
    """
    origin = _origin()
    url, folder = str(origin.get("url", "")), origin.get("dir_info")
    version_control = origin.get("vcs_info")
    path = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
    if version_control is not None:
        target = f"{version_control['vcs']}+{url}@{version_control['commit_id']}"
        return f"pip install {shlex.quote(f'partialnas[{extra}] @ {target}')}"
    if path is not None and not path.exists():
        return f"pip install {' '.join(map(shlex.quote, _packages(extra)))}"
    if path is not None:
        place = "." if path == Path.cwd() else str(path)
        editable = "-e " if folder is not None and folder.get("editable") else ""
        return f"pip install {editable}{shlex.quote(f'{place}[{extra}]')}"
    return f"pip install {shlex.quote(f'partialnas[{extra}]')}"


def _origin() -> dict[str, Any]:
    """Return what pip recorded of the installation (PEP 610), empty for one from an index."""
    is_installed = False
    for distribution in distributions(name="partialnas"):  # the folder of a checkout is one, too
        text = distribution.read_text("direct_url.json")
        if text is not None:
            origin: dict[str, Any] = json.loads(text)
            return origin
        is_installed |= distribution.read_text("INSTALLER") is not None
    checkout = {"url": _ROOT.as_uri(), "dir_info": {"editable": True}}
    return {} if is_installed else checkout


def _packages(extra: str) -> list[str]:
    """Return the packages of an extra with their versions."""
    marker = re.compile(rf"""^(.*?)\s*;.*\bextra == ["']{re.escape(extra)}["']""")
    matches = map(marker.match, requires("partialnas") or ())
    return [match[1] for match in matches if match]
