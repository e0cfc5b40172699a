"""Rows of the ledger's tables as plain values, and their conversion to SQLite columns.

Every row carries the CRC-32 of its columns, so that a damaged value is detected and never used.
JSON is read by pydantic's parser, which is several times as fast as Python's.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json

from partialnas.runs.records.record import SOURCE_KEY, RatioEpoch, TrialState
from partialnas.runs.system.environment import utc_now

FINAL_STATES: frozenset[TrialState] = frozenset({"done", "early", "failed", "timeout"})
"""States in which a trial has ended for good."""

RESULT_STATES: frozenset[TrialState] = frozenset({"done", "early"})
"""States of trials that ended with a result."""

FAILED_STATES: frozenset[TrialState] = frozenset({"failed", "timeout"})
"""States of trials that ended without a result."""

SEPARATOR = "\x1f"
"""Separator of the columns in the text that a checksum is computed from."""

TRIAL_STATES: tuple[TrialState, ...] = ("planned", "running", "done", "early", "failed", "timeout")
"""All states, in the order of a trial's life."""


class ProposalRow(NamedTuple):
    """One proposal of a sampler or an ablation design.

    Attributes:
        number: number from 1, without gaps.
        arm: name of the arm, or None for a network proposed by a search.
        digest: digest of the proposed network.
        subject_json: text that `subject` is parsed from on demand.
        proposal_json: text that `proposal` is parsed from on demand.
        created: time of the proposal, ISO 8601 in UTC.
    """

    number: int
    arm: str | None
    digest: str
    subject_json: str
    proposal_json: str
    created: str

    @property
    def subject(self) -> Any:
        """Plain data that the network is built from."""
        return from_json(self.subject_json)

    @property
    def proposal(self) -> Any:
        """Plain data that the sampler is rebuilt from."""
        return from_json(self.proposal_json)


class ProposalKey(NamedTuple):
    """A proposal without its network; see `ProposalRow`."""

    number: int
    arm: str | None
    digest: str
    proposal_json: str

    @property
    def proposal(self) -> Any:
        """Plain data that the sampler is rebuilt from."""
        return from_json(self.proposal_json)


class TrialRow(NamedTuple):
    """One trial.

    Attributes:
        number: number that names the trial, as in `results/mine:7`.
        key: identity of the trial.
        proposal: number of the first proposal that requested it.
        digest: digest of the network.
        name: name of the network.
        seed: seed of weights, data order and augmentation.
        fidelity: epochs.
        state: state of the trial.
        reason: why it stopped early, failed or timed out.
        attempts: number of starts.
        metrics: accuracies in percent, negative log-likelihoods in nats; empty until it ends.
        cost: params, macs, macs_core, activations.
        seconds: duration of the last attempt.
        device: device that it ran on.
        environment: machine, library versions and code.
        created: time of planning, ISO 8601 in UTC.
        finished: time of the record, or None until the trial ends.
    """

    number: int
    key: str
    proposal: int
    digest: str
    name: str
    seed: int
    fidelity: int
    state: TrialState
    reason: str | None
    attempts: int
    metrics: dict[str, float]
    cost: dict[str, int]
    seconds: float
    device: str
    environment: dict[str, str | int]
    created: str
    finished: str | None

    @property
    def is_final(self) -> bool:
        """Whether the trial has ended for good."""
        return self.state in FINAL_STATES

    def failure(self) -> dict[str, Any]:
        """Return what is kept of a failure once its trial is run again (see `RecordedStudy`)."""
        names = ("state", "reason", "seconds", "device", "finished")
        facts = {name: getattr(self, name) for name in names}
        source = {"source": self.environment[SOURCE_KEY]} if SOURCE_KEY in self.environment else {}
        return {**facts, "cores": self.environment.get("cores"), **source}

    def replanned(self) -> "TrialRow":
        """Return the trial as it was planned, without its result; attempts still count."""
        planned = planned_row(
            self.number, self.key, self.proposal, self.digest, self.name, self.seed, self.fidelity
        )
        return planned._replace(created=self.created, attempts=self.attempts)


class TrialResult(NamedTuple):
    """Result of a trial, as a search needs it; see `TrialRow`.

    Attributes:
        key: identity of the trial.
        proposal: number of the first proposal that requested it.
        seed: seed of weights, data order and augmentation.
        state: state of the trial.
        results: metrics and cost.
        number: number of the trial, or 0 if unknown.
    """

    key: str
    proposal: int
    seed: int
    state: TrialState
    results: dict[str, float]
    number: int = 0


class RatioWarning(NamedTuple):
    """A warning about the learned ratios of a trial.

    Attributes:
        key: identity of the trial.
        epoch: epoch of the warning, from 1.
        message: text of the warning.
    """

    key: str
    epoch: int
    message: str


class ImportedTrial(NamedTuple):
    """A trial of another ledger.

    Attributes:
        row: row of the trial.
        curve: one row per epoch.
        ratios: learned ratios by epoch.
    """

    row: TrialRow
    curve: list[dict[str, float]]
    ratios: list[RatioEpoch]


class UsageRow(NamedTuple):
    """Total time of a group of trials or measurements.

    Attributes:
        kind: final state of the trials, or `measuring`.
        on_gpu: whether they ran on a GPU.
        cores: CPU cores of the machine, or None if not recorded.
        seconds: total duration, or None if not recorded.
    """

    kind: str
    on_gpu: bool
    cores: int | None
    seconds: float | None


class EnvironmentTrials(NamedTuple):
    """The trials that ran in one environment.

    Attributes:
        environment: machine and versions; empty for trials that have not ended.
        trials: number of trials.
        first: time when the first of them was planned, ISO 8601 in UTC.
        last: time of the last record, or None before the first.
    """

    environment: dict[str, str | int]
    trials: int
    first: str
    last: str | None


def planned_row(
    number: int, key: str, proposal: int, digest: str, name: str, seed: int, fidelity: int
) -> TrialRow:
    """Return the row of a planned trial."""
    settings = (number, key, proposal, digest, name, seed, fidelity)
    progress = ("planned", None, 0)  # state, reason, attempts
    results: tuple[Any, ...] = ({}, {}, 0.0, "", {})  # from metrics to environment
    return TrialRow._make((*settings, *progress, *results, utc_now(), None))


def checksum(columns: Sequence[object]) -> int:
    """Return the CRC-32 of a row's columns."""
    return zlib.crc32(SEPARATOR.join(map(str, columns)).encode())


def to_json(data: Any) -> str:
    """Return compact, strictly valid JSON."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def trial_columns(row: TrialRow) -> tuple[object, ...]:
    """Return the SQLite columns of a trial."""
    plain = {"metrics": row.metrics, "cost": row.cost, "environment": row.environment}
    return tuple((row._asdict() | {name: to_json(data) for name, data in plain.items()}).values())


def trial_rows(rows: Iterable[Sequence[Any]]) -> list[TrialRow]:
    """Return trials from their SQLite columns; equal environments share one dictionary."""
    environments: dict[str, dict[str, str | int]] = {}
    trials = []
    for columns in rows:
        *before, metrics, cost, seconds, device, text, created, finished = columns
        if text not in environments:
            environments[text] = from_json(text)
        plain = (from_json(metrics), from_json(cost), seconds, device, environments[text])
        trials.append(TrialRow._make((*before, *plain, created, finished)))
    return trials
