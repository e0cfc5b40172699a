"""Ledgers of one study that ran in several places, joined into one."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partialnas.runs.ledger.file import LEDGER_FILE, translate_errors
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import ImportedTrial, ProposalRow, TrialRow, to_json
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.system.files import checkpoint_path, temporary_path, weights_path
from partialnas.space.errors import UserError

_Identity = tuple[str | None, str, str, int]
"""Of a proposal: arm, network, note, and how often its ledger had the like before."""


@dataclass
class LedgerMerge:
    """Rows of several ledgers on their way into one.

    What the first ledger has keeps its numbers; what others add is numbered on.

    Attributes:
        proposals: of all ledgers; arms that several have count once.
        trials: by key, each as the ledger that is believed has it.
        owners: by key the folder of that ledger.
        measurements: of all ledgers, each once, by what is written of it.
        remarks: what a reader should know.
    """

    proposals: list[ProposalRow] = field(default_factory=list)
    trials: dict[str, TrialRow] = field(default_factory=dict)
    owners: dict[str, Path] = field(default_factory=dict)
    measurements: dict[str, Measurement] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    _known: dict[_Identity, int] = field(default_factory=dict)
    _asked: int = 0

    def add(self, folder: Path) -> None:
        """Takes up the ledger in a folder."""
        with Ledger.open(folder) as ledger:
            proposals, trials = ledger.proposals(), ledger.trials()
            self.measurements |= {each.model_dump_json(): each for each in ledger.measurements()}
        numbers: dict[int, int] = {}
        before = self._asked
        alike: Counter[tuple[str | None, str, str]] = Counter()
        for row in proposals:
            facts = (row.arm, row.digest, row.proposal_json)
            identity = (*facts, alike[facts])
            alike[facts] += 1
            if identity not in self._known:
                self._known[identity] = self._propose(row, numbers, before)
            numbers[row.number] = self._known[identity]
        for trial in trials:
            self._take(trial._replace(proposal=numbers[trial.proposal]), folder)

    def _propose(self, row: ProposalRow, numbers: dict[int, int], before: int) -> int:
        """The number of a proposal that no other ledger has had."""
        number = len(self.proposals) + 1
        note = row.proposal if row.arm is not None else self._noted(row, numbers, before)
        self.proposals.append(row._replace(number=number, proposal_json=to_json(note)))
        return number

    def _noted(self, row: ProposalRow, numbers: dict[int, int], before: int) -> dict[str, Any]:
        """What a search remembers of a proposal, with the numbers that are right here."""
        note = dict(row.proposal)
        if note.get("parent") in numbers:
            note["parent"] = numbers[note["parent"]]
        if "asked" in note:
            note["asked"] += before
            self._asked = max(self._asked, note["asked"])
        return note

    def _take(self, row: TrialRow, folder: Path) -> None:
        if row.state == "running":
            row = row._replace(state="planned")
        known = self.trials.get(row.key)
        if known is None:
            self.trials[row.key] = row._replace(number=len(self.trials) + 1)
            self.owners[row.key] = folder
            return
        believed = self._believed(known, row, folder)
        if believed is row:
            self.trials[row.key] = row._replace(number=known.number, proposal=known.proposal)
            self.owners[row.key] = folder

    def _believed(self, known: TrialRow, other: TrialRow, folder: Path) -> TrialRow:
        """Which of two rows of one trial is kept."""
        if not (known.is_final and other.is_final):
            return other if other.is_final else known
        best = min(known, other, key=lambda row: (row.state != "done", row.finished or ""))
        if _result(known) != _result(other):
            kept = folder if best is other else self.owners[known.key]
            self.remarks.append(
                f"trial {known.number} ({known.name or known.digest}, seed {known.seed}) ended "
                f"differently in {self.owners[known.key]} ({_told(known)}) and in {folder} "
                f"({_told(other)}): that of {kept} is kept"
            )
        return best

    def imported_trials(self) -> Iterator[ImportedTrial]:
        """Every trial with its curve and its learned ratios."""
        for folder in dict.fromkeys(self.owners.values()):
            with Ledger.open(folder) as ledger:
                for key, row in self.trials.items():
                    if self.owners[key] == folder:
                        yield ImportedTrial(row, ledger.curve(key), ledger.ratios(key))


def write_merged(join: LedgerMerge, meta: Mapping[str, str], out: Path) -> None:
    """Writes what was joined as a study in `out`; its ledger comes last, as a whole.

    Raises:
        UserError: there is a ledger in `out` already.
        MachineError: the disk is full or cannot be written, or a ledger is damaged.
    """
    path, draft = out / LEDGER_FILE, temporary_path(out / "merge")
    if path.exists():
        raise UserError(f"{out}: holds a ledger already; choose another folder with -o")
    with translate_errors(path):
        shutil.rmtree(draft, ignore_errors=True)
        try:
            with Ledger.create(draft, meta) as ledger:
                ledger.import_rows(
                    join.proposals, join.imported_trials(), join.measurements.values()
                )
            for key, row in join.trials.items():
                _copy(weights_path if row.is_final else checkpoint_path, key, join.owners[key], out)
            (draft / LEDGER_FILE).replace(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _copy(place: Callable[[Path, str], Path], key: str, folder: Path, out: Path) -> None:
    """Copies what a trial has left, where it has left anything."""
    source, target = place(folder, key), place(out, key)
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary_path(target))
        temporary_path(target).replace(target)


def _result(row: TrialRow) -> tuple[Any, ...]:
    return row.state, row.metrics, row.cost


def _told(row: TrialRow) -> str:
    if row.state != "done":
        return f"{row.state}: {row.reason}"
    return ", ".join(f"{name} {value:.6g}" for name, value in row.metrics.items())
