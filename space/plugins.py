"""Plug-ins: modules outside the package that register operations, data sets or samplers.

A plug-in is a module that calls `register_operation`, `register_dataset` or `register_sampler` when
it is imported. A study names its plug-ins under `plugins:`. Their names and source digests are part
of the study and, where an operation or a data set comes from a plug-in, of the trial keys. Every
worker imports them.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from partialnas.space.errors import UserError

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
    if names and folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))
    modules = [_module_name(name) for name in names]
    for module in modules:
        if module not in _LOADED:
            digest = source_digest(module)
            try:
                import_module(module)
            except Exception as error:  # whatever a plug-in does when it is imported
                reason = f"{type(error).__name__}: {error}"
                raise UserError(f"plugins: cannot import {module}: {reason}") from error
            _LOADED[module] = digest
        if isinstance(names, Mapping) and names.get(module, _LOADED[module]) != _LOADED[module]:
            raise UserError(
                f"plugins: the source of {module} is not the one that the study recorded "
                f"({_LOADED[module]} instead of {names[module]})"
            )
    return {module: _LOADED[module] for module in modules}


def load_recorded_plugins(recorded: Mapping[str, str]) -> list[str]:
    """Import the plug-ins that a ledger names, if the same source is installed here.

    The source is compared before it is imported: a ledger from elsewhere runs no code that did not
    produce its results. Without a plug-in, rows can be read but its networks cannot be built.

    Args:
        recorded: source digest by module name.

    Returns:
        One message for each plug-in that is missing or differs.
    """
    messages = []
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
                f"plug-in {module} is not installed here: networks with its operations cannot be "
                "built; install it, or set PYTHONPATH to its folder"
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
    files = sorted(root.parent.rglob("*.py")) if spec.submodule_search_locations else [root]
    text = "".join(f"{file.relative_to(root.parent)}\n{_code(file)}\n" for file in files)
    return sha256(text.encode()).hexdigest()[:16]


def _module_name(name: str) -> str:
    points = entry_points(group=ENTRY_POINTS)
    return points[name].module if name in points.names else name


def _installed() -> str:
    names = sorted(entry_points(group=ENTRY_POINTS).names)
    return f"; installed plug-ins: {', '.join(names)}" if names else ""


def _code(file: Path) -> str:
    """Return the code of a file without comments, docstrings and empty lines.

    The text is the same under every version of Python, which a dump of the syntax tree is not.
    """
    try:
        text = file.read_text(encoding="utf-8")
        docstrings = [_span(node) for node in ast.walk(ast.parse(text)) if _is_docstring(node)]
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        comments = [(t.start, t.end) for t in tokens if t.type == tokenize.COMMENT]
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"plugins: cannot read {file}: {error}") from error
    lines = text.splitlines()
    for (first, start), (last, end) in docstrings + comments:
        for number in range(first, last + 1):
            line = lines[number - 1]
            before = line[:start] if number == first else ""
            after = line[end:] if number == last else ""
            lines[number - 1] = before + " " * (len(line) - len(before) - len(after)) + after
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)


def _span(node: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
