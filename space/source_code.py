"""The source of Python modules: the files that a module needs, and a digest of their code."""

import ast
import io
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

_INSTALLED = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")}
_THIS_PACKAGE = __name__.partition(".")[0]


class ModuleSource(NamedTuple):
    """The source of a module and of the local modules that it imports.

    Attributes:
        digest: 16 hex digits of the code; comments and docstrings do not count.
        files: text of each file by its path, relative to the folder that the modules are in.
    """

    digest: str
    files: Mapping[str, str]


def code_digest(files: Mapping[str, str]) -> str:
    """Return 16 hex digits of the code of files; comments, docstrings and empty lines do not count.

    Args:
        files: text of each file by its relative path.

    Raises:
        SyntaxError: a text is not Python code.
    """
    text = "".join(f"{path}\n{_code(files[path], path)}\n" for path in sorted(files, key=Path))
    return sha256(text.encode()).hexdigest()[:16]


def module_source(module: str) -> ModuleSource | None:
    """Return the source of a module, or None for a module that is not written in Python.

    The modules that it imports count if they are in the same folder of the module path, such as
    that of a study. Of an installed distribution, only the module's own package counts.

    Raises:
        ImportError: there is no such module.
        OSError, SyntaxError, ValueError: a file cannot be read, or is not Python code.
    """
    top = module.partition(".")[0]
    root = _folder(find_spec(top))
    if root is None:
        return None
    files: dict[str, str] = {}
    pending = [*_files(root, module)]
    while pending:
        file = pending.pop()
        path = file.relative_to(root).as_posix()
        if path in files:
            continue
        files[path] = file.read_text(encoding="utf-8")
        names = {name for name in _imports(files[path], path) if _is_local(name, root, top)}
        pending += (path for name in names for path in _files(root, name))
    return ModuleSource(code_digest(files), files) if files else None


def _folder(spec: ModuleSpec | None) -> Path | None:
    """Return the folder of the module path that a top-level module is in, if it is a file there."""
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent.resolve()
    return Path(spec.origin).parent.resolve() if spec.origin and spec.has_location else None


def _is_local(name: str, root: Path, top: str) -> bool:
    """Return whether an imported module is beside the module `top`, which is in `root`."""
    first = name.partition(".")[0]
    if first == top:
        return True
    if root in _INSTALLED or first == _THIS_PACKAGE:
        return False
    try:
        return _folder(find_spec(first)) == root
    except (ImportError, ValueError):
        return False


def _files(root: Path, name: str) -> Iterator[Path]:
    """Yield the files of a module below a folder, with those of the packages around it."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:end])
        candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
        yield from (file for file in candidates if file.is_file())


def _imports(text: str, path: str) -> Iterator[str]:
    """Yield the names of modules that a file may import, wherever the statement is."""
    package = PurePosixPath(path).parent.parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package[: len(package) - node.level + 1] if node.level else ()
            base = [*around, *([node.module] if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _code(text: str, path: str) -> str:
    """Return code without comments, docstrings and empty lines.

    The result is the same under every version of Python, which a dump of the syntax tree is not.
    """
    docstrings = [_span(node) for node in ast.walk(ast.parse(text, path)) if _is_docstring(node)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [(t.start, t.end) for t in tokens if t.type == tokenize.COMMENT]
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
