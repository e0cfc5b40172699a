"""Numbers that are numbers: `true` is no whole number, and neither is `1.0`."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError, core_schema

_NESTED = ("schema", "choices", "items_schema", "keys_schema", "values_schema", "steps")
"""Where pydantic keeps the schemas that a schema is made of, beside `fields`."""


def exacting(schema: Any) -> Any:
    """A schema of pydantic's with numbers that take nothing else for one.

    Whole numbers refuse `true` and `1.0`, other numbers `true`. Text is read as before: YAML takes
    `1e-2` for a text.
    """
    if isinstance(schema, list):
        return [exacting(each) for each in schema]
    if not isinstance(schema, dict) or _is_exacting(schema):
        return schema
    inner = {key: exacting(schema[key]) for key in _NESTED if key in schema}
    if "fields" in schema:
        inner["fields"] = {name: exacting(field) for name, field in schema["fields"].items()}
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
