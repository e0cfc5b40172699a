"""Plug-ins: modules outside the package that register operations, data sets or samplers.

A plug-in is a module that calls `register_operation`, `register_dataset` or `register_sampler` when
it is imported. A study names its plug-ins under `plugins:`. Their names and source digests are part
of the study and, where an operation or a data set comes from a plug-in, of the trial keys. Every
worker imports them.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from partialnas.space.errors import UserError
from partialnas.space.source_code import code_digest

ENTRY_POINTS = "partialnas.plugins"
"""Entry-point group: an installed distribution offers plug-ins by name as `name = module`."""

_LOADED: dict[str, str] = {}
"""Source digest of each plug-in that this process has imported, by module name."""


def load_plugins(names: Iterable[str], folder: Path | None = None) -> dict[str, str]:
    """Import plug-ins.

    Args:
        names: modules, or names of entry points in the group `partialnas.plugins`; a mapping also
            gives the source digest that each must have.
        folder: a further folder to look for modules in, such as that of the study file.

    Returns:
        The source digest of each plug-in by module name.

    Raises:
        UserError: A plug-in cannot be found, its import fails, or its source differs.
    """
    modules = [_module_name(name) for name in names]
    if modules:
        add_module_folder(folder)
    for module in modules:
        if module not in _LOADED:
            digest = source_digest(module)
            try:
                import_module(module)
            except Exception as error:  # whatever a plug-in does when it is imported
                reason = f"{type(error).__name__}: {error}"
                hint = hidden_module(module, folder)
                raise UserError(f"plugins: cannot import {module}: {reason}{hint}") from error
            _LOADED[module] = digest
        if isinstance(names, Mapping) and names.get(module, _LOADED[module]) != _LOADED[module]:
            raise UserError(
                f"plugins: the source of {module} is not the one that the study recorded "
                f"({_LOADED[module]} instead of {names[module]})"
            )
    return {module: _LOADED[module] for module in modules}


def add_module_folder(folder: Path | None) -> None:
    """Make the modules of a folder, and of the current folder, importable.

    The folders come last on the module path: no file in them stands in for an installed module.

    Args:
        folder: folder of a study, or None for the current folder only.
    """
    for path in (folder or Path(), Path()):
        with suppress(OSError):  # the current folder may be gone
            if str(path.resolve()) not in sys.path:
                sys.path.append(str(path.resolve()))


def module_folder(module: str) -> Path | None:
    """Return the folder of the module path that an imported module comes from, if it is a file."""
    file = getattr(sys.modules.get(module.partition(".")[0]), "__file__", None)
    if file is None:
        return None
    path = Path(file).resolve()
    return path.parents[1] if path.name == "__init__.py" else path.parent


def hidden_module(module: str, folder: Path | None) -> str:
    """Return a hint if an installed module hides one of the same name in a folder, else nothing."""
    top = module.partition(".")[0]
    for path in (folder or Path(), Path()):
        candidates = path / f"{top}.py", path / top / "__init__.py"
        file = next((candidate.resolve() for candidate in candidates if candidate.is_file()), None)
        spec = find_spec(top) if file else None
        if spec and spec.origin and Path(spec.origin).resolve() != file:
            return f" ({file} is hidden by the installed module {spec.origin}; rename it)"
    return ""


def explain_import_error(error: BaseException) -> str:
    """Return which files on PYTHONPATH may have caused an error, or an empty text.

    A file with the name of an installed module is imported in its place; imports then fail.
    """
    files = _hiding_files() if isinstance(error, ImportError | AttributeError) else []
    listed = "".join(f"\n  {file}" for file in files)
    return f"files on PYTHONPATH hide installed modules:{listed}" if files else ""


def _hiding_files() -> list[Path]:
    """Return the files in folders of PYTHONPATH that have the name of an installed module."""
    folders = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    others = [path for path in sys.path if path not in folders]
    entries = (entry for folder in folders for entry in sorted(Path(folder).glob("*")))
    modules = (e for e in entries if e.suffix == ".py" or (e / "__init__.py").is_file())
    return [module for module in modules if PathFinder.find_spec(module.stem, others)]


def load_recorded_plugins(recorded: Mapping[str, str], folder: Path | None = None) -> list[str]:
    """Import the plug-ins that a ledger names, if the same source is installed or in a folder.

    The source is compared before it is imported: a ledger from elsewhere runs no code that did not
    produce its results. Without a plug-in, rows can be read but its networks cannot be built.

    Args:
        recorded: source digest by module name.
        folder: recorded folder of the study file, if it is there.

    Returns:
        One message for each plug-in that is missing or differs.
    """
    messages = []
    if recorded.items() - _LOADED.items():
        add_module_folder(folder)
    for module, digest in recorded.items():
        if _LOADED.get(module) == digest:
            continue
        try:
            if source_digest(module) == digest:
                load_plugins([module])
            else:
                messages.append(
                    f"plug-in {module} has changed since the study ran: it is not used, and "
                    "networks with its operations cannot be built"
                )
        except UserError:
            messages.append(
                f"plug-in {module} is neither installed here nor beside the study: networks with "
                "its operations cannot be built; install it, or set PYTHONPATH to its folder"
            )
    return messages


def plugins_of(targets: Iterable[Callable[..., object] | str]) -> dict[str, str]:
    """Return the source digest of each loaded plug-in that defines one of the targets.

    Args:
        targets: classes, functions, or their import paths `module:name`.
    """
    if not _LOADED:
        return {}
    names = (target if isinstance(target, str) else target.__module__ for target in targets)
    modules = {name.partition(":")[0] for name in names}
    return {
        plugin: digest
        for plugin, digest in sorted(_LOADED.items())
        if any(f"{module}.".startswith(f"{plugin}.") for module in modules)
    }


def source_digest(module: str) -> str:
    """Return 16 hex digits of a module's code; comments and docstrings do not count.

    A package counts with all Python files in its folder.

    Raises:
        UserError: There is no such module, or its source cannot be read.
    """
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UserError(
            f"plugins: no Python module {module!r}; expected a module that can be imported, or one "
            f"beside the study{_installed()}"
        )
    root = Path(spec.origin)
    files = root.parent.rglob("*.py") if spec.submodule_search_locations else [root]
    try:
        texts = {str(f.relative_to(root.parent)): f.read_text(encoding="utf-8") for f in files}
        return code_digest(texts)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"plugins: cannot read {module}: {error}") from error


def _module_name(name: str) -> str:
    points = entry_points(group=ENTRY_POINTS)
    return points[name].module if name in points.names else name


def _installed() -> str:
    names = sorted(entry_points(group=ENTRY_POINTS).names)
    return f"; installed plug-ins: {', '.join(names)}" if names else ""
