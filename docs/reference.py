"""Pages of the reference, written when the site is built: keys of studies, and verbs.

What they say stands in the code: fields, types, defaults and docstrings of the values that a study
is made of, and the help of the command line. Also a hook of mkdocs (see mkdocs.yml).
"""

import inspect
import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic.fields import FieldInfo

from partialnas.cli import app
from partialnas.runs.config.metric_limits import Limit
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.search.study.ablation_spec import AblationSpec, FactorSpec
from partialnas.search.study.sections import Budget, ExecutorSpec, SearchSpec, SeedRule, TaskSpec
from partialnas.search.study.study import Study
from partialnas.space.arch.plan import BlockSettings, Plan
from partialnas.space.arch.ratio import LearnedRatio
from partialnas.space.axes.spec import AxisSpec, SpaceSpec
from partialnas.space.cost.constraints import Bounds, Constraints
from partialnas.space.values import Value

SECTIONS: dict[str, type[Value]] = {
    "The study": Study,
    "task": TaskSpec,
    "base": Plan,
    "space": SpaceSpec,
    "space.axes.NAME": AxisSpec,
    "space.constraints": Constraints,
    "space.constraints.NAME": Bounds,
    "Settings of a block": BlockSettings,
    "ratio: {learned: ...}": LearnedRatio,
    "recipe": Recipe,
    "seeds: {...}": SeedRule,
    "ablation": AblationSpec,
    "ablation.factors.NAME": FactorSpec,
    "search": SearchSpec,
    "limits.NAME": Limit,
    "measure": Protocol,
    "budget": Budget,
    "executor": ExecutorSpec,
}
"""Where each value stands in a study's file, in the order of the page."""

SHORTHANDS: dict[type[Value], str] = {
    Plan: "`preset: NAME` starts from a preset; the settings stated beside it replace its own.",
    Recipe: "`use: NAME` starts from a named recipe, `short` or `standard`; the settings stated "
    "beside it replace its own.",
}
"""What is said of the keys that are read before the fields of a value."""

_HEADING = {model: heading for heading, model in SECTIONS.items()}
_WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "`true` or `false`",
    Fraction: "a share, such as `1/4`", type(None): "nothing", Any: "any value",
}  # fmt: skip
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
_PLACE = {Path: "PATH", int: "N", float: "X"}
_ATTRIBUTE = re.compile(r"^(\w+): (.*)$")

_INTRO = """# Keys of a study

Every key that a study's file may have, with its default. An unknown key, a value of the wrong type
or one out of bounds is refused by `partialnas check`, with its place in the file. Keys may be
replaced on the command line: `--set recipe.epochs=8`.

This page is made from the code when the site is built.
"""

_VERBS_INTRO = """# Verbs

`partialnas VERB --help` prints the same. This page is made from the code when the site is built.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The hook of mkdocs: puts the pages among those that stand in the folder."""
    for name, page in (("yaml", yaml_page), ("verbs", verbs_page)):
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


def yaml_page() -> str:
    """The page of a study's keys, in Markdown."""
    return "\n".join([_INTRO, *(_section(name, model) for name, model in SECTIONS.items())])


def _section(name: str, model: type[Value]) -> str:
    meaning = described(model)
    rows = [
        f"| `{field.alias or key}` | {_cell(_kind(field))} | {_default(field)} "
        f"| {_cell(meaning.get(key, ''))} |"
        for key, field in model.model_fields.items()
    ]
    first = inspect.cleandoc(model.__doc__ or "").split("Attributes:")[0].strip()
    heading = f"## {name}" if name[0].isupper() else f"## `{name}`"
    head = "| key | what it may be | default | meaning |\n|---|---|---|---|"
    told = [first, "", SHORTHANDS[model], ""] if model in SHORTHANDS else [first, ""]
    return "\n".join([f"{heading} {{#{anchor(model)}}}", "", *told, head, *rows, ""])


