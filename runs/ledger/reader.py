"""Read-only access to a ledger."""

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from partialnas.runs.ledger import column_store
from partialnas.runs.ledger import rows as row_types
from partialnas.runs.ledger.file import translate_errors
from partialnas.runs.ledger.schema import USAGE_QUERY, read_rows
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.runs.records.measurement import Columns, Measurement, MeasurementTable
from partialnas.runs.records.record import RatioEpoch, TrialState
from partialnas.space.errors import UserError
from partialnas.space.plugins import load_recorded_plugins

_LOG = logging.getLogger(__name__)


class LedgerReader:
    """Reader of the ledger of one study; see `Ledger`.

    Attributes:
        path: path of the file.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._study = RecordedStudy({})

    @property
    def meta(self) -> dict[str, str]:
        """Metadata of the study by key, as text; `study` parses them."""
        return dict(self._read("meta"))

    @property
    def study(self) -> RecordedStudy:
        """The study as the ledger records it now; its plug-ins are imported."""
        meta = self.meta
        if meta != self._study.meta:
            self._study = RecordedStudy(meta)
            for message in load_recorded_plugins(self._study.plugins):
                _LOG.warning("%s: %s", self._study.name, message)
        return self._study

    def proposals(self) -> list[row_types.ProposalRow]:
        """Return every proposal, in order."""
        rows = self._read("proposals", "ORDER BY number")
        return [row_types.ProposalRow(*columns) for columns in rows]

    def proposal_keys(self) -> list[row_types.ProposalKey]:
        """Return every proposal without its network, in order."""
        names = ("number", "arm", "digest", "proposal")
        columns = self._columns(column_store.PROPOSALS, *names)
        return [*map(row_types.ProposalKey, *(columns[name] for name in names))]

    def subject(self, proposal: int) -> Any:
        """Return the plain data of the network of a proposal, by the proposal's number."""
        ((_, _, _, text, *_),) = self._read("proposals", "WHERE number = ?", proposal)
        return json.loads(text)

    def arms(self) -> list[row_types.ProposalRow]:
        """Return the proposals that are arms, in order."""
        rows = self._read("proposals", "WHERE arm IS NOT NULL ORDER BY number")
        return [row_types.ProposalRow(*columns) for columns in rows]

    def verify_trials(self) -> None:
        """Verify the checksums of all trials.

        Raises:
            MachineError: a trial is damaged.
        """
        self._read("trials")

    def count_measured_networks(self) -> int:
        """Return the number of distinct networks with a measurement."""
        return len({*self._columns(column_store.MEASUREMENTS, "digest")["digest"]})

    def data_version(self) -> int:
        """Return a number that changes whenever another connection has written to the ledger."""
        return self._one("PRAGMA data_version")

    def count_repeated_proposals(self) -> int:
        """Return the number of proposals that repeat an earlier one.

        The same network under another condition or recipe, in another stage, on another rung or
        for a single further seed is not a repetition.
        """
        digests = self._columns(column_store.PROPOSALS, "digest")["digest"]
        if len({*digests}) == len(digests):
            return 0
        keys = ("condition", "recipe", "stage", "seed", "rung")
        values = ", ".join(f"json_extract(proposal, '$.{key}')" for key in keys)
        distinct = f"count(DISTINCT json_array(digest, {values}))"
        repeats = "SELECT digest FROM proposals GROUP BY digest HAVING count(*) > 1"
        return self._one(f"SELECT count(*) - {distinct} FROM proposals WHERE digest IN ({repeats})")

    def trials(self) -> list[row_types.TrialRow]:
        """Return every trial, in the order of planning."""
        return self._trials("ORDER BY number")

    def trial_columns(self, *names: str) -> Columns:
        """Return columns of all trials, in the order of planning.

        Args:
            names: column names; `metrics` and `cost` stand for one column per key, such as
                `metrics.val_nll`, with None for trials without this key.
        """
        return self._columns(column_store.TRIALS, *names)

    def trial_results(self) -> list[row_types.TrialResult]:
        """Return the results of all trials, in the order of planning; empty while one runs."""
        plain = ("key", "proposal", "seed", "state")
        columns = self.trial_columns(*plain, "metrics", "cost")
        results = column_store.results_by_row(columns) or [{} for _ in columns["key"]]
        return [*map(row_types.TrialResult, *(columns[name] for name in plain), results)]

    def trial(self, number: int) -> row_types.TrialRow:
        """Return the trial with this number.

        Raises:
            UserError: there is no such trial.
        """
        rows = self._trials("WHERE number = ?", number)
        if not rows:
            count = self._one("SELECT count(*) FROM trials")
            raise UserError(f"{self.path.parent}: has no trial {number} (it has {count} trials)")
        return rows[0]

    def curve(self, key: str) -> list[dict[str, float]]:
        """Return the curve of the trial with this key, one row per epoch; empty until it ends."""
        rows = self._read("curves", "WHERE key = ? ORDER BY epoch", key)
        return [json.loads(text) for _, _, text in rows]

    def ratios(self, key: str) -> list[RatioEpoch]:
        """Return the learned ratios of the trial with this key by epoch; empty until it ends."""
        rows = self._read("ratios", "WHERE key = ? ORDER BY epoch", key)
        return [RatioEpoch.model_validate_json(text) for _, _, text in rows]

    def learned_ratio_keys(self) -> set[str]:
        """Return the keys of finished trials with learned ratios."""
        return {key for key, *_ in self._read("ratios", "GROUP BY key")}

    def last_ratios(self, key: str) -> RatioEpoch | None:
        """Return the learned ratios of a trial after its last epoch, or None if it has none."""
        rows = self._read("ratios", "WHERE key = ? ORDER BY epoch DESC LIMIT 1", key)
        return RatioEpoch.model_validate_json(rows[0][2]) if rows else None

    def warnings(self) -> list[row_types.RatioWarning]:
        """Return all warnings about learned ratios, by trial and epoch."""
        where = "WHERE json_array_length(row, '$.warnings') > 0 ORDER BY key, epoch"
        rows = self._read("ratios", where)
        return [
            row_types.RatioWarning(key, epoch, sentence)
            for key, epoch, text in rows
            for sentence in json.loads(text)["warnings"]
        ]

    def frozen_digests(self) -> dict[str, str]:
        """Return the digest of the network that learned ratios froze to, by trial key."""
        rows = self._read("ratios", "WHERE json_extract(row, '$.frozen') IS NOT NULL")
        return {key: json.loads(text)["frozen"] for key, _, text in rows}

    def measurements(self) -> list[Measurement]:
        """Return every measurement, in order."""
        return [*self.measurement_table()]

    def measurement_table(self) -> MeasurementTable:
        """Return every measurement, in order, by column."""
        return MeasurementTable(self._columns(column_store.MEASUREMENTS, *Measurement.model_fields))

    def usage_rows(self) -> list[row_types.UsageRow]:
        """Return the time of finished trials and measurements, summed by kind and machine."""
        trials = (row_types.UsageRow(*row) for row in self._query(USAGE_QUERY))
        return [*trials, *self._measuring()]

    def _measuring(self) -> Iterator[row_types.UsageRow]:
        names = ("device_kind", "environment", "seconds")
        columns = self._columns(column_store.MEASUREMENTS, *names)
        durations: dict[tuple[bool, int | None], list[float]] = {}
        for kind, environment, seconds in zip(*(columns[name] for name in names), strict=True):
            group = durations.setdefault((kind == "cuda", environment.get("cores")), [])
            if seconds is not None:
                group.append(seconds)
        for (on_gpu, cores), group in durations.items():
            yield row_types.UsageRow("measuring", on_gpu, cores, sum(group) if group else None)

    def environments(self) -> list[row_types.EnvironmentTrials]:
        """Return the environments that trials ran in, the most frequent first."""
        query = (
            "SELECT environment, count(*), min(created), max(finished) FROM trials "
            "GROUP BY environment ORDER BY count(*) DESC, environment"
        )
        rows = self._query(query)
        return [row_types.EnvironmentTrials(json.loads(text), *rest) for text, *rest in rows]

    def state_counts(self) -> dict[TrialState, int]:
        """Return the number of trials by state."""
        counts = dict(self._query("SELECT state, count(*) FROM trials GROUP BY state"))
        return {state: counts.get(state, 0) for state in row_types.TRIAL_STATES}

    def _read(self, table: str, where: str = "", *parameters: object) -> list[tuple[Any, ...]]:
        with translate_errors(self.path):
            return read_rows(self._connection, table, where, *parameters)

    def _columns(self, source: column_store.ArchivedTable, *names: str) -> Columns:
        with translate_errors(self.path):
            return column_store.read_columns(self._connection, source, names)

    def _query(self, query: str) -> list[Any]:
        with translate_errors(self.path):
            return self._connection.execute(query).fetchall()

    def _one(self, query: str) -> int:
        return int(self._query(query)[0][0])

    def _trials(self, where: str, *parameters: object) -> list[row_types.TrialRow]:
        return row_types.trial_rows(self._read("trials", where, *parameters))

    def _trial(self, key: str) -> row_types.TrialRow:
        rows = self._trials("WHERE key = ?", key)
        if not rows:
            raise KeyError(key)
        return rows[0]
