"""Read-only access to a ledger."""

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from partialnas.runs.ledger import checked_rows, column_store
from partialnas.runs.ledger import rows as row_types
from partialnas.runs.ledger.file import translate_errors
from partialnas.runs.ledger.full_check import check_everything
from partialnas.runs.ledger.study_meta import RecordedStudy
from partialnas.runs.records.measurement import Columns, Measurement, MeasurementTable
from partialnas.runs.records.record import RatioEpoch, TrialState
from partialnas.space.errors import UserError
from partialnas.space.plugins import load_recorded_plugins

_LOG = logging.getLogger(__name__)


class LedgerReader:
    """Reader of the ledger of one study; see `Ledger`.

    The methods raise MachineError if what they would return is damaged or incomplete.

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
        return dict(self._table("meta"))

    @property
    def study(self) -> RecordedStudy:
        """The study as the ledger records it now; its plug-ins are imported."""
        meta = self.meta
        if meta != self._study.meta:
            self._study = RecordedStudy(meta)
            base_dir = self.path.parent / self._study.base_dir if self._study.base_dir else None
            for message in load_recorded_plugins(self._study.plugins, base_dir):
                _LOG.warning("%s: %s", self._study.name, message)
        return self._study

    def proposals(self) -> list[row_types.ProposalRow]:
        """Return every proposal, in order."""
        return [row_types.ProposalRow(*columns) for columns in self._table("proposals")]

    def proposal_columns(self, *names: str) -> Columns:
        """Return columns of all proposals, in order: `number`, `arm`, `digest` or `proposal`."""
        return self._columns(column_store.PROPOSALS, *names)

    def proposal_keys(self) -> list[row_types.ProposalKey]:
        """Return every proposal without its network, in order."""
        names = ("number", "arm", "digest", "proposal")
        columns = self.proposal_columns(*names)
        return [*map(row_types.ProposalKey, *(columns[name] for name in names))]

    def subject(self, proposal: int) -> Any:
        """Return the plain data of the network of a proposal, by the proposal's number."""
        _, _, _, text, *_ = self._row("proposals", proposal)
        return from_json(text)

    def arms(self) -> list[row_types.ProposalRow]:
        """Return the proposals that are arms, in order."""
        columns = self._columns(column_store.PROPOSALS, "number", "arm")
        arms = zip(columns["number"], columns["arm"], strict=True)
        rows = [self._row("proposals", number) for number, arm in arms if arm is not None]
        return [row_types.ProposalRow(*columns) for columns in rows]

    def verify_trials(self) -> None:
        """Verify the checksums of all trials.

        Raises:
            MachineError: a trial is damaged.
        """
        self._table("trials")

    def check_integrity(self) -> None:
        """Check every page, reference and row of the ledger. Takes seconds for a long ledger.

        Raises:
            MachineError: the ledger is damaged.
        """
        with translate_errors(self.path):
            check_everything(self._connection)

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
        counts = Counter(digests)
        if len(counts) == len(digests):
            return 0
        notes = self._columns(column_store.PROPOSALS, "proposal")["proposal"]
        keys = ("condition", "recipe", "stage", "seed", "rung")
        repeated = [
            (digest, *map(from_json(note).get, keys))
            for digest, note in zip(digests, notes, strict=True)
            if counts[digest] > 1
        ]
        return len(repeated) - len({*map(row_types.to_json, repeated)})

    def trials(self) -> list[row_types.TrialRow]:
        """Return every trial, in the order of planning."""
        return row_types.trial_rows(self._table("trials"))

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
        columns = self.trial_columns(*plain, "number", "metrics", "cost")
        results = column_store.results_by_row(columns) or [{} for _ in columns["key"]]
        values = *(columns[name] for name in plain), results, columns["number"]
        return [*map(row_types.TrialResult, *values)]

    def trial(self, number: int) -> row_types.TrialRow:
        """Return the trial with this number.

        Raises:
            UserError: there is no such trial.
        """
        rows = self._trials("WHERE number = ?", number)
        if not rows:
            count = len(self.trial_columns("number")["number"])
            if 1 <= number <= count:
                self._row("trials", number)
            raise UserError(f"{self.path.parent}: has no trial {number} (it has {count} trials)")
        return rows[0]

    def curve(self, key: str) -> list[dict[str, float]]:
        """Return the curve of the trial with this key, one row per epoch; empty until it ends."""
        return [json.loads(text) for _, _, text in self._epochs("curves", key)]

    def curves(self) -> list[tuple[str, dict[str, float]]]:
        """Return every row of all curves with the key of its trial, by key and epoch."""
        rows = self._table("curves")
        points = from_json(f"[{','.join(text for _, _, text in rows)}]")
        return [(key, point) for (key, _, _), point in zip(rows, points, strict=True)]

    def ratios(self, key: str) -> list[RatioEpoch]:
        """Return the learned ratios of the trial with this key by epoch; empty until it ends."""
        rows = self._epochs("ratios", key)
        return [RatioEpoch.model_validate_json(text) for _, _, text in rows]

    def learned_ratio_keys(self) -> set[str]:
        """Return the keys of finished trials with learned ratios."""
        return {key for key, *_ in self._table("ratios")}

    def last_ratios(self, key: str) -> RatioEpoch | None:
        """Return the learned ratios of a trial after its last epoch, or None if it has none."""
        rows = self._epochs("ratios", key)
        return RatioEpoch.model_validate_json(rows[-1][2]) if rows else None

    def warnings(self) -> list[row_types.RatioWarning]:
        """Return all warnings about learned ratios, by trial and epoch."""
        return [
            row_types.RatioWarning(key, epoch, sentence)
            for key, epoch, text in self._ratio_rows(without='"warnings":[]')
            for sentence in from_json(text)["warnings"]
        ]

    def frozen_digests(self) -> dict[str, str]:
        """Return the digest of the network that learned ratios froze to, by trial key."""
        rows = self._ratio_rows(without='"frozen":null')
        frozen = {key: from_json(text).get("frozen") for key, _, text in rows}
        return {key: digest for key, digest in frozen.items() if digest is not None}

    def measurements(self) -> list[Measurement]:
        """Return every measurement, in order."""
        return [*self.measurement_table()]

    def measurement_table(self, *, without: Collection[str] = ()) -> MeasurementTable:
        """Return every measurement, in order, by column.

        Args:
            without: fields that are not read; single measurements cannot be taken from the table
                then.
        """
        names = [name for name in Measurement.model_fields if name not in without]
        return MeasurementTable(self._columns(column_store.MEASUREMENTS, *names))

    def usage_rows(self) -> list[row_types.UsageRow]:
        """Return the time of finished trials and measurements, summed by kind and machine."""
        return [*self._training(), *self._measuring()]

    def _training(self) -> Iterator[row_types.UsageRow]:
        names = ("state", "device", "environment", "seconds")
        columns = self.trial_columns(*names)
        seconds: Counter[tuple[str, bool, int | None]] = Counter()
        for state, device, environment, duration in zip(*columns.values(), strict=True):
            if state in row_types.FINAL_STATES:
                seconds[state, device.startswith("cuda"), environment.get("cores")] += duration
        for past in chain.from_iterable(self.study.failures.values()):
            on_gpu = past["device"].startswith("cuda")
            seconds[past["state"], on_gpu, past["cores"]] += past["seconds"]
        return (row_types.UsageRow(*group, total) for group, total in seconds.items())

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
        columns = self.trial_columns("environment", "created", "finished")
        environments, created, finished = columns.values()
        by_object: dict[int, list[int]] = {}
        for place, environment in enumerate(environments):
            by_object.setdefault(id(environment), []).append(place)
        by_text: dict[str, list[int]] = {}
        for places in by_object.values():
            by_text.setdefault(row_types.to_json(environments[places[0]]), []).extend(places)
        return [
            row_types.EnvironmentTrials(
                environments[places[0]],
                len(places),
                min(map(created.__getitem__, places)),
                max(filter(None, map(finished.__getitem__, places)), default=None),
            )
            for _, places in sorted(by_text.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        ]

    def state_counts(self) -> dict[TrialState, int]:
        """Return the number of trials by state."""
        counts = Counter(self.trial_columns("state")["state"])
        return {state: counts[state] for state in row_types.TRIAL_STATES}

    def _table(self, table: str) -> list[tuple[Any, ...]]:
        with translate_errors(self.path):
            return [*checked_rows.read_table(self._connection, table)]

    def _ratio_rows(self, without: str) -> list[tuple[Any, ...]]:
        """Return all rows of learned ratios but those whose JSON contains the text `without`."""
        with translate_errors(self.path):
            rows = checked_rows.read_table(self._connection, "ratios")
            return [row for row in rows if without not in row[-1]]

    def _row(self, table: str, number: int) -> tuple[Any, ...]:
        """Return the row of a number that the table should have."""
        with translate_errors(self.path):
            rows = checked_rows.read_rows(self._connection, table, "WHERE number = ?", number)
            if not rows:
                raise checked_rows.damage(f"row {number} of {table} is missing")
        return rows[0]

    def _epochs(self, table: str, key: str) -> list[tuple[Any, ...]]:
        with translate_errors(self.path):
            return checked_rows.read_trial_rows(self._connection, table, key)

    def _columns(self, source: column_store.ArchivedTable, *names: str) -> Columns:
        with translate_errors(self.path):
            return column_store.read_columns(self._connection, source, names)

    def _one(self, query: str) -> int:
        with translate_errors(self.path):
            return int(self._connection.execute(query).fetchone()[0])

    def _trials(self, where: str, *parameters: object) -> list[row_types.TrialRow]:
        with translate_errors(self.path):
            rows = checked_rows.read_rows(self._connection, "trials", where, *parameters)
        return row_types.trial_rows(rows)

    def _trial(self, key: str) -> row_types.TrialRow:
        rows = self._trials("WHERE key = ?", key)
        if not rows:
            raise KeyError(key)
        return rows[0]
