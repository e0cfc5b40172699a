"""Parse YAML into plain data of bounded size; reject values that YAML 1.1 reads unexpectedly.

Dates stay strings. Numbers such as `010` (octal) and `1:30` (base 60) are errors, and so are
duplicate keys, tags of other types, and anchors that expand into more than the limits.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from partialnas.space.validation import MAX_INTEGER, quote

MAX_CHARACTERS = 200_000
"""Length of a text."""

MAX_NESTING = 40
"""Depth of lists and mappings inside each other."""

MAX_NODES = 50_000
"""Number of values after anchors and merge keys are expanded."""

_TYPES = ("null", "bool", "int", "float", "str", "seq", "map")
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document: None, booleans, numbers, strings, lists, mappings.

    Raises:
        ValueError: the text is not valid YAML, exceeds a limit, or contains a value that is
            probably not what was meant; the message names the line.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"the text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read"
        )
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = _mark(error)
        where = f"line {mark.line + 1}: " if mark else ""
        message = ", ".join(filter(None, (error.context, error.problem)))
        raise ValueError(where + _first_line(message)) from None
    except yaml.YAMLError as error:  # a character that is not allowed
        raise ValueError(_first_line(error)) from None


def _mark(error: yaml.MarkedYAMLError) -> yaml.Mark | None:
    """Return the place of a mistake: the start of what has no end, else what cannot stand there."""
    unfinished = (error.context or "").startswith(("while scanning", "while parsing a flow"))
    marks = [error.context_mark, error.problem_mark]
    return next(filter(None, marks if unfinished else reversed(marks)), None)


def _first_line(message: object) -> str:
    return str(message).partition("\n")[0]


def _error(message: str, node: yaml.Node) -> ConstructorError:
    return ConstructorError(problem=message, problem_mark=node.start_mark)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits, and with the types of JSON only."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern) for tag, pattern in rules if tag.rpartition(":")[2] in (*_TYPES, "merge")
        ]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is not None and tag.rpartition(":")[2] in _TYPES
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, up to the limit of nesting."""
        self._depth += 1
        if self._depth > MAX_NESTING:
            message = f"nested more than {MAX_NESTING} levels deep"
            raise ConstructorError(problem=message, problem_mark=self.get_mark())
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        """Compose the document and check its size with all anchors expanded."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _check_size(node)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; a value that does not have the type of its tag is an error."""
        if node.tag not in self.yaml_constructors:
            raise _error(f"the tag {quote(node.tag)} is not supported; write plain values", node)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, OverflowError):
            kind = node.tag.rpartition(":")[2]
            raise _error(f"{quote(node.value)} is not a valid {kind}", node) from None
        if isinstance(value, str) and not value.isascii():
            _check_unicode(value, node)
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Construct an integer, as it is meant."""
        text = self.construct_scalar(node)
        if len(text) > len(str(MAX_INTEGER)) + 10:
            raise _error(f"the number {quote(text)} is too large", node)
        value: int = super().construct_yaml_int(node)
        _check_notation(text, value, node)
        if abs(value) > MAX_INTEGER:
            raise _error(f"the number {text} is too large", node)
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Construct a floating-point number, as it is meant."""
        value: float = super().construct_yaml_float(node)
        _check_notation(self.construct_scalar(node), value, node)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping; a key that occurs twice or is not text or a number is an error."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                self._check_key(key, seen)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def _check_key(self, key: yaml.ScalarNode, seen: set[str]) -> None:
        if key.tag.endswith(":null"):
            raise _error("a key is empty", key)
        if key.tag.endswith(":bool"):
            meaning = str(self.construct_yaml_bool(key)).lower()
            raise _error(
                f"the key {key.value} means {meaning} in YAML; quote it: '{key.value}'", key
            )
        if key.value != "<<" and key.value in seen:
            raise _error(f"duplicate key {quote(key.value)}", key)
        seen.add(key.value)


for _name in ("int", "float"):
    _Loader.add_constructor(
        f"tag:yaml.org,2002:{_name}", getattr(_Loader, f"construct_yaml_{_name}")
    )


def _check_notation(text: str, value: float, node: yaml.Node) -> None:
    """Reject octal numbers and numbers in base 60."""
    if _OCTAL.fullmatch(text):
        decimal = text.replace("0", "", 1)
        raise _error(
            f"{text} means {value} in YAML (octal); write {decimal}, {value} or '{text}'", node
        )
    if _BASE_60.fullmatch(text):
        raise _error(f"{text} means {value} in YAML (base 60); for text, quote it: '{text}'", node)


def _check_unicode(text: str, node: yaml.Node) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _error(f"{quote(text)} is not valid Unicode", node) from None


def _check_size(root: yaml.Node) -> None:
    """Check the number of values and their nesting with all anchors expanded."""
    sizes: dict[Hashable, tuple[int, int]] = {}
    active: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Return the number of nodes and the depth of a node's tree."""
        if isinstance(node, yaml.ScalarNode):
            return 1, 1
        if id(node) in active:
            raise _error("an anchor contains itself", node)
        if id(node) not in sizes:
            active.add(id(node))
            count, depth = 1, 0
            for item in node.value:
                for child in item if isinstance(item, tuple) else (item,):
                    inner = measure(child)
                    count, depth = count + inner[0], max(depth, inner[1])
            if count > MAX_NODES:
                raise _error(f"anchors expand it to more than {MAX_NODES:,} values", node)
            if depth >= MAX_NESTING:
                raise _error(f"nested more than {MAX_NESTING} levels deep", node)
            active.remove(id(node))
            sizes[id(node)] = count, depth + 1
        return sizes[id(node)]

    measure(root)


def flow_yaml(data: Any) -> str:
    """Return data on one line of YAML."""
    text = yaml.safe_dump(
        data, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("...\n").rstrip("\n")  # not the spaces that text may end with
