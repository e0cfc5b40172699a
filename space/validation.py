"""One-line error messages for invalid plain data, and strict validation of numbers."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from partialnas.space.errors import is_printable

_TAG = re.compile(r"(literal|tuple|list|dict|set|is-instance|lax-or-strict|function-\w+)\[.*\]")
"""Pydantic's name of a union's alternative in the path of an error."""

_LITERAL = re.compile(r"'([^']*)'")
"""A text among the values that pydantic expects."""

_PLAIN_TAGS = ("int", "float", "str", "bool")

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "whole_number": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
}
"""Expectation by pydantic's error type."""

_EXAMPLE_KEYS = 2
"""Number of a model's keys that a message names as examples."""

MAX_INTEGER = 2**53
"""Largest absolute value of an integer in plain data: floats represent all integers up to it."""

_WORD = re.compile(r"[a-z0-9]+")
_SIMILAR = 0.65
"""Similarity from which a name is suggested."""

_NEARLY = 0.1
"""Difference in similarity up to which further names are suggested."""

_SYNONYMS = {
    "flops": ("macs",),
    "fps": ("throughput_img_s",),
    "speed": ("throughput_img_s", "latency_ms"),
    "loss": ("val_nll",),
}
"""Valid names by words of other tools for the same quantity."""

_SHORTEST_WORD = 3
_MOST_SUGGESTIONS = 3

_MOST_MESSAGES = 50
_MOST_ERRORS = 200
_LONGEST_QUOTE = 80
_LONGEST_NAME = 200


def quote(value: object) -> str:
    """Return a value as Python writes it, shortened in the middle to 80 characters."""
    text = repr(value)
    if len(text) <= _LONGEST_QUOTE:
        return text
    return f"{text[: _LONGEST_QUOTE - 20]} ... {text[-15:]}"


_Error = dict[str, Any]
_Type = type[BaseModel] | None


def suggest(name: object, choices: Iterable[object]) -> str:
    """Return a hint at the choices nearest to an invalid name, or at all of them.

    Words may be in another order or missing: `accuracy` suggests `val_accuracy`.

    Args:
        name: the name as the user wrote it.
        choices: valid names.

    Returns:
        `did you mean A or B?`, or `choose A, B or C`; empty without choices.
    """
    valid = [*dict.fromkeys(map(str, choices))]
    if near := nearest_choices(name, valid):
        return f"did you mean {join_words(near, 'or')}?"
    return f"choose {join_words(valid, 'or')}" if valid else ""


def nearest_choices(name: object, choices: Iterable[str]) -> list[str]:
    """Return the choices that resemble an invalid name, at most three, the nearest first."""
    scores = {choice: _similarity(str(name).lower(), choice.lower()) for choice in choices}
    least = max(_SIMILAR, max(scores.values(), default=0.0) - _NEARLY)
    near = [choice for choice in scores if scores[choice] >= least]
    near = sorted(near, key=lambda choice: -scores[choice])[:_MOST_SUGGESTIONS]
    return near or [c for c in scores if c in _SYNONYMS.get(str(name).lower(), ())]


def expected_one_of(options: Iterable[object], value: object) -> str:
    """Return the message that a value is none of the options, with a hint at a similar one."""
    names = [*map(str, options)]
    message = f"expected one of {', '.join(names)}, got {quote(value)}"
    hint = suggest(value, names) if isinstance(value, str) else ""
    return f"{message}; {hint}" if hint.endswith("?") else message


@lru_cache(maxsize=10_000)  # a mistake may stand in hundreds of places of one file
def _similarity(name: str, choice: str) -> float:
    """Return how similar two names are, from 0 to 1, in the order of letters or of words."""
    ours, theirs = (sorted(_WORD.findall(text)) for text in (name, choice))
    if not ours or not theirs:
        return 0.0
    pairs = ((name, choice), (" ".join(ours), " ".join(theirs)))
    ratios = [difflib.SequenceMatcher(None, *pair, autojunk=False).ratio() for pair in pairs]
    is_part = len(name) >= _SHORTEST_WORD and all(
        any(word.startswith(part) for word in theirs) for part in ours
    )
    return max(*ratios, _SIMILAR if is_part else 0.0)


