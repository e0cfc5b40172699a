"""The study as its ledger records it: settings, tasks, design, later stages."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from partialnas.runs.config.design import Design, SequentialSeeds, StudyStage
from partialnas.runs.config.overrides import PlainData, apply_overrides
from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.ledger.rows import ProposalKey, ProposalRow
from partialnas.runs.records.subject import Subject, parse_subject
from partialnas.runs.records.timing_choice import FailedTiming
from partialnas.space.errors import MachineError

_AUDIT = "audit"
_REPEAT = "audit-proxy"


class Fidelity(NamedTuple):
    """A training length or reduced recipe at which a study trains networks.

    Attributes:
        rung: rung of the search, from 1; 0 for the study's own recipe, which is the last.
        name: label, such as `4 epochs`.
        stage: name of the stage in which an audit trains at this fidelity.
    """

    rung: int
    name: str
    stage: str


class RecordedCondition(NamedTuple):
    """Task, recipe and measurement protocol of a study under one condition."""

    task: Task
    recipe: Recipe
    protocol: Protocol


@dataclass(frozen=True)
class RecordedStudy:
    """A study as its ledger records it. Each property is parsed on first use.

    A property raises MachineError if the ledger has lost the metadata that it needs.

    Attributes:
        meta: metadata by key, as text; the ledger's table `meta`.
    """

    meta: Mapping[str, str]

    def _parsed(self, key: str, default: Any = None) -> Any:
        """Return the JSON value of a key, or the default if the ledger does not have the key."""
        if key not in self.meta and default is None:
            raise MachineError(
                f"ledger metadata is missing ({key}); restore the ledger from a backup"
            )
        return json.loads(self.meta[key]) if key in self.meta else default

    @property
    def name(self) -> str:
        """Name of the study; empty if the ledger does not record it."""
        return self.meta.get("study", "")

    @property
    def identity(self) -> dict[str, str]:
        """Name and digest of the study, as bundles and their results state them."""
        return {"name": self.name, "digest": self.meta.get("study_digest", "")}

    @cached_property
    def frozen(self) -> PlainData:
        """Settings of the study as plain data (not to be modified); empty if not recorded."""
        return dict(self._parsed("frozen", {}))

    @property
    def plugins(self) -> dict[str, str]:
        """Source digest of each plug-in of the study, by module name."""
        return dict(self.frozen.get("plugins", {}))

    @property
    def conditions(self) -> dict[str, PlainData]:
        """Settings by condition; empty for a study without conditions."""
        return dict(self.frozen.get("conditions", {}))

    @property
    def is_search(self) -> bool:
        """Whether the study searches, so that its named arms are baselines."""
        return self.frozen.get("search") is not None

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Task by condition; `""` is the key in a study without conditions."""
        recorded = self._parsed("task")
        tasks = {"": recorded} if isinstance(recorded.get("data"), str) else recorded
        return {name: Task.model_validate(task) for name, task in tasks.items()}

    @cached_property
    def reference(self) -> Subject:
        """Network that throughput is relative to."""
        return parse_subject(self._parsed("reference"))

    @property
    def reference_point(self) -> dict[str, float]:
        """Worst value of each objective, for the hypervolume; empty if not recorded."""
        return dict(self._parsed("reference_point", {}))

    @cached_property
    def design(self) -> Design | None:
        """Design of the ablation, or None for a study without one."""
        return Design.model_validate_json(self.meta["design"]) if "design" in self.meta else None

    @cached_property
    def stages(self) -> dict[str, StudyStage]:
        """Later stages of the study by name, oldest first."""
        stages = self._parsed("stages", {})
        return {name: StudyStage.model_validate(stage) for name, stage in stages.items()}

    @cached_property
    def sequential(self) -> SequentialSeeds | None:
        """Decision of the seed rule, or None if the study has no rule or has not decided yet."""
        text = self.meta.get("sequential")
        return SequentialSeeds.model_validate_json(text) if text else None

    @property
    def amendments(self) -> list[dict[str, Any]]:
        """Changes of the study since its start, oldest first, each with `when` and `lines`."""
        return list(self._parsed("growth", []))

    @property
    def trial_sources(self) -> list[dict[str, Any]]:
        """Sources of the study's function, oldest first, each with `when`, `digest` and `files`."""
        return list(self._parsed("trial_sources", []))

    @cached_property
    def failures(self) -> dict[str, list[dict[str, Any]]]:
        """Earlier failures of trials that were run again, by trial key and oldest first.

        Each has `state`, `reason`, `seconds`, `device`, `finished`, `cores` and, for a user
        function, the digest of its `source`.
        """
        return dict(self._parsed("failures", {}))

    @cached_property
    def failed_timings(self) -> list[FailedTiming]:
        """Timings that failed, oldest first."""
        return [*map(FailedTiming.model_validate, self._parsed("failed_timings", []))]

    @property
    def base_dir(self) -> str:
        """Folder that relative paths of the study start from, relative to the ledger's folder.

        Empty if the ledger does not record it.
        """
        return self.meta.get("base_dir", "")

    @property
    def environment(self) -> dict[str, str | int]:
        """Environment of the driver that created the ledger; empty if not recorded."""
        return dict(self._parsed("environment", {}))

    def settings(self, condition: str) -> dict[str, PlainData]:
        """Return the plain `task`, `recipe` and `measure` sections under a condition."""
        sections = {part: self.frozen.get(part) or {} for part in ("task", "recipe", "measure")}
        return apply_overrides(sections, self.conditions.get(condition, {}))

    def recipe(self, condition: str) -> Recipe:
        """Return the recipe under a condition."""
        return Recipe.model_validate(self.settings(condition)["recipe"])

    def protocol(self, condition: str) -> Protocol:
        """Return the measurement protocol under a condition."""
        return Protocol.model_validate(self.settings(condition)["measure"])

    def under(self, condition: str) -> RecordedCondition:
        """Return task, recipe and protocol under a condition (`""` in a study without any)."""
        settings = self.recipe(condition), self.protocol(condition)
        return RecordedCondition(self.tasks[condition], *settings)

    def task_identities(self) -> dict[str, Any]:
        """Return what identifies the tasks: that of the one task, or one for each condition."""
        return task_identities(self.tasks)

    def fidelities(self, condition: str) -> tuple[Fidelity, ...]:
        """Return the fidelities at which the study trains networks, cheapest first."""
        search = self.frozen.get("search") or {}
        rungs = (search.get("rungs") or ()) if not condition else ()
        epochs = int(self.settings(condition)["recipe"].get("epochs", 1))
        lower = [
            Fidelity(rung, _rung_label(settings, epochs), f"{_REPEAT}-rung-{rung}")
            for rung, settings in enumerate(rungs, start=1)
        ]
        last = f"{_REPEAT}-{condition}" if condition else _REPEAT
        return (*lower, Fidelity(0, format_epochs(epochs), last))

    def rung_settings(self, stage: str, rung: int) -> PlainData:
        """Return what a rung changes in the study, by dotted key; empty for the last rung.

        Args:
            stage: later stage of the study, which may repeat a rung; empty for the study itself.
            rung: rung of the study's search, from 1; 0 for arms, which are trained in full.
        """
        rungs = (self.frozen.get("search") or {}).get("rungs") or []
        repeated = {fidelity.stage: fidelity.rung for fidelity in self.fidelities("")}
        number = repeated.get(stage, 0) if stage else rung
        return dict(rungs[number - 1]) if 1 <= number <= len(rungs) else {}

    @property
    def longer_audit_stages(self) -> dict[str, StudyStage]:
        """Stages by name in which an audit trained networks longer than the study does."""
        return {
            name: stage
            for name, stage in self.stages.items()
            if name.partition("-")[0] == _AUDIT and not name.startswith(_REPEAT)
        }

    def longer_audit_name(self, recipe: Mapping[str, Any], condition: str) -> str:
        """Return the name of the audit stage with this recipe: a recorded one or a new one."""
        audits = self.longer_audit_stages
        for name, stage in audits.items():
            # which weights are kept does not change the training
            same = {**stage.recipe, "keep_weights": ""} == {**recipe, "keep_weights": ""}
            if stage.condition == condition and same:
                return name
        return f"{_AUDIT}-{len(audits) + 1}" if audits else _AUDIT


