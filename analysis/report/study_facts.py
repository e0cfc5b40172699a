"""What a ledger knows of its study, as a reader of the report wants it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from partialnas.analysis.formats.caption_sentences import hide_path
from partialnas.analysis.formats.text_table import one_line
from partialnas.runs.config.design import Design, StudyStage
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import TRIAL_STATES, EnvironmentTrials
from partialnas.runs.ledger.study_meta import RecordedStudy, is_dry_run
from partialnas.runs.ledger.usage import ComputeUsage, DeviceShare, compute_usage

Plain = dict[str, Any]

_ON_DISK = "data"
_NOT_SHOWN = ("study", "question", "quick", "schema")
_LONGEST_TEXT = 240
_NOTHING: tuple[Any, ...] = (None, "", [], {})


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """A study as its ledger remembers it.

    Attributes:
        name: of the study.
        question: that it asks; empty where it asks none.
        frozen: its settings.
        recorded: the study as its ledger records it.
        design: of an ablation.
        stages: later ones, by name.
        states: how many trials are in each state.
        started_at: when its first trial was planned, ISO 8601 in UTC; empty before.
        finished_at: when the last record came.
        environments: distinct ones of its trials, with how many each has, the most frequent first.
        usage: hours.
        replays: proposals that named a network again.
        timed_networks: networks that were timed, each once however often it was.
    """

    name: str
    question: str
    frozen: Plain
    recorded: RecordedStudy
    design: Design | None
    stages: Mapping[str, StudyStage]
    states: Mapping[str, int]
    started_at: str
    finished_at: str
    environments: Sequence[tuple[Plain, int]]
    usage: ComputeUsage
    replays: int
    timed_networks: int

    @property
    def is_search(self) -> bool:
        """Whether it searches, so that named arms are baselines."""
        return self.frozen.get("search") is not None

    @property
    def unfinished(self) -> int:
        """Trials that are planned or running."""
        return sum(self.states.get(state, 0) for state in ("planned", "running"))

    @property
    def is_dry_run(self) -> bool:
        """Whether its results are made up, to try the study out."""
        return is_dry_run(self.name)


def study_facts(ledger: Ledger, name: str) -> StudyFacts:
    """What an open ledger knows of its study.

    Args:
        ledger: of the study.
        name: of a study whose ledger does not tell it.
    """
    study = ledger.study
    ran, counts = ledger.environments(), ledger.state_counts()
    return StudyFacts(
        name=one_line(study.name or name),
        question=one_line(str(study.frozen.get("question") or "")),
        frozen=study.frozen,
        recorded=study,
        design=study.design,
        stages=study.stages,
        states={state: counts[state] for state in TRIAL_STATES if counts[state]},
        started_at=min((each.first for each in ran), default=""),
        finished_at=max((each.last for each in ran if each.last), default=""),
        environments=_environments(ran, study),
        usage=compute_usage(ledger.usage_rows(), DeviceShare.from_study(study.frozen)),
        replays=ledger.count_repeated_proposals(),
        timed_networks=ledger.count_measured_networks(),
    )


def _environments(
    ran: Sequence[EnvironmentTrials], study: RecordedStudy
) -> list[tuple[Plain, int]]:
    """Those of the trials; before the first has ended that of the driver."""
    known: list[tuple[Plain, int]] = [(each.environment, each.trials) for each in ran]
    told = [pair for pair in known if pair[0]]
    return told or ([(study.environment, 0)] if study.environment else [])


def format_date(stamp: str) -> str:
    """`2026-01-31T12:05:00.123+00:00` as `2026-01-31 12:05 UTC`; nothing of nothing."""
    return f"{stamp[:10]} {stamp[11:16]} UTC" if stamp else ""


def settings_yaml(frozen: Plain) -> str:
    """A study's settings as YAML, data sets on disk without the path to them."""
    told = {key: value for key, value in frozen.items() if key not in _NOT_SHOWN}
    text: str = yaml.safe_dump(_without_paths(told), sort_keys=False, allow_unicode=True, width=96)
    return text


def _without_paths(data: Any, key: str = "") -> Any:
    if isinstance(data, dict):
        return {name: _without_paths(value, str(name)) for name, value in data.items()}
    if isinstance(data, list):
        return [_without_paths(value) for value in data]
    if isinstance(data, str) and key.rpartition(".")[2] == _ON_DISK:
        return hide_path(data)
    return data


def describe_study(facts: StudyFacts) -> Iterator[tuple[str, str]]:
    """The design in words: what each line is of, and what it says."""
    frozen = facts.frozen
    task, recipe = frozen.get("task") or {}, frozen.get("recipe") or {}
    yield "Task", _listed(_without_paths(task, "task"))
    yield "Training", _listed({k: recipe[k] for k in _RECIPE if k in recipe})
    yield "Objectives", _objectives(frozen.get("objectives") or {})
    yield "Limits", _listed(frozen.get("limits") or {})
    yield "Seeds", _listed(frozen.get("seeds", ""))
    yield "Search", _searched(frozen.get("search") or {})
    yield from _ablation(facts.design)
    yield "Conditions", ", ".join(map(str, frozen.get("conditions") or {}))
    yield "Measuring", _listed(frozen.get("measure") or "")
    yield "Budget", _listed(frozen.get("budget") or "")
    for stage in facts.stages.values():
        yield f"Stage {stage.name}", f"{stage.chosen}; seeds {_listed([*stage.seeds])}"
    for grown in facts.recorded.amendments:
        yield f"Grown on {format_date(grown['when'])}", "; ".join(map(str, grown["lines"]))


_RECIPE = (
    *("epochs", "batch_size", "optimizer", "lr", "weight_decay", "schedule", "warmup"),
    *("label_smoothing", "mixup", "cutmix", "ema", "precision"),
)


def _searched(search: Plain) -> str:
    """How a search proposes; of its rungs only where it has some."""
    idle = () if search.get("rungs") else ("promote", "scheme")
    return _listed({key: value for key, value in search.items() if key not in idle})


def _ablation(design: Design | None) -> Iterator[tuple[str, str]]:
    if design is None:
        return
    yield "Design", f"{design.kind}, {len(design.arms)} arms"
    for factor in design.factors:
        levels = ", ".join(factor.levels)
        yield f"Factor {factor.name}", f"{levels}; baseline {factor.baseline}"
    if design.match != "none":
        yield "Matched", f"{design.match}, within {100 * design.tolerance:g} %"
    yield "Compared within", ", ".join(design.within)
    yield "Margins of equivalence", _listed(design.margin)
    yield "Aliases", "; ".join(design.aliases)


def _objectives(objectives: Mapping[str, str]) -> str:
    words = {"min": "lower", "max": "higher"}
    return ", ".join(f"{key} ({words.get(way, way)} is better)" for key, way in objectives.items())


def _listed(value: Any) -> str:
    """Settings on one line: `epochs 4, lr 0.01`; those without a value are left out."""
    if isinstance(value, Mapping):
        parts = (f"{key} {_listed(each)}" for key, each in value.items() if each not in _NOTHING)
        return ", ".join(parts)
    if isinstance(value, list | tuple):
        return ", ".join(map(_listed, value))
    return str(value)


def shorten(text: str, longest: int = _LONGEST_TEXT) -> str:
    """A text on one line, its end left out where it is very long."""
    line = one_line(text)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