def join_words(words: Sequence[str], conjunction: str = "and") -> str:
    """Return words as a list in a sentence: `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last


class _Mistake(NamedTuple):
    """One error, at the path of a key in the user's data."""

    path: tuple[str | int, ...]
    kind: str
    expected: str
    message: str
    value: Any


def first_messages(messages: Iterable[str], *, complete: bool = True) -> list[str]:
    """Return the first 50 messages, and one that says how many more there are.

    Args:
        messages: all messages, or the first of them.
        complete: whether they are all.
    """
    first = [*messages]
    further = len(first) - _MOST_MESSAGES
    if further <= 0:
        return first if complete else [*first, "and more mistakes"]
    count = f"{further:,}" if complete else f"at least {further:,}"
    return [*first[:_MOST_MESSAGES], f"and {count} more mistakes"]


def check_name(name: object) -> None:
    """Check a name that tables, figures and file names show.

    Raises:
        ValueError: it is not a string, is empty or too long, or has control characters (all that
            `printable` escapes, such as marks that reverse the direction of text).
    """
    if not isinstance(name, str):
        raise ValueError(f"expected a name, got {quote(name)}; quote it: '{name}'")
    if not name.strip():
        raise ValueError("a name must not be empty")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"a name may have {_LONGEST_NAME} characters, got {quote(name)}")
    if not is_printable(name):
        raise ValueError(f"a name must not have control characters, got {quote(name)}")


def validation_messages(error: ValidationError, prefix: str = "", model: _Type = None) -> list[str]:
    """Return one line per error: the path of the key, what is wrong, and what was expected.

    Args:
        error: pydantic's error.
        prefix: path of the validated data, put before the paths of keys.
        model: model of the validated data; messages then suggest the model's keys for unknown ones.
    """
    raw = [dict(item) for item in error.errors(include_url=False)[:_MOST_ERRORS]]
    mistakes = [_mistake(item, raw, model) for item in raw]
    kept = [mistake for mistake in mistakes if not _is_consequence(mistake, mistakes)]
    # errors with one path are alternatives of a union, except those of the whole value
    groups = groupby(kept, key=lambda mistake: mistake.path or (mistake.message,))
    lines = [_line([*group], prefix) for _, group in groups]
    return first_messages(dict.fromkeys(lines), complete=error.error_count() <= _MOST_ERRORS)


def error_details(error: ValidationError) -> list[InitErrorDetails]:
    """Return the errors of a `ValidationError`, to raise them together with others."""
    return [
        InitErrorDetails(
            type=PydanticCustomError(
                item["type"], "{message}", {**item.get("ctx", {}), "message": item["msg"]}
            ),
            loc=item["loc"],
            input=item["input"],
        )
        for item in error.errors(include_url=False)
    ]


