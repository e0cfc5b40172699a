"""Mistakes in plain data: each in one line, with its path, what was wrong, and what would work."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError, core_schema

_TAG = re.compile(r"(literal|tuple|list|dict|set|is-instance|lax-or-strict|function-\w+)\[.*\]")
"""How pydantic names an alternative of a union in the path of a mistake."""

_PLAIN_TAGS = ("int", "float", "str", "bool")

_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "whole_number": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys with values",
}
"""What was expected, by pydantic's kind of mistake."""

_LISTED = 2
"""So many of a value's keys are named as examples."""


class _Mistake(NamedTuple):
    """One mistake at the path of a key that a reader has written."""

    path: tuple[str | int, ...]
    kind: str
    wanted: str
    message: str
    found: Any


def validation_messages(
    error: ValidationError, at: str = "", model: type[BaseModel] | None = None
) -> list[str]:
    """One line per mistake: the path of the key, what was wrong, what was found or would work.

    Args:
        error: as pydantic tells it.
        at: path of the data that were read.
        model: what they were to be; with it, unknown keys are answered with the known ones.
    """
    raw = [dict(each) for each in error.errors(include_url=False)]
    found = [_mistake(each, raw, model) for each in raw]
    kept = [each for each in found if not _follows(each, found)]
    lines = [_line([*group], at) for _, group in groupby(kept, key=lambda each: each.path)]
    return list(dict.fromkeys(lines))


def join_path(keys: Iterable[str | int]) -> str:
    """`stages[2].blocks[0].op` from its keys and positions."""
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        elif key != "":
            path += f".{key}" if path else str(key)
    return path


def _mistake(
    error: dict[str, Any], errors: Sequence[dict[str, Any]], model: type[BaseModel] | None
) -> _Mistake:
    loc, kind = error["loc"], str(error["type"])
    tagged = {i for i in range(len(loc)) if _is_tag(loc, i, errors)}
    path = tuple(key for i, key in enumerate(loc) if i not in tagged)
    message = str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = "unknown key" + _instead(str(path[-1]), _keys(model, path[:-1]))
    wanted = _WANTED.get(kind, "")
    if kind == "literal_error":
        wanted = error["ctx"]["expected"]
    elif kind == "model_type":
        keys = _keys(model, path)[:_LISTED]
        wanted = f"keys such as {' and '.join(keys)}" if keys else "keys with values"
    return _Mistake(path, kind, wanted, message, error["input"])


def _is_tag(loc: Sequence[str | int], index: int, errors: Sequence[dict[str, Any]]) -> bool:
    """Whether a step of a path names an alternative that was tried, and no key."""
    key, before = loc[index], tuple(loc[:index])
    if not isinstance(key, str):
        return False
    if _TAG.fullmatch(key):
        return True
    others = {e["loc"][index] for e in errors if e["loc"][:index] == before != e["loc"]}
    return key in _PLAIN_TAGS and any(isinstance(o, str) and _TAG.fullmatch(o) for o in others)


def _follows(mistake: _Mistake, others: Sequence[_Mistake]) -> bool:
    """Whether it says no more than that something within it was refused."""
    if mistake.kind != "too_short" and not mistake.wanted:
        return False
    depth = len(mistake.path)
    return any(len(o.path) > depth and o.path[:depth] == mistake.path for o in others)


def _line(group: Sequence[_Mistake], at: str) -> str:
    """The line of one key: of a union, all that it may be."""
    first, path = group[0], join_path([at, *group[0].path])
    if all(each.wanted for each in group):
        return f"{path}: expected {_either(group)}, got {first.found!r}"
    first = next(each for each in group if not each.wanted)
    if first.kind == "missing":
        return f"{path}: missing"
    if first.kind in ("value_error", "assertion_error", "extra_forbidden"):
        return f"{path}: {first.message}" if path else first.message
    return f"{path}: {first.message[:1].lower()}{first.message[1:]}, got {first.found!r}"


def _either(group: Sequence[_Mistake]) -> str:
    """What a key may be: `a whole number, a list or 'auto'`."""
    listed = ", ".join(dict.fromkeys(each.wanted for each in group)).replace(" or ", ", ")
    *others, last = listed.split(", ")
    return f"{', '.join(others)} or {last}" if others else last


def _instead(key: str, known: Sequence[str]) -> str:
    """What may have been meant by an unknown key."""
    if near := difflib.get_close_matches(key, known, n=1):
        return f"; did you mean {near[0]}?"
    return f"; expected one of {', '.join(known)}" if known else ""


def _keys(model: Any, path: Sequence[str | int]) -> list[str]:
    """The keys of what stands at a path below a model; none where that has no fixed keys."""
    for key in path:
        model = _inside(model, key)
    found = [each for each in _alternatives(model) if _is_model(each)]
    if not found:
        return []
    fields = found[0].model_fields
    return [*getattr(found[0], "shorthands", ()), *(f.alias or n for n, f in fields.items())]


def _inside(annotation: Any, key: str | int) -> Any:
    """The type of what stands at a key, or position, of a type; None where it is not told."""
    for each in _alternatives(annotation):
        arguments = get_args(each)
        if _is_model(each):
            for name, field in each.model_fields.items():
                if key in (name, field.alias):
                    return field.annotation
        elif isinstance(key, int) and arguments:
            varied = Ellipsis not in arguments and key < len(arguments)
            return arguments[key if varied else 0]
        elif get_origin(each) is dict:
            return arguments[1]
    return None


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [each for part in get_args(annotation) for each in _alternatives(part)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


_NESTED = ("schema", "choices", "items_schema", "keys_schema", "values_schema", "steps")
"""Where pydantic keeps the schemas that a schema is made of, beside `fields`."""


def strict_numbers(schema: Any) -> Any:
    """A schema of pydantic's with numbers that take nothing else for one.

    Whole numbers refuse `true` and `1.0`, other numbers `true`. Text is read as before: YAML takes
    `1e-2` for a text.
    """
    if isinstance(schema, list):
        return [strict_numbers(each) for each in schema]
    if not isinstance(schema, dict) or _is_exacting(schema):
        return schema
    inner = {key: strict_numbers(schema[key]) for key in _NESTED if key in schema}
    if "fields" in schema:
        inner["fields"] = {name: strict_numbers(field) for name, field in schema["fields"].items()}
    schema = {**schema, **inner}
    kind = schema.get("type")
    if kind == "float":
        return core_schema.no_info_before_validator_function(_number, schema)
    if kind == "int" or (kind == "literal" and any(type(e) is int for e in schema["expected"])):
        return core_schema.no_info_before_validator_function(_whole_number, schema)
    return schema


def _is_exacting(schema: Mapping[str, Any]) -> bool:
    function = schema.get("function")
    return isinstance(function, dict) and function["function"] in (_whole_number, _number)


def _whole_number(value: object) -> object:
    if isinstance(value, bool | float):
        raise PydanticCustomError("whole_number", "Expected a whole number")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "Expected a number")
    return value
