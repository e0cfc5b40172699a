"""Generate the reference pages of the documentation: keys of a study, and verbs.

Their content comes from the code: fields, types, defaults and docstrings of the models of a study,
and the help of the command line. This file is a hook of mkdocs (see mkdocs.yml).
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
"""Model of each section of a study file, by heading, in the order of the page."""

SHORTHANDS: dict[type[Value], str] = {
    Plan: "`preset: NAME` starts from a preset; other keys replace its settings.",
    Recipe: "`use: NAME` starts from a named recipe, `short` or `standard`; other keys replace its "
    "settings.",
}
"""Description of keys that are not fields of the model."""

KINDS: dict[tuple[type[Value], str], str] = {(Study, "plugins"): "a list, each text"}
"""Accepted values of fields that are written in another form than they are stored in."""

_HEADING = {model: heading for heading, model in SECTIONS.items()}
_WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "`true` or `false`",
    Fraction: "a share such as `1/4`", type(None): "nothing", Any: "any value",
}  # fmt: skip
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
_PLACEHOLDER = {Path: "PATH", int: "N", float: "X"}
_ATTRIBUTE = re.compile(r"^(\w+): (.*)$")

_INTRO = """# Keys of a study

Every key that a study file may have, with its default. `partialnas check` rejects unknown keys,
values of the wrong type and values out of bounds, and names their place in the file. The command
line can replace a key: `--set recipe.epochs=8`.

This page is generated from the code.
"""

_VERBS_INTRO = """# Verbs

`partialnas VERB --help` prints the same text. This page is generated from the code.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the files of the site (a hook of mkdocs)."""
    for name, page in (("yaml", yaml_page), ("verbs", verbs_page)):
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


def yaml_page() -> str:
    """Return the page of the keys of a study, in Markdown."""
    return "\n".join([_INTRO, *(_section(name, model) for name, model in SECTIONS.items())])


def _section(name: str, model: type[Value]) -> str:
    meanings = described(model)
    rows = [
        f"| `{field.alias or key}` | {_cell(_kind(model, key, field))} | {_default(field)} "
        f"| {_cell(meanings.get(key, ''))} |"
        for key, field in model.model_fields.items()
    ]
    text = inspect.cleandoc(model.__doc__ or "").split("Attributes:")[0].strip()
    heading = f"## {name}" if name[0].isupper() else f"## `{name}`"
    head = "| key | accepted values | default | meaning |\n|---|---|---|---|"
    intro = [text, "", SHORTHANDS[model], ""] if model in SHORTHANDS else [text, ""]
    return "\n".join([f"{heading} {{#{anchor(model)}}}", "", *intro, head, *rows, ""])


def anchor(model: type[Value]) -> str:
    """Return the anchor of a model's section."""
    return model.__name__.lower()


def described(model: type[Value]) -> dict[str, str]:
    """Return the description of each field, from the docstrings of a model and its bases."""
    descriptions: dict[str, str] = {}
    for base in reversed(model.__mro__):
        key = ""
        for line in _attribute_lines(base.__doc__ or ""):
            if match := _ATTRIBUTE.match(line):
                key = match[1]
                descriptions[key] = match[2]
            elif key:
                descriptions[key] += f" {line.strip()}"
    return {key: text.strip() for key, text in descriptions.items()}


def _attribute_lines(docstring: str) -> Iterator[str]:
    """Yield the lines of the section `Attributes`; the first line of a field is not indented."""
    _, _, section = inspect.cleandoc(docstring).partition("\nAttributes:\n")
    for line in section.splitlines():
        if line and not line.startswith("    "):
            return
        yield line[4:]


def _kind(model: type[Value], key: str, field: FieldInfo) -> str:
    """Return the accepted values of a field as text, with its bounds."""
    bounds = [
        text.format(f"{getattr(constraint, name):,}")
        for constraint in field.metadata
        for name, text in _BOUNDS.items()
        if isinstance(getattr(constraint, name, None), int | float)
    ]
    return ", ".join([KINDS.get((model, key)) or words_for(field.annotation), *bounds])


def words_for(kind: Any) -> str:
    """Return a type as text; models link to their section."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in _HEADING:
        return f"[settings](#{anchor(kind)})"
    if kind in _WORDS:
        return _WORDS[kind]
    if origin is Annotated:
        return words_for(inner[0])
    if origin is Literal:
        *values, last = (f"`{json.dumps(value).strip(chr(34))}`" for value in inner)
        return f"{', '.join(values)} or {last}" if values else last
    if origin in (Union, UnionType):
        kinds = [kind for kind in inner if kind is not type(None)]
        return " or ".join(dict.fromkeys(map(words_for, kinds)))
    if origin is dict:
        return "settings" if inner[1] is Any else f"a mapping of names to {words_for(inner[1])}"
    if origin is tuple:
        length = "" if Ellipsis in inner else f" of {len(inner)}"
        return f"a list{length}, each {words_for(inner[0])}"
    return f"`{getattr(kind, '__name__', kind)}`"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Value):
        return f"[defaults](#{anchor(type(value))})" if type(value) in _HEADING else "defaults"
    return "none" if value in (None, "", (), {}) else f"`{_yaml(value)}`"


def _yaml(value: object) -> str:
    """Return a default as it is written in YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def verbs_page() -> str:
    """Return the page of the verbs, in Markdown."""
    sections = [_verb(name, verb) for name, verb in commands().items()]
    exit_codes = str(app.info.epilog).removeprefix("Exit codes: ")
    return "\n".join([_VERBS_INTRO, *sections, f"## Exit codes\n\n{exit_codes}\n"])


def commands() -> dict[str, Any]:
    """Return the commands of the command line by verb."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def _verb(name: str, verb: Any) -> str:
    rows = [
        f"| `{_spelling(option)}` | {_cell(getattr(option, 'help', None) or '')} "
        f"| {_option_default(option)} |"
        for option in options(verb)
    ]
    head = "| argument or option | meaning | default |\n|---|---|---|"
    return "\n".join([f"## `{name}`", "", inspect.cleandoc(verb.help), "", head, *rows, ""])


def options(verb: Any) -> list[Any]:
    """Return the arguments and options of a verb, without `--help`."""
    return [option for option in verb.params if option.name != "help"]


def _spelling(option: Any) -> str:
    if option.param_type_name == "argument":
        return str(option.metavar or option.name.upper())
    names = ", ".join([*option.opts, *option.secondary_opts])
    placeholder = option.metavar or _PLACEHOLDER.get(_type(option), "TEXT")
    return names if option.is_flag else f"{names} {placeholder}"


def _type(option: Any) -> Any:
    """Return the type of an option, without None."""
    annotation = option.type_descriptor.annotation
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if kinds else annotation


def _option_default(option: Any) -> str:
    if option.required:
        return "required"
    value = option.default
    if value is None or isinstance(value, bool) or callable(value):
        return "yes" if value is True else ""
    return f"`{value}`"
