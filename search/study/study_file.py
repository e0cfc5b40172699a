"""Read and write study files (YAML)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from partialnas.runs.config.overrides import PlainData
from partialnas.runs.config.protocol import Protocol
from partialnas.search.study.study import Study
from partialnas.search.study.study_data import Overrides, load_as


def load_study(
    source: str | Path | Mapping[str, Any],
    *,
    quick: bool = False,
    overrides: Overrides = (),
    plugins: Sequence[str] = (),
    base_dir: Path | None = None,
) -> Study:
    """Read and validate a study.

    Args:
        source: path of a YAML file, or its content as plain data.
        quick: whether to apply the settings under `quick:`.
        overrides: settings that are applied last.
        plugins: plug-ins in addition to those that the study names (see `space.plugins`).
        base_dir: folder to look for plug-ins in; by default that of the file.

    Raises:
        UserError: the file is missing, not YAML, or not a valid study, or a plug-in cannot be
            imported; the message lists every mistake with its path.
    """
    options: dict[str, Any] = {"quick": quick, "overrides": overrides, "plugins": plugins}
    return load_as(Study, source, **options, base_dir=base_dir)


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
        changed = load_study(source.plain(), **options, base_dir=source.base_dir)
        return changed.based_in(source.base_dir)
    if isinstance(source, Mapping):
        return load_study(source, **options)
    return Study.from_yaml(source, **options)


def to_yaml(study: Study) -> str:
    """Return the text of a study file with every setting stated.

    Only `measure.max_seconds` is left out unless it is stated, so that the file is read as the same
    study (see `StudyFields.protocol`).
    """
    head = "# The study as it was run, with every setting stated.\n"
    return head + yaml.safe_dump(study.plain(), sort_keys=False, allow_unicode=True)


def recorded_study(frozen: PlainData) -> Study:
    """Return the study that a ledger records as `StudyFields.frozen`.

    A ledger does not record whether the default of `measure.max_seconds` is stated; it is read as
    not stated. Older ledgers may reserve several GPUs for a trial, which always used one.
    """
    measure = dict(frozen.get("measure", {}))
    if measure.get("max_seconds") == Protocol().max_seconds:
        del measure["max_seconds"]
    executor = dict(frozen.get("executor", {}))
    if "gpus_per_trial" in executor:
        executor["gpus_per_trial"] = min(1.0, executor["gpus_per_trial"])
    return Study.model_validate({**frozen, "measure": measure, "executor": executor})
