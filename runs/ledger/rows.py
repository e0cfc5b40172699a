"""Rows of the ledger: what its tables hold, as plain values and as sealed columns of SQLite.

Every row carries a seal, the CRC-32 of its columns. A reader compares it with what it reads, so a
damaged figure is told and never used. Rows are read by pydantic's parser, several times as fast as
Python's: a long search has a hundred thousand.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json

from partialnas.runs.records.record import RatioEpoch, TrialState
from partialnas.runs.system.environment import utc_now

FINAL_STATES: frozenset[TrialState] = frozenset({"done", "early", "failed", "timeout"})
"""States that a trial never leaves."""

SEPARATOR = "\x1f"
"""Stands between the columns that a seal is of."""

TRIAL_STATES: tuple[TrialState, ...] = ("planned", "running", "done", "early", "failed", "timeout")
"""All states, in the order of a trial's life."""


class ProposalRow(NamedTuple):
    """One answer of the source.

    Attributes:
        number: 1 for the first answer, without gaps.
        arm: of an ablation; None in a search.
        digest: of the network proposed.
        subject_json: what `subject` is read from, when it is asked for: most never are.
        proposal_json: what `proposal` is read from.
        created: when, ISO 8601 in UTC.
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
        """Plain data that the source is rebuilt from."""
        return from_json(self.proposal_json)


class ProposalKey(NamedTuple):
    """A proposal without the network; see `ProposalRow`."""

    number: int
    arm: str | None
    digest: str
    proposal_json: str

    @property
    def proposal(self) -> Any:
        """Plain data that the source is rebuilt from."""
        return from_json(self.proposal_json)


class TrialRow(NamedTuple):
    """What is known of one trial.

    Attributes:
        number: names the trial, as in `results/mine:7`.
        key: of the trial.
        proposal: number of the proposal that first asked for it.
        digest: of the network.
        name: of the network.
        seed: of weights, data order and augmentation.
        fidelity: epochs.
        state: of the trial.
        reason: why it ended early, failed or ran out of time.
        attempts: how often it was started.
        metrics: accuracies in percent, negative log-likelihoods in nats; empty before the end.
        cost: params, macs, macs_core, activations.
        seconds: that the last attempt took.
        device: that it ran on.
        environment: machine, library versions and code.
        created: when it was planned, ISO 8601 in UTC.
        finished: when its record came.
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
        """Whether the trial has its record."""
        return self.state in FINAL_STATES


class TrialResult(NamedTuple):
    """What came of a trial, as far as a search goes on from it; see `TrialRow`.

    Attributes:
        key: of the trial.
        proposal: number of the proposal that first asked for it.
        seed: of weights, data order and augmentation.
        state: of the trial.
        results: its metrics and cost.
    """

    key: str
    proposal: int
    seed: int
    state: TrialState
    results: dict[str, float]


class RatioWarning(NamedTuple):
    """A sign of failure that a trial with learned ratios met.

    Attributes:
        key: of the trial.
        epoch: in which it was seen, from 1.
        message: what was seen.
    """

    key: str
    epoch: int
    message: str


class ImportedTrial(NamedTuple):
    """A trial as another ledger knows it, with all that belongs to it.

    Attributes:
        row: of the trial.
        curve: one row an epoch.
        ratios: what it learned of its ratios, epoch by epoch.
    """

    row: TrialRow
    curve: list[dict[str, float]]
    ratios: list[RatioEpoch]


class UsageRow(NamedTuple):
    """What some of a study's trials or measurements have taken together.

    Attributes:
        kind: the state that the trials ended in, or `measuring`.
        on_gpu: whether they ran on a GPU.
        cores: of their machine; None where the record does not tell.
        seconds: all of theirs; None where none of the records tells.
    """

    kind: str
    on_gpu: bool
    cores: int | None
    seconds: float | None


class EnvironmentTrials(NamedTuple):
    """The trials that ran in one environment.

    Attributes:
        environment: machine and versions; empty of trials that have not ended.
        trials: how many.
        first: when the first of them was planned, ISO 8601 in UTC.
        last: when the last record of theirs came; None before the first.
    """

    environment: dict[str, str | int]
    trials: int
    first: str
    last: str | None


def planned_row(
    number: int, key: str, proposal: int, digest: str, name: str, seed: int, fidelity: int
) -> TrialRow:
    """A trial that nothing is known of yet but what it is."""
    return TrialRow(
        number=number,
        key=key,
        proposal=proposal,
        digest=digest,
        name=name,
        seed=seed,
        fidelity=fidelity,
        state="planned",
        reason=None,
        attempts=0,
        metrics={},
        cost={},
        seconds=0.0,
        device="",
        environment={},
        created=utc_now(),
        finished=None,
    )


def checksum(columns: Sequence[object]) -> int:
    """The CRC-32 of a row's columns: any single damaged byte changes it."""
    return zlib.crc32(SEPARATOR.join(map(str, columns)).encode())


def to_json(data: Any) -> str:
    """Compact JSON that every reader takes."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def trial_columns(row: TrialRow) -> tuple[object, ...]:
    """The columns of a trial."""
    plain = {"metrics": row.metrics, "cost": row.cost, "environment": row.environment}
    return tuple((row._asdict() | {name: to_json(data) for name, data in plain.items()}).values())


def trial_rows(rows: Iterable[Sequence[Any]]) -> list[TrialRow]:
    """Trials from their columns; those of one environment share it."""
    environments: dict[str, dict[str, str | int]] = {}
    found = []
    for columns in rows:
        *before, metrics, cost, seconds, device, told, created, finished = columns
        if told not in environments:
            environments[told] = from_json(told)
        plain = (from_json(metrics), from_json(cost), seconds, device, environments[told])
        found.append(TrialRow._make((*before, *plain, created, finished)))
    return found
