"""What a ledger says. Takes no torch."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from partialnas.runs.ledger import column_store as volumes
from partialnas.runs.ledger.file import translate_errors
from partialnas.runs.ledger.rows import (
    TRIAL_STATES,
    EnvironmentTrials,
    ProposalKey,
    ProposalRow,
    RatioWarning,
    TrialResult,
    TrialRow,
    UsageRow,
    trial_rows,
)
from partialnas.runs.ledger.schema import USAGE_QUERY, read_rows
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.runs.records.measurement import Columns, Measurement, MeasurementTable
from partialnas.runs.records.record import RatioEpoch, TrialState
from partialnas.space.errors import UserError


class LedgerReader:
    """Reads the records of the study in one folder; see `Ledger`.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._study = RecordedStudy({})

    @property
    def meta(self) -> dict[str, str]:
        """Facts of the study: its name, frozen text, versions, reference."""
        return dict(self._read("meta"))

    @property
    def study(self) -> RecordedStudy:
        """The study as the ledger records it now."""
        meta = self.meta
        if meta != self._study.meta:
            self._study = RecordedStudy(meta)
        return self._study

    def proposals(self) -> list[ProposalRow]:
        """Every answer of the source, in order."""
        return [ProposalRow(*columns) for columns in self._read("proposals", "ORDER BY number")]

    def proposal_keys(self) -> list[ProposalKey]:
        """Every answer of the source without its network, in order."""
        names = ("number", "arm", "digest", "proposal")
        told = self._columns(volumes.PROPOSALS, *names)
        return [*map(ProposalKey, *(told[name] for name in names))]

    def subject(self, proposal: int) -> Any:
        """Plain data that the network of the proposal of this number is built from."""
        ((_, _, _, text, *_),) = self._read("proposals", "WHERE number = ?", proposal)
        return json.loads(text)

    def arms(self) -> list[ProposalRow]:
        """The proposals that are arms, in order."""
        rows = self._read("proposals", "WHERE arm IS NOT NULL ORDER BY number")
        return [ProposalRow(*columns) for columns in rows]

    def verify_trials(self) -> None:
        """Reads every trial, so that a damaged one is told."""
        self._read("trials")

    def count_measured_networks(self) -> int:
        """How many networks have been measured."""
        return len({*self._columns(volumes.MEASUREMENTS, "digest")["digest"]})

    def data_version(self) -> int:
        """A number that changes whenever somebody else has written to the ledger."""
        return self._one("PRAGMA data_version")

    def count_repeated_proposals(self) -> int:
        """How many proposals named a network that had been proposed before.

        Trained otherwise, in a later stage, on a higher rung, or for another seed alone, it is
        another proposal.
        """
        digests = self._columns(volumes.PROPOSALS, "digest")["digest"]
        if len({*digests}) == len(digests):
            return 0
        apart = ("condition", "recipe", "stage", "seed", "rung")
        asked = ", ".join(f"json_extract(proposal, '$.{key}')" for key in apart)
        distinct = f"count(DISTINCT json_array(digest, {asked}))"
        several = "SELECT digest FROM proposals GROUP BY digest HAVING count(*) > 1"
        return self._one(f"SELECT count(*) - {distinct} FROM proposals WHERE digest IN ({several})")

    def trials(self) -> list[TrialRow]:
        """Every trial, in the order of planning."""
        return self._trials("ORDER BY number")

    def trial_columns(self, *names: str) -> Columns:
        """These columns of every trial, in the order of planning.

        Args:
            names: of columns; for `metrics` and `cost` there is one of each of theirs, such as
                `metrics.val_nll`, None for a trial that has none.
        """
        return self._columns(volumes.TRIALS, *names)

    def trial_results(self) -> list[TrialResult]:
        """What came of every trial, in the order of planning; of one that runs nothing yet."""
        plain = ("key", "proposal", "seed", "state")
        told = self.trial_columns(*plain, "metrics", "cost")
        results = volumes.results_by_row(told) or [{} for _ in told["key"]]
        return [*map(TrialResult, *(told[name] for name in plain), results)]

    def trial(self, number: int) -> TrialRow:
        """The trial of this number.

        Raises:
            UserError: there is none.
        """
        rows = self._trials("WHERE number = ?", number)
        if not rows:
            last = self._one("SELECT count(*) FROM trials")
            raise UserError(f"{self.path.parent}: has no trial {number} (it has {last} trials)")
        return rows[0]

    def curve(self, key: str) -> list[dict[str, float]]:
        """One row an epoch of the trial with this key; none before its end."""
        rows = self._read("curves", "WHERE key = ? ORDER BY epoch", key)
        return [json.loads(text) for _, _, text in rows]

    def ratios(self, key: str) -> list[RatioEpoch]:
        """The learned ratios of the trial with this key, epoch by epoch; none before its end."""
        rows = self._read("ratios", "WHERE key = ? ORDER BY epoch", key)
        return [RatioEpoch.model_validate_json(text) for _, _, text in rows]

    def learned_ratio_keys(self) -> set[str]:
        """Keys of the trials with learned ratios that have ended."""
        return {key for key, *_ in self._read("ratios", "GROUP BY key")}

    def last_ratios(self, key: str) -> RatioEpoch | None:
        """The learned ratios of the trial with this key after its last epoch, if it has any."""
        rows = self._read("ratios", "WHERE key = ? ORDER BY epoch DESC LIMIT 1", key)
        return RatioEpoch.model_validate_json(rows[0][2]) if rows else None

    def warnings(self) -> list[RatioWarning]:
        """Every warning that trials with learned ratios met, by trial and epoch."""
        rows = self._read(
            "ratios", "WHERE json_array_length(row, '$.warnings') > 0 ORDER BY key, epoch"
        )
        return [
            RatioWarning(key, epoch, sentence)
            for key, epoch, text in rows
            for sentence in json.loads(text)["warnings"]
        ]

    def frozen_digests(self) -> dict[str, str]:
        """By trial with learned ratios the digest of the static network that it has become."""
        rows = self._read("ratios", "WHERE json_extract(row, '$.frozen') IS NOT NULL")
        return {key: json.loads(text)["frozen"] for key, _, text in rows}

    def measurements(self) -> list[Measurement]:
        """Every measurement, in order."""
        return [*self.measurement_table()]

    def measurement_table(self) -> MeasurementTable:
        """Every measurement, in order, column by column."""
        return MeasurementTable(self._columns(volumes.MEASUREMENTS, *Measurement.model_fields))

    def usage_rows(self) -> list[UsageRow]:
        """What finished trials and measurements have taken, summed over those that are alike."""
        with translate_errors(self.path):
            found = self._connection.execute(USAGE_QUERY).fetchall()
        return [*(UsageRow(*row) for row in found), *self._measuring()]

    def _measuring(self) -> Iterator[UsageRow]:
        wanted = ("device_kind", "environment", "seconds")
        told = self._columns(volumes.MEASUREMENTS, *wanted)
        seconds: dict[tuple[bool, int | None], list[float]] = {}
        for kind, environment, took in zip(*(told[name] for name in wanted), strict=True):
            alike = seconds.setdefault((kind == "cuda", environment.get("cores")), [])
            if took is not None:
                alike.append(took)
        for (on_gpu, cores), each in seconds.items():
            yield UsageRow("measuring", on_gpu, cores, sum(each) if each else None)

    def environments(self) -> list[EnvironmentTrials]:
        """In which environments trials ran, the one of most trials first."""
        query = (
            "SELECT environment, count(*), min(created), max(finished) FROM trials "
            "GROUP BY environment ORDER BY count(*) DESC, environment"
        )
        with translate_errors(self.path):
            found = self._connection.execute(query).fetchall()
        return [EnvironmentTrials(json.loads(text), *rest) for text, *rest in found]

    def state_counts(self) -> dict[TrialState, int]:
        """How many trials are in each state."""
        with translate_errors(self.path):
            found = self._connection.execute("SELECT state, count(*) FROM trials GROUP BY state")
            counts = dict(found.fetchall())
        return {state: counts.get(state, 0) for state in TRIAL_STATES}

    def _read(self, table: str, where: str = "", *parameters: object) -> list[tuple[Any, ...]]:
        with translate_errors(self.path):
            return read_rows(self._connection, table, where, *parameters)

    def _columns(self, source: volumes.ArchivedTable, *names: str) -> Columns:
        with translate_errors(self.path):
            return volumes.read_columns(self._connection, source, names)

    def _one(self, query: str) -> int:
        with translate_errors(self.path):
            return int(self._connection.execute(query).fetchone()[0])

    def _trials(self, where: str, *parameters: object) -> list[TrialRow]:
        return trial_rows(self._read("trials", where, *parameters))

    def _trial(self, key: str) -> TrialRow:
        rows = self._trials("WHERE key = ?", key)
        if not rows:
            raise KeyError(key)
        return rows[0]
