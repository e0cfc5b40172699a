"""Write the reference pages of the documentation: keys, axes, quantities and verbs.

Their content comes from the code: fields, types, defaults and docstrings of the models of a study,
tables of axes and quantities, and the help of the command line. `make reference` runs this file;
the pages are committed, and a test compares them with the code.
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
from pydantic.fields import FieldInfo

from partialnas.cli import app
from partialnas.runs.config.metric_limits import Limit
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.quantities import DEFINITIONS, QUANTITIES
from partialnas.runs.config.recipe import Recipe
from partialnas.search.study.ablation_spec import AblationSpec, FactorSpec
from partialnas.search.study.sections import Budget, ExecutorSpec, SearchSpec, SeedRule, TaskSpec
from partialnas.search.study.study import Study
from partialnas.search.study.study_fields import LIMITED, OBJECTIVES
from partialnas.space.arch.plan import BlockSettings, Plan
from partialnas.space.arch.ratio import LearnedRatio
from partialnas.space.axes.descriptions import (
    AXIS_DESCRIPTIONS,
    DEFAULT_OPERATION_LIST,
    OPERATION_DESCRIPTIONS,
)
from partialnas.space.axes.levels import granularities
from partialnas.space.axes.spec import AxisSpec, SpaceSpec
from partialnas.space.cost.constraints import Bounds, Constraints
from partialnas.space.values import Value

SECTIONS: dict[str, type[Value]] = {
    "The study": Study,
    "`task`": TaskSpec,
    "`base`": Plan,
    "`space`": SpaceSpec,
    "`space.axes.NAME`": AxisSpec,
    "`space.constraints`": Constraints,
    "`space.constraints.NAME`": Bounds,
    "Settings of a block": BlockSettings,
    "Learned ratio": LearnedRatio,
    "`recipe`": Recipe,
    "Rule for `seeds`": SeedRule,
    "`ablation`": AblationSpec,
    "`ablation.factors.NAME`": FactorSpec,
    "`search`": SearchSpec,
    "`limits.NAME`": Limit,
    "`measure`": Protocol,
    "`budget`": Budget,
    "`executor`": ExecutorSpec,
}
"""Model of each section of a study file, by heading, in the order of the page."""

SHORTHANDS: dict[type[Value], str] = {
    Plan: "`preset: NAME` starts from a preset; other keys replace its settings.",
    Recipe: "`use: NAME` starts from a named recipe, `short` or `standard`; other keys replace its "
    "settings.",
    Protocol: "`use: NAME` starts from a named protocol, `gpu-latency` (one image) or "
    "`gpu-throughput` (256 images), both in `bfloat16`; other keys replace its settings.",
}
"""Description of keys that are not fields of the model."""

KINDS: dict[tuple[type[Value], str], str] = {
    (Study, "plugins"): "a list, each text",
    (Study, "measure"): "[settings](#measure), the name of a protocol, or `none`",
    (SpaceSpec, "axes"): "a mapping of [names of axes](axes.md) to [settings](#spaceaxesname)",
}
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

Names of axes are on the page [axes](axes.md), names of objectives and limits on the page
[quantities](quantities.md). This page is generated from the code by `make reference`.
"""

_AXES_INTRO = """# Axes of a space

An axis of `space.axes` is a setting of the [base](yaml.md#base) that varies. It is written in one
of three ways:

```yaml
space:
  axes:
    mlp_ratio: [1, 2]                     # a list of levels
    attention:                            # levels with names, for tables and figures
      none: none
      channel: {channel: stages 1-3}
    parts: {values: [2, 3], per: stage}   # one level for each stage, or for each block
    ratio_2: {values: [1/8, 1/4], per: stage, when: {parts: 3}}
```

Without `per`, one level holds for the whole network. `when` names levels of other axes, of the same
or a coarser granularity, under which the axis is active. Where an axis has no effect it is
inactive: samplers do not choose it, and networks that differ in it only are the same network.
`partialnas check` warns of axes without any effect.

This page is generated from the code by `make reference`.
"""

