"""Checks of a study whose sections are valid, but may contradict each other."""

import math
from collections.abc import Callable, Iterator, Mapping

from pydantic import ValidationError

from partialnas.search.samplers.registry import SAMPLERS
from partialnas.search.study import sections
from partialnas.search.study.fidelity import rung_errors
from partialnas.search.study.study_fields import (
    LIMITED,
    MEASURED_LIMITS,
    OBJECTIVES,
    TRAINED,
    StudyFields,
)
from partialnas.space.validation import quote, suggest, validation_messages
from partialnas.space.values import digest


def measures_nothing(section: object) -> bool:
    """Return whether the section `measure` of a study, as written, turns measuring off."""
    return section == "none" or (isinstance(section, Mapping) and section.get("when") == "never")


def _check_work(study: StudyFields) -> Iterator[str]:
    """Yield what a study lacks to train anything."""
    search = study.search
    if search is None and not study.arms and study.ablation is None:
        yield (
            "nothing to run: add `search: {}` with the axes of a `space`, `ablation` or `arms` to "
            "the study"
        )
    if search is not None and study.ablation is not None:
        yield "ablation: cannot be combined with `search`; write two studies"
    if search is not None and (study.space is None or not study.space.axes):
        yield "search: needs at least one axis under `space.axes`"
    if search is not None and study.budget == sections.Budget():
        yield "budget: a search needs `trials`, `hours` or `device_hours`"
    if isinstance(study.seeds, sections.SeedRule) and (search is not None or study.conditions):
        yield "seeds: with `search` or `conditions`, expected a number, got a rule"
    if study.conditions and search is not None:
        yield "conditions: cannot be combined with `search`; only arms can use them"


def _check_rungs(study: StudyFields) -> Iterator[str]:
    if study.recipe.width_share != 1:
        yield "recipe: width_share is only allowed in search.rungs"
    elif study.search is not None and study.search.rungs:
        trained = study.search, study.recipe, study.task
        messages = rung_errors(*trained, has_user_function=study.trial is not None)
        yield from (f"search: {message}" for message in messages)


def _check_measuring(study: StudyFields) -> Iterator[str]:
    """Yield the contradictions between what a study selects by and when it measures."""
    measured = [
        f"{section}: {name}"
        for section in ("objectives", "limits")
        for name in getattr(study, section)
        if name in MEASURED_LIMITS and study.trial is None
    ]
    if study.measure.when == "never":
        yield from (
            f"{name} is measured, but the study measures nothing; remove it, or `measure: none`"
            for name in measured
        )
        if study.ablation is not None and study.ablation.match == "latency":
            yield "ablation.match: latency is measured, but the study measures nothing"
    uses_results = study.search is not None and (
        SAMPLERS[study.search.sampler].uses_results or study.search.rungs
    )
    if study.measure.when == "after" and uses_results and study.needs_measurement:
        name = next(n for n in (*study.objectives, *study.limits) if n in MEASURED_LIMITS)
        yield (
            f"measure.when: the search uses {name}, so it must be measured during the search; "
            "expected auto or during, got after"
        )


def _check_conditions(study: StudyFields) -> Iterator[str]:
    trained: dict[str, str] = {}
    for name in study.conditions:
        try:
            plain = study.under(name).frozen()
        except ValidationError as error:
            yield from validation_messages(error, f"conditions.{name}", type(study))
            continue
        other = trained.setdefault(digest([plain[k] for k in ("task", "recipe")]), name)
        if other != name:
            yield f"conditions.{name}: has the same task and recipe as {other}"
    factors = study.ablation.factors if study.ablation else {}
    varied = {
        key: name
        for name, factor in factors.items()
        for settings in factor.values.values()
        for key in settings
    }
    for name, settings in study.conditions.items():
        for key in settings.keys() & varied.keys():
            yield f"conditions.{name}: factor {varied[key]} already varies {key}"


def _check_quantities(study: StudyFields) -> Iterator[str]:
    """Yield the mistakes in the names of objectives, limits, margins and deviations."""
    if not study.objectives:
        yield "objectives: expected at least one, such as {val_nll: min}"
    for section, names in (("objectives", OBJECTIVES), ("limits", LIMITED)):
        for name in getattr(study, section):
            if name.startswith("test_"):
                yield (
                    f"{section}: {name}: the test split is never used to choose; use a val_ metric"
                )
            elif study.trial is not None and not (study.times_networks and name in MEASURED_LIMITS):
                continue
            elif name not in names:
                hint = suggest(name, names)
                if section == "limits" and not hint.endswith("?"):
                    hint += "; space.constraints bounds params and macs"
                yield f"{section}: unknown quantity {quote(name)}; {hint}"
            elif name == "peak_memory_bytes" and study.measure.device == "cpu":
                yield f"{section}: {name} needs a GPU, but measure.device is cpu"
    if study.ablation is None or study.trial is not None:
        return  # a user function may return other quantities
    for section in ("margin", "deviation"):
        for key in getattr(study.ablation, section):
            if key not in TRAINED:
                yield (
                    f"ablation.{section}: {quote(key)} is not a trained quantity; "
                    f"{suggest(key, TRAINED)}"
                )


def _check_reference_point(study: StudyFields) -> Iterator[str]:
    for name, value in study.reference_point.items():
        if name not in study.objectives:
            yield f"reference_point: {name} is not an objective; {suggest(name, study.objectives)}"
        if not math.isfinite(value):
            yield f"reference_point: {name}: expected a finite number, got {value}"


CHECKS: dict[Callable[[StudyFields], Iterator[str]], tuple[str, ...]] = {
    _check_work: ("search", "arms", "ablation", "space", "budget", "seeds", "conditions"),
    _check_rungs: ("recipe", "search", "task", "trial"),
    _check_measuring: ("measure", "search", "objectives", "limits", "trial", "ablation"),
    _check_conditions: ("conditions", "task", "recipe", "measure", "ablation", "study"),
    _check_quantities: ("objectives", "limits", "trial", "measure", "ablation"),
    _check_reference_point: ("reference_point", "objectives"),
}
"""Checks of a study whose sections are valid each, with the sections that they read."""
