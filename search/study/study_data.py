"""Read the plain data of study files, and validate them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from partialnas.runs.config.overrides import PlainData, apply_overrides, split_assignment
from partialnas.runs.datasets.registry import find_dataset
from partialnas.runs.ledger.file import LEDGER_FILE
from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.study.yaml_data import MAX_CHARACTERS, parse_yaml
from partialnas.space.errors import UserError
from partialnas.space.plugins import load_plugins
from partialnas.space.validation import quote
from partialnas.space.values import Model, validate_as

STUDY_FILE = "study.yaml"
"""Name of the study file that `run` writes beside the ledger."""

Overrides = Mapping[str, Any] | Sequence[str]
"""Settings by dotted key, or as `KEY=VALUE` with a value in YAML."""


def load_as(
    model: type[Model],
    source: str | Path | Mapping[str, Any],
    *,
    quick: bool = False,
    overrides: Overrides = (),
    plugins: Sequence[str] = (),
    base_dir: Path | None = None,
) -> Model:
    """Read a study and validate it as a model; see `load_study`.

    Args:
        model: class of studies.
        source: path of a YAML file, or its content as plain data.
        quick: whether to apply the settings under `quick:`.
        overrides: settings that are applied last.
        plugins: plug-ins in addition to those that the study names (see `space.plugins`).
        base_dir: folder to look for plug-ins in; by default that of the file.

    Raises:
        UserError: the file is missing, not YAML, or not a valid study, or a plug-in cannot be
            imported; the message lists every mistake with its path.
    """
    path = None if isinstance(source, Mapping) else Path(source)
    data = dict(source) if isinstance(source, Mapping) else _read(Path(source))
    name = f" {path}" if path else ""
    stated = _parse_overrides(overrides)
    data |= _plugins(data, plugins, base_dir or (path.parent if path else None))
    section = data.get("quick")
    small = {str(key): value for key, value in section.items()} if isinstance(section, dict) else {}
    stated_data = apply_overrides(data, (small if quick else {}) | stated)
    study = _validate(model, stated_data, f"invalid study{name}")
    if not quick:
        quick_data = apply_overrides(data, small | stated)
        _validate(model, quick_data, f"invalid study{name} with its quick settings (--quick)")
    return study


def _validate(model: type[Model], data: PlainData, what: str) -> Model:
    """Return a validated study; an unknown data set is listed with its other mistakes.

    Recorded studies are read without their plug-ins, so that the model accepts any data set.
    """
    try:
        return validate_as(model, data, what)
    except UserError as error:
        if mistake := _data_set_mistake(data.get("task")):
            raise UserError(f"{error}\n  {mistake}") from None
        raise


def _data_set_mistake(task: object) -> str:
    """Return why the data set that a task names does not exist; empty if it does."""
    dataset = task.get("data") if isinstance(task, Mapping) else task
    try:
        if isinstance(dataset, str):
            find_dataset(dataset)
    except UserError as error:
        return str(error)
    return ""


def _plugins(data: PlainData, further: Sequence[str], folder: Path | None) -> PlainData:
    """Import the plug-ins of a study; return its key `plugins` with the digest of each."""
    names = data.get("plugins") or ()
    if not isinstance(names, list | tuple | Mapping) or not all(isinstance(n, str) for n in names):
        raise UserError(f"plugins: expected a list of module names, got {quote(names)}")
    names = [*dict.fromkeys((*names, *further))]
    return {"plugins": load_plugins(names, folder)} if names else {}


def _read(path: Path) -> PlainData:
    try:
        with path.open(encoding="utf-8") as file:
            data = parse_yaml(file.read(MAX_CHARACTERS + 1))
    except OSError as error:
        raise UserError(f"cannot read the study {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; expected a study in YAML") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping with keys such as `study:` and `search:`")
    return data


def _parse_overrides(overrides: Overrides) -> PlainData:
    if isinstance(overrides, Mapping):
        return dict(overrides)
    texts = [overrides] if isinstance(overrides, str) else overrides
    return dict(map(_parse_override, texts))


def _parse_override(text: str) -> tuple[str, Any]:
    key, value = split_assignment(text)
    try:
        return key, parse_yaml(value)
    except ValueError as error:
        raise UserError(f"--set {key}: {quote(value)} is not valid YAML: {error}") from None


def base_dir_of(file: Path) -> Path:
    """Return the folder that relative paths of a study file start from.

    The file that `run` wrote beside a ledger has the paths of the original study file.
    """
    recorded = recorded_base_dir(file.parent) if file.name == STUDY_FILE else None
    return recorded or file.parent


def recorded_base_dir(folder: Path) -> Path | None:
    """Return the folder that relative paths of the study in a folder start from, if it is known."""
    if not (folder / LEDGER_FILE).exists():
        return None
    with Ledger.open(folder) as ledger:
        recorded = ledger.study.base_dir
    base_dir = folder / recorded
    return base_dir if recorded and base_dir.is_dir() else None
