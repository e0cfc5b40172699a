"""The verb `new`: write a study file from flags, or from answers on a terminal."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from partialnas.commands.terminal import make_console, print_files, print_lines
from partialnas.runs.config.recipe import RECIPES
from partialnas.runs.datasets.overview import data_name, inspect_data
from partialnas.runs.datasets.task import describe_data
from partialnas.runs.system.files import check_new_path, write_new_files
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.study.study_file import load_study
from partialnas.search.study.template import (
    DEFAULT_OBJECTIVES,
    DEFAULT_SEEDS,
    DEFAULT_TRIALS,
    KINDS,
    Kind,
    StudyChoices,
    parse_objectives,
    study_files,
)
from partialnas.search.study.yaml_data import parse_yaml
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest

_FUNCTION_DATA = "digits"


def new_study(name: str, flags: Mapping[str, Any]) -> None:
    """Write `NAME.yaml` into the current folder, and the function of a study of that kind.

    What the flags leave open is asked if this process has a terminal; otherwise it has a default.

    Args:
        name: name of the study.
        flags: `kind`, `data`, `resolution`, `epochs`, `trials`, `seeds`, `objectives` and
            `question`; None where a flag is not given.

    Raises:
        UserError: A file exists, or the study would not be valid; nothing is written then.
    """
    check_new_path(Path(f"{name}.yaml"))  # before anything is asked
    choices = _choose(name, flags, is_asked=sys.stdin is not None and sys.stdin.isatty())
    texts = study_files(choices)
    data = parse_yaml(texts[f"{name}.yaml"])
    resolve_study(load_study(data, base_dir=Path()), Path())
    resolve_study(load_study(data, quick=True, base_dir=Path()), Path())
    write_new_files({Path(file): text for file, text in texts.items()})
    console = make_console()
    print_files(console, map(Path, texts))
    print_lines(console, f"next: partialnas check {name}", f"      partialnas run {name} --quick")


def _choose(name: str, flags: Mapping[str, Any], *, is_asked: bool) -> StudyChoices:
    """Return the choices for a study: flags, answers or defaults."""

    def choose(key: str, question: str, default: Any) -> Any:
        value = flags.get(key)
        if value is None and is_asked:
            value = typer.prompt(question, default=default, err=True)
        return default if value is None else value

    kind = _check_kind(choose("kind", f"Kind of study ({', '.join(KINDS)})", "search"))
    _check_flags(kind, flags)
    data, resolution, remark = _FUNCTION_DATA, 8, ""
    if kind != "function":
        data = data_name(choose("data", "Data set (name, or path of an image folder)", "mnist5k"))
        default, remark = _default_resolution(data, flags.get("resolution"))
        resolution = choose("resolution", "Resolution in pixels", default)
        remark = remark if resolution == default else ""
    epochs = choose("epochs", "Epochs of a training", RECIPES["short"].epochs)
    seeds = choose("seeds", "Seeds of each network", DEFAULT_SEEDS[kind])
    default_trials = max(DEFAULT_TRIALS, 2 * seeds)
    trials = (
        default_trials
        if kind == "ablation"
        else choose("trials", "Trainings in all", default_trials)
    )
    text = choose("objectives", "Objectives, comma-separated", DEFAULT_OBJECTIVES[kind])
    return StudyChoices(
        name, kind, data, resolution, epochs, trials, seeds, parse_objectives(text, kind),
        flags.get("question") or "", remark,
    )  # fmt: skip


def _check_kind(text: str) -> Kind:
    for kind in KINDS:
        if text == kind:
            return kind
    raise UserError(f"--kind: there is no kind {quote(text)} of studies; {suggest(text, KINDS)}")


def _check_flags(kind: Kind, flags: Mapping[str, Any]) -> None:
    """Check that the flags concern this kind of study."""
    if kind == "ablation" and flags.get("trials") is not None:
        raise UserError("--trials: an ablation trains each arm with all its seeds; use --seeds")
    for key in ("data", "resolution"):
        if kind == "function" and flags.get(key) is not None:
            raise UserError(f"--{key}: the function of the study reads its data; edit it there")


def _default_resolution(data: str, stated: int | None) -> tuple[int | None, str]:
    """Return the resolution of a data set, or one that suits its images, with a remark on it."""
    facts, _ = describe_data(data)
    if stated is not None or facts.resolution is not None:
        return facts.resolution, ""
    return inspect_data(data).task.resolution, "the images differ in size; this is a suggestion"
