"""Load a study from a file, a name or plain data, with the folder that its paths start from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from partialnas.runs.ledger.file import LEDGER_FILE
from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.study.shipped import find_study
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import Overrides, load_study

STUDY_FILE = "study.yaml"
"""Name of the study file that `run` writes beside the ledger."""


def load_source(
    source: str | Path | Mapping[str, Any] | Study,
    *,
    quick: bool = False,
    overrides: Overrides = (),
    plugins: Sequence[str] = (),
) -> Study:
    """Return a validated study whose `base_dir` is set.

    Args:
        source: path of a YAML file, name of a study that partialnas contains, content of a file as
            plain data, or a study.
        quick: whether to apply the settings under `quick:`.
        overrides: settings that replace those of the study, as `KEY=VALUE` or by key.
        plugins: plug-ins in addition to those that the study names.

    Raises:
        UserError: there is no such study, or it is invalid; the message lists every mistake.
        MachineError: the file lies beside a ledger that is damaged.
    """
    options: dict[str, Any] = {"quick": quick, "overrides": overrides, "plugins": plugins}
    if isinstance(source, Study):
        if not (quick or overrides or plugins):
            return source
        changed = load_study(source.frozen(), **options, base_dir=source.base_dir)
        return changed.based_in(source.base_dir)
    if isinstance(source, Mapping):
        return load_study(source, **options)
    file = find_study(source)
    base_dir = _recorded_base_dir(file.path) or file.path.parent
    study = load_study(file.path, **options, base_dir=base_dir)
    # a study of partialnas is run from the user's folder, but its function lies beside it
    return study.based_in(Path() if file.is_shipped and study.trial is None else base_dir)


def _recorded_base_dir(file: Path) -> Path | None:
    """Return where relative paths start in the file that `run` wrote beside a ledger.

    It has the paths of the original study file. Other files have none recorded.
    """
    return recorded_base_dir(file.parent) if file.name == STUDY_FILE else None


def recorded_base_dir(folder: Path) -> Path | None:
    """Return the folder that relative paths of the study in a folder start from, if it is known."""
    if not (folder / LEDGER_FILE).exists():
        return None
    with Ledger.open(folder) as ledger:
        recorded = ledger.study.base_dir
    base_dir = folder / recorded
    return base_dir if recorded and base_dir.is_dir() else None
