"""Study files: YAML in, a study that can run out, every mistake told with its path."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from partialnas.runs.config.overrides import PlainData, apply_overrides
from partialnas.search.study.study import Study
from partialnas.space.errors import UserError
from partialnas.space.values import validate_as


def load_study(path: Path, *, quick: bool = False, overrides: Sequence[str] = ()) -> Study:
    """The study in a YAML file, `quick:` applied on demand, then `KEY=VALUE` overrides.

    Raises:
        UserError: no such file, not YAML, or not a study; names every mistake with its path.
    """
    data = _read(path)
    stated = dict(_parse_override(text) for text in overrides)
    small = {str(key): value for key, value in _mapping(data.get("quick")).items()}
    study = validate_as(
        Study,
        apply_overrides(data, (small if quick else {}) | stated),
        f"{path} is not a study that can run",
    )
    if not quick:
        with_quick = f"{path} is not a study that can run with its quick settings"
        validate_as(Study, apply_overrides(data, small | stated), with_quick)
    return study


def to_yaml(study: Study) -> str:
    """A study as a file, every setting stated."""
    head = "# The study as it was run, every setting stated.\n"
    return head + yaml.safe_dump(study.frozen(), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for (key, _), value in zip(node.value, keys, strict=True):
            if keys.count(value) > 1 and value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {value!r} stands twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def _read(path: Path) -> PlainData:
    try:
        data = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise UserError(f"cannot read the study {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; expected a study in YAML") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected keys such as `study:` and `search:`")
    return data


def _mapping(value: object) -> PlainData:
    return value if isinstance(value, dict) else {}


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: expected KEY=VALUE, such as recipe.epochs=2")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {text}: {value!r} is not a YAML value") from None