def task_identities(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Return what identifies tasks by condition; that of a single task if there are none."""
    identities = {name: task.identity() for name, task in tasks.items()}
    return identities.get("", identities)


def stages_meta(stages: Mapping[str, StudyStage]) -> dict[str, str]:
    """Return the metadata that record later stages."""
    plain = {name: stage.model_dump(mode="json") for name, stage in stages.items()}
    return {"stages": json.dumps(plain)}


def condition_of(proposal: ProposalRow | ProposalKey) -> str:
    """Return the condition of a proposal's trials; empty in a study without conditions."""
    return str(proposal.proposal.get("condition", "")) if proposal.arm is not None else ""


def stage_of(proposal: ProposalRow | ProposalKey) -> str:
    """Return the later stage that a proposal belongs to; empty for the study itself."""
    return str(proposal.proposal.get("stage", "")) if proposal.arm is not None else ""


def rung_of(proposal: ProposalRow | ProposalKey) -> int:
    """Return the rung that a proposed network is trained on, from 1; 1 unless promoted."""
    if proposal.arm is not None or '"rung"' not in proposal.proposal_json:
        return 1
    return int(proposal.proposal.get("rung", 1))


def _rung_label(settings: Mapping[str, Any], epochs: int) -> str:
    """Return a rung's label, such as `1 epoch, data_share 1/4`."""
    others = [f"{key.split('.')[-1]} {value}" for key, value in settings.items()]
    others = [label for label in others if not label.startswith("epochs ")]
    return ", ".join([format_epochs(int(settings.get("recipe.epochs", epochs))), *others])


def format_epochs(epochs: int) -> str:
    """Return a training length in words, such as `1 epoch`."""
    return f"{epochs} epoch{'s' * (epochs != 1)}"


SUFFIX = "-rehearsal"
"""Suffix of the name of every dry run, and of no other study."""

DRY_RUN_NOTICE = "Dry run: simulated results; nothing was trained or measured."
"""Notice in the captions and tables of a dry run."""

_LONGEST = 64


def dry_run_name(study: str) -> str:
    """Return the name of a study's dry run; a dry run keeps its name."""
    return study if is_dry_run(study) else study[: _LONGEST - len(SUFFIX)] + SUFFIX


def is_dry_run(study: str) -> bool:
    """Return whether the study of this name is a dry run."""
    return study.endswith(SUFFIX)