_PARTS = """## Parts and operations

A block splits its channels into `parts`, in the order of the channels. Each part goes through its
operation, the results are put together in the same order, and an MLP then mixes all channels. With
the default `operations` ({default}),
`base: {{parts: 3, ratio: [1/4, 1/2], attention: channel}}` is in a stage of 32 channels:

| part | channels | share | operation |
|---|---|---|---|
| 1 | 1 to 8 | 1/4 | `conv` |
| 2 | 9 to 24 | 1/2 | `attention`, which is `channel` here |
| 3 | 25 to 32 | the rest | `pool` |

| operation | what it does to the channels of its part |
|---|---|
{rows}

[Plug-ins](../plugins.md) add operations.
"""

_QUANTITIES_INTRO = """# Quantities

The columns of tables, and the names that `objectives`, `limits`, `space.constraints` and the
options `--metric`, `-x` and `-y` accept. The metrics of a study's own
[trial function](../functions.md) are quantities, too; the study states their direction.

| use | quantities |
|---|---|
| `objectives` | {objectives} |
| `limits` | {limits} |
| `space.constraints` | {constraints} |

Trained quantities differ between seeds: tables show means, with the standard deviation after ±.
Measured ones are taken in a [protocol](yaml.md#measure), see [Measure speed](../measuring.md).

This page is generated from the code by `make reference`.
"""

_VERBS_INTRO = """# Verbs

`partialnas VERB --help` prints the same text. This page is generated from the code by
`make reference`. `partialnas --install-completion` sets up completion of verbs and options in bash,
zsh, fish or PowerShell, and `--show-completion` prints it.
"""


def axes_page() -> str:
    """Return the page of the axes, in Markdown."""
    head = "| axis | what it changes | per | has an effect in |\n|---|---|---|---|"
    rows = [
        f"| [`{name}`](#{name}) | {_cell(axis.meaning.split('. ')[0].rstrip('.'))} "
        f"| {', '.join(granularities(name))} | {axis.effect} |"
        for name, axis in AXIS_DESCRIPTIONS.items()
    ]
    operations = [f"| `{name}` | {text} |" for name, text in OPERATION_DESCRIPTIONS.items()]
    parts = _PARTS.format(default=DEFAULT_OPERATION_LIST, rows="\n".join(operations))
    return "\n".join([_AXES_INTRO, head, *rows, "", parts, *map(_axis, AXIS_DESCRIPTIONS)])


def _axis(name: str) -> str:
    axis = AXIS_DESCRIPTIONS[name]
    lines = [
        f"- Levels: {axis.levels}",
        f"- Per: {', '.join(granularities(name))}",
        f"- Has an effect in: {axis.effect}",
    ]
    example = f"```yaml\n{name}: {axis.example}\n```"
    return "\n".join([f"## `{name}`", "", axis.meaning, "", *lines, "", example, ""])


def quantities_page() -> str:
    """Return the page of the quantities, in Markdown."""
    names = {"objectives": OBJECTIVES, "limits": LIMITED, "constraints": Constraints.model_fields}
    listed = {key: ", ".join(f"`{name}`" for name in of) for key, of in names.items()}
    better = {"min": "smaller", "max": "larger"}
    rows = [
        f"| `{q.key}` | {q.unit or 'none'} | {better[q.better]} | {q.source} "
        f"| {_cell(DEFINITIONS[q.key])} |"
        for q in QUANTITIES.values()
    ]
    head = "| quantity | unit | better | is | how it is determined |\n|---|---|---|---|---|"
    return "\n".join([_QUANTITIES_INTRO.format(**listed), head, *rows, ""])


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
    head = "| key | accepted values | default | meaning |\n|---|---|---|---|"
    intro = [text, "", SHORTHANDS[model], ""] if model in SHORTHANDS else [text, ""]
    return "\n".join([f"## {name}", "", *intro, head, *rows, ""])


def anchor(heading: str) -> str:
    """Return the anchor that GitHub, and mkdocs, give a heading."""
    return re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-")


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
        return f"[settings](#{anchor(_HEADING[kind])})"
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
        return (
            f"[defaults](#{anchor(_HEADING[type(value)])})"
            if type(value) in _HEADING
            else "defaults"
        )
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


PAGES = {
    "yaml": yaml_page, "axes": axes_page, "quantities": quantities_page, "verbs": verbs_page,
}  # fmt: skip
"""Function that returns the content of each page, by name."""

if __name__ == "__main__":
    for name, page in PAGES.items():
        path = Path(__file__).with_name("reference") / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(), encoding="utf-8")
