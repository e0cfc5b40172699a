"""Facts of a recorded study, in the words of the report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from partialnas.analysis.formats.caption_sentences import hide_path
from partialnas.analysis.formats.text_table import one_line
from partialnas.analysis.frames.settings import used_settings
from partialnas.runs.config.design import Design
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import TRIAL_STATES, EnvironmentTrials
from partialnas.runs.ledger.study_meta import RecordedStudy, is_dry_run
from partialnas.runs.ledger.usage import ComputeUsage, DeviceShare, compute_usage

Plain = dict[str, Any]

_PATH_KEY = "data"
_HIDDEN_KEYS = ("study", "question", "quick", "schema")
_MAX_LENGTH = 240
_EMPTY: tuple[Any, ...] = (None, "", [], {})


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """Facts of a recorded study.

    Attributes:
        name: name of the study.
        question: question that the study asks, or empty.
        recorded: the study as its ledger records it.
        states: number of trials in each state.
        started_at: when the first trial was planned, ISO 8601 in UTC, or empty.
        finished_at: when the last trial finished, ISO 8601 in UTC, or empty.
        environments: distinct environments and their numbers of trials, the most frequent first.
        usage: compute used.
        replays: number of proposals that repeated a network.
        timed_networks: number of networks with a measurement.
    """

    name: str
    question: str
    recorded: RecordedStudy
    states: Mapping[str, int]
    started_at: str
    finished_at: str
    environments: Sequence[tuple[Plain, int]]
    usage: ComputeUsage
    replays: int
    timed_networks: int

    @property
    def is_search(self) -> bool:
        """Whether the study is a search, whose named arms are baselines."""
        return self.recorded.frozen.get("search") is not None

    @property
    def calls_function(self) -> bool:
        """Whether a user function replaces training."""
        return bool(self.recorded.frozen.get("trial"))

    @property
    def unfinished(self) -> int:
        """Number of trials that are planned or running."""
        return sum(self.states.get(state, 0) for state in ("planned", "running"))

    @property
    def is_dry_run(self) -> bool:
        """Whether its results are simulated."""
        return is_dry_run(self.name)


def study_facts(ledger: Ledger, name: str) -> StudyFacts:
    """Return the facts of a study from its open ledger.

    Args:
        ledger: the study's ledger.
        name: name of the study if the ledger has none.
    """
    study = ledger.study
    environments, counts = ledger.environments(), ledger.state_counts()
    return StudyFacts(
        name=one_line(study.name or name),
        question=one_line(str(study.frozen.get("question") or "")),
        recorded=study,
        states={state: counts[state] for state in TRIAL_STATES if counts[state]},
        started_at=min((item.first for item in environments), default=""),
        finished_at=max((item.last for item in environments if item.last), default=""),
        environments=_environments(environments, study),
        usage=compute_usage(ledger.usage_rows(), DeviceShare.from_study(study.frozen)),
        replays=ledger.count_repeated_proposals(),
        timed_networks=ledger.count_measured_networks(),
    )


def _environments(
    items: Sequence[EnvironmentTrials], study: RecordedStudy
) -> list[tuple[Plain, int]]:
    """Return the environments of the trials, or the driver's if no trial has finished."""
    pairs = [(item.environment, item.trials) for item in items if item.environment]
    return pairs or ([(study.environment, 0)] if study.environment else [])


def format_date(stamp: str) -> str:
    """Return `2026-01-31T12:05:00.123+00:00` as `2026-01-31 12:05 UTC`; empty if empty."""
    return f"{stamp[:10]} {stamp[11:16]} UTC" if stamp else ""


def settings_yaml(frozen: Plain) -> str:
    """Return a study's settings as YAML, without unused ones and paths of data sets."""
    shown = {key: value for key, value in frozen.items() if key not in _HIDDEN_KEYS}
    if "recipe" in shown:
        shown["recipe"] = used_settings(frozen, shown["recipe"])
    text: str = yaml.safe_dump(_without_paths(shown), sort_keys=False, allow_unicode=True, width=96)
    return text


def _without_paths(data: Any, key: str = "") -> Any:
    if isinstance(data, dict):
        return {name: _without_paths(value, str(name)) for name, value in data.items()}
    if isinstance(data, list):
        return [_without_paths(value) for value in data]
    if isinstance(data, str) and key.rpartition(".")[2] == _PATH_KEY:
        return hide_path(data)
    return data


def describe_study(facts: StudyFacts) -> Iterator[tuple[str, str]]:
    """Yield the labels and texts that describe a study's design."""
    frozen = facts.recorded.frozen
    task, recipe = frozen.get("task") or {}, frozen.get("recipe") or {}
    yield "Task", _format(_without_paths(task, "task"))
    if function := frozen.get("trial"):
        yield "Evaluation", f"{function} with epochs = {recipe.get('epochs')}, instead of training"
    else:
        yield "Training", _format({k: recipe[k] for k in _RECIPE if k in recipe})
    yield "Objectives", _objectives(frozen.get("objectives") or {})
    yield "Limits", _format(frozen.get("limits") or {})
    yield "Seeds", _format(frozen.get("seeds", ""))
    yield "Search", _format_search(frozen.get("search") or {})
    yield from _ablation(facts.recorded.design)
    yield "Conditions", ", ".join(map(str, frozen.get("conditions") or {}))
    yield "Measuring", "" if frozen.get("trial") else _format(frozen.get("measure") or "")
    yield "Budget", _format(frozen.get("budget") or "")
    for stage in facts.recorded.stages.values():
        yield f"Stage {stage.name}", f"{stage.chosen}; seeds {_format([*stage.seeds])}"
    for amendment in facts.recorded.amendments:
        date = format_date(amendment["when"])
        yield f"Amended {date}", "; ".join(map(str, amendment["lines"]))


_RECIPE = (
    *("epochs", "batch_size", "optimizer", "lr", "weight_decay", "schedule", "warmup"),
    *("label_smoothing", "mixup", "cutmix", "ema", "precision"),
)


def _format_search(search: Plain) -> str:
    """Return the settings of a search that have an effect."""
    unused = () if search.get("rungs") else ("promote", "scheme")
    return _format({key: value for key, value in search.items() if key not in unused})


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
    yield "Equivalence margins", _format(design.margin)
    yield "Aliases", "; ".join(design.aliases)


def _objectives(objectives: Mapping[str, str]) -> str:
    words = {"min": "lower", "max": "higher"}
    return ", ".join(f"{key} ({words.get(to, to)} is better)" for key, to in objectives.items())


def _format(value: Any) -> str:
    """Return settings on one line, such as `epochs 4, lr 0.01`; empty ones are left out."""
    if isinstance(value, Mapping):
        parts = (f"{key} {_format(item)}" for key, item in value.items() if item not in _EMPTY)
        return ", ".join(parts)
    if isinstance(value, list | tuple):
        return ", ".join(map(_format, value))
    return str(value)


def shorten(text: str, max_length: int = _MAX_LENGTH) -> str:
    """Return a text on one line, truncated if it is too long."""
    line = one_line(text)
    return line if len(line) <= max_length else f"{line[: max_length - 1]}…"