def message_details(message: str) -> InitErrorDetails:
    """Return an error of a whole value, whose message names the place."""
    kind = PydanticCustomError("value_error", "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=(), input=None)


def join_path(keys: Iterable[str | int]) -> str:
    """Join keys and positions into a path such as `stages[2].blocks[0].op`."""
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        elif key != "":
            name = key if len(key) <= _LONGEST_QUOTE else f"{key[:_LONGEST_QUOTE]}..."
            path += f".{name}" if path else name
    return path


def _mistake(error: _Error, errors: Sequence[_Error], model: _Type) -> _Mistake:
    loc, kind = error["loc"], str(error["type"])
    tagged = {i for i in range(len(loc)) if _is_tag(loc, i, errors)}
    path = tuple(key for i, key in enumerate(loc) if i not in tagged)
    message = str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        hint = suggest(path[-1], _keys(model, path[:-1]))
        message = f"unknown key; {hint}" if hint else "unknown key"
    expected = _EXPECTED.get(kind, "")
    if kind == "missing" and isinstance(loc[-1], int):  # a list that is too short
        lacking = [e["loc"][-1] for e in errors if (e["loc"][:-1], e["type"]) == (loc[:-1], kind)]
        path, expected = path[:-1], f"{max(lacking) + 1} values"
    elif kind == "literal_error":
        expected = error["ctx"]["expected"]
    elif kind == "model_type":
        keys = _keys(model, path)[:_EXAMPLE_KEYS]
        expected = f"a mapping with keys such as {' and '.join(keys)}" if keys else "a mapping"
    return _Mistake(path, kind, expected, message, error["input"])


def _is_tag(loc: Sequence[str | int], index: int, errors: Sequence[_Error]) -> bool:
    """Return whether a step of a path is a union's alternative rather than a key."""
    key, before = loc[index], tuple(loc[:index])
    if not isinstance(key, str):
        return False
    if _TAG.fullmatch(key):
        return True
    others = {e["loc"][index] for e in errors if e["loc"][:index] == before != e["loc"]}
    return key in _PLAIN_TAGS and any(isinstance(o, str) and _TAG.fullmatch(o) for o in others)


def _is_consequence(mistake: _Mistake, others: Sequence[_Mistake]) -> bool:
    """Return whether an error only repeats that a key below it is invalid."""
    if mistake.kind != "too_short" and not mistake.expected:
        return False
    depth = len(mistake.path)
    return any(len(o.path) > depth and o.path[:depth] == mistake.path for o in others)


def _line(group: Sequence[_Mistake], prefix: str) -> str:
    """Return the message for one key; for a union, name all alternatives."""
    first, path = group[0], join_path([prefix, *group[0].path])
    if all(mistake.expected for mistake in group):
        hint = _literal_hint(group)
        return f"{path}: expected {_either(group)}, got {quote(first.value)}{hint}"
    first = next(mistake for mistake in group if not mistake.expected)
    if first.kind == "missing":
        return f"{path}: missing"
    if first.kind in ("value_error", "assertion_error", "extra_forbidden"):
        return f"{path}: {first.message}" if path else first.message
    return f"{path}: {first.message[:1].lower()}{first.message[1:]}, got {quote(first.value)}"


def _either(group: Sequence[_Mistake]) -> str:
    """Return the alternatives of a key, such as `a whole number, a list or 'auto'`."""
    listed = ", ".join(dict.fromkeys(mistake.expected for mistake in group)).replace(" or ", ", ")
    return join_words(listed.split(", "), "or")


def _literal_hint(group: Sequence[_Mistake]) -> str:
    """Return a hint at the alternative that resembles a string, or an empty text."""
    value = group[0].value
    literals = [m.expected for m in group if m.kind == "literal_error"]
    hint = suggest(value, _LITERAL.findall(" ".join(literals))) if isinstance(value, str) else ""
    return f"; {hint}" if hint.endswith("?") else ""


def _keys(model: Any, path: Sequence[str | int]) -> list[str]:
    """Return the valid keys at a path below a model, or an empty list if any key is valid."""
    for key in path:
        model = _inside(model, key)
    nested = next(filter(_is_model, _alternatives(model)), None)
    if nested is None:
        return []
    fields = nested.model_fields
    return [*getattr(nested, "shorthands", ()), *(f.alias or n for n, f in fields.items())]


def _inside(annotation: Any, key: str | int) -> Any:
    """Return the type at a key or position of a type, or None if it is not annotated."""
    for alternative in _alternatives(annotation):
        arguments = get_args(alternative)
        if _is_model(alternative):
            for name, field in alternative.model_fields.items():
                if key in (name, field.alias):
                    return field.annotation
        elif isinstance(key, int) and arguments:
            varied = Ellipsis not in arguments and key < len(arguments)
            return arguments[key if varied else 0]
        elif get_origin(alternative) is dict:
            return arguments[1]
    return None


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [inner for part in get_args(annotation) for inner in _alternatives(part)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


_NESTED = ("schema", "choices", "items_schema", "keys_schema", "values_schema", "steps")
"""Keys of a pydantic schema that hold nested schemas, besides `fields`."""


def strict_numbers(schema: Any) -> Any:
    """Return a pydantic schema with strict numbers.

    Integers reject `true` and `1.0`; floats reject `true`. Strings are still parsed, because YAML
    reads `1e-2` as a string.
    """
    if isinstance(schema, list):
        return [strict_numbers(item) for item in schema]
    if not isinstance(schema, dict) or _is_strict(schema):
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


def _is_strict(schema: Mapping[str, Any]) -> bool:
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