def anchor(model: type[Value]) -> str:
    """The section of a value in the page, for links."""
    return model.__name__.lower()


def described(model: type[Value]) -> dict[str, str]:
    """What a docstring says of each field, from its section `Attributes`, classes above first."""
    told: dict[str, str] = {}
    for each in reversed(model.__mro__):
        key = ""
        for line in _attribute_lines(each.__doc__ or ""):
            if found := _ATTRIBUTE.match(line):
                key = found[1]
                told[key] = found[2]
            elif key:
                told[key] += f" {line.strip()}"
    return {key: text.strip() for key, text in told.items()}


def _attribute_lines(docstring: str) -> Iterator[str]:
    """Lines of the section `Attributes`, those that begin a field without indentation."""
    _, _, section = inspect.cleandoc(docstring).partition("\nAttributes:\n")
    for line in section.splitlines():
        if line and not line.startswith("    "):
            return
        yield line[4:]


def _kind(field: FieldInfo) -> str:
    """What a field may be, in words, with its bounds."""
    bounds = [
        words.format(f"{getattr(each, key):,}")
        for each in field.metadata
        for key, words in _BOUNDS.items()
        if isinstance(getattr(each, key, None), int | float)
    ]
    return ", ".join([words_for(field.annotation), *bounds])


def words_for(kind: Any) -> str:
    """A type in the words of a study's author; values link to their section."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in _HEADING:
        return f"[settings](#{anchor(kind)})"
    if kind in _WORDS:
        return _WORDS[kind]
    if origin is Annotated:
        return words_for(inner[0])
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in inner)
    if origin in (Union, UnionType):
        stated = [each for each in inner if each is not type(None)]
        return " or ".join(dict.fromkeys(map(words_for, stated)))
    if origin is dict:
        return "any settings" if inner[1] is Any else f"by name: {words_for(inner[1])}"
    if origin is tuple:
        many = "a list" if Ellipsis in inner else str(len(inner))
        return f"{many} of: {words_for(inner[0])}"
    return f"`{getattr(kind, '__name__', kind)}`"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be stated"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Value):
        return f"[its own](#{anchor(type(value))})" if type(value) in _HEADING else "its own"
    return "none" if value is None or value == "" else f"`{_yaml(value)}`"


def _yaml(value: object) -> str:
    """A default as one would write it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def verbs_page() -> str:
    """The page of the verbs, in Markdown."""
    verbs = commands()
    end = f"## Exit codes\n\n{app.info.epilog}\n"
    return "\n".join([_VERBS_INTRO, *(_verb(name, verb) for name, verb in verbs.items()), end])


def commands() -> dict[str, Any]:
    """The verbs as the command line knows them, by name."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def _verb(name: str, verb: Any) -> str:
    rows = [
        f"| `{_spelling(each)}` | {_cell(getattr(each, 'help', None) or '')} | {_standard(each)} |"
        for each in options(verb)
    ]
    head = "| argument or option | meaning | default |\n|---|---|---|"
    return "\n".join([f"## `{name}`", "", inspect.cleandoc(verb.help), "", head, *rows, ""])


def options(verb: Any) -> list[Any]:
    """The arguments and options of a verb, without `--help`."""
    return [each for each in verb.params if each.name != "help"]


def _spelling(option: Any) -> str:
    if option.param_type_name == "argument":
        return str(option.metavar or option.name.upper())
    names = ", ".join([*option.opts, *option.secondary_opts])
    place = option.metavar or _PLACE.get(_type(option), "TEXT")
    return names if option.is_flag else f"{names} {place}"


def _type(option: Any) -> Any:
    """What an option holds, without the None of one that may be left out."""
    kind = option.type_descriptor.annotation
    return next((each for each in get_args(kind) if each is not type(None)), kind)


def _standard(option: Any) -> str:
    if option.required:
        return "must be stated"
    value = option.default
    if value is None or isinstance(value, bool) or callable(value):
        return "yes" if value is True else ""
    return f"`{value}`"
