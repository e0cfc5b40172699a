"""Merge the ledgers of one study that ran in several places."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partialnas.runs.ledger.file import LEDGER_FILE, check_no_log, translate_errors
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.rows import ImportedTrial, ProposalRow, TrialRow, to_json
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.system.files import checkpoint_path, temporary_path, weights_path
from partialnas.space.errors import UserError

_Identity = tuple[str | None, str, str, int]
"""Identity of a proposal: arm, digest, note, number of equal ones before it in its ledger."""


@dataclass
class LedgerMerge:
    """The merged rows of several ledgers.

    Rows of the first ledger keep their numbers; rows of the others are numbered after them.

    Attributes:
        proposals: distinct proposals of all ledgers.
        trials: trial by key, from the ledger that is preferred for it.
        owners: folder of that ledger by key.
        measurements: distinct measurements of all ledgers by their JSON.
        remarks: messages for the user.
    """

    proposals: list[ProposalRow] = field(default_factory=list)
    trials: dict[str, TrialRow] = field(default_factory=dict)
    owners: dict[str, Path] = field(default_factory=dict)
    measurements: dict[str, Measurement] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    _numbers: dict[_Identity, int] = field(default_factory=dict)
    _last_asked: int = 0

    def add(self, folder: Path) -> None:
        """Add the rows of the ledger in a folder."""
        with Ledger.open(folder) as ledger:
            ledger.check_integrity()
            proposals, trials = ledger.proposals(), ledger.trials()
            self.measurements |= {m.model_dump_json(): m for m in ledger.measurements()}
        numbers: dict[int, int] = {}
        offset = self._last_asked
        repeats: Counter[tuple[str | None, str, str]] = Counter()
        for row in proposals:
            facts = (row.arm, row.digest, row.proposal_json)
            identity = (*facts, repeats[facts])
            repeats[facts] += 1
            if identity not in self._numbers:
                self._numbers[identity] = self._add_proposal(row, numbers, offset)
            numbers[row.number] = self._numbers[identity]
        for trial in trials:
            self._add_trial(trial._replace(proposal=numbers[trial.proposal]), folder)

    def _add_proposal(self, row: ProposalRow, numbers: dict[int, int], offset: int) -> int:
        """Add a proposal that no earlier ledger has, and return its new number."""
        number = len(self.proposals) + 1
        note = row.proposal if row.arm is not None else self._renumbered(row, numbers, offset)
        self.proposals.append(row._replace(number=number, proposal_json=to_json(note)))
        return number

    def _renumbered(self, row: ProposalRow, numbers: dict[int, int], offset: int) -> dict[str, Any]:
        """Return a sampler's note of a proposal, with the numbers of the merged ledger."""
        note = dict(row.proposal)
        if note.get("parent") in numbers:
            note["parent"] = numbers[note["parent"]]
        if "asked" in note:
            note["asked"] += offset
            self._last_asked = max(self._last_asked, note["asked"])
        return note

    def _add_trial(self, row: TrialRow, folder: Path) -> None:
        if row.state == "running":
            row = row._replace(state="planned")
        earlier = self.trials.get(row.key)
        if earlier is None:
            self.trials[row.key] = row._replace(number=len(self.trials) + 1)
            self.owners[row.key] = folder
        elif self._preferred(earlier, row, folder) is row:
            self.trials[row.key] = row._replace(number=earlier.number, proposal=earlier.proposal)
            self.owners[row.key] = folder

    def _preferred(self, earlier: TrialRow, other: TrialRow, folder: Path) -> TrialRow:
        """Return the row to keep of one trial in two ledgers: finished, done, then earliest."""
        if not (earlier.is_final and other.is_final):
            return other if other.is_final else earlier
        best = min(earlier, other, key=lambda row: (row.state != "done", row.finished or ""))
        if _result(earlier) != _result(other):
            owner = self.owners[earlier.key]
            kept = folder if best is other else owner
            self.remarks.append(
                f"trial {earlier.number} ({earlier.name or earlier.digest}, seed {earlier.seed}) "
                f"has different results in {owner} ({_result_text(earlier)}) and in {folder} "
                f"({_result_text(other)}); the result of {kept} is kept"
            )
        return best

    def imported_trials(self) -> Iterator[ImportedTrial]:
        """Yield every trial with its curve and its learned ratios."""
        for folder in dict.fromkeys(self.owners.values()):
            with Ledger.open(folder) as ledger:
                for key, row in self.trials.items():
                    if self.owners[key] == folder:
                        yield ImportedTrial(row, ledger.curve(key), ledger.ratios(key))


def write_merged(merged: LedgerMerge, meta: Mapping[str, str], out: Path) -> None:
    """Write the merged study into `out`: weights and checkpoints first, then the ledger atomically.

    Raises:
        UserError: `out` already holds a ledger.
        MachineError: the disk is full or cannot be written, or a ledger is damaged.
    """
    path, draft = out / LEDGER_FILE, temporary_path(out / "merge")
    if path.exists():
        raise UserError(f"{out}: already holds a ledger; choose another folder with -o")
    check_no_log(path)
    with translate_errors(path):
        shutil.rmtree(draft, ignore_errors=True)
        try:
            with Ledger.create(draft, meta) as ledger:
                trials = merged.imported_trials()
                ledger.import_rows(merged.proposals, trials, merged.measurements.values())
            for key, row in merged.trials.items():
                place = weights_path if row.is_final else checkpoint_path
                _copy(place, key, merged.owners[key], out)
            (draft / LEDGER_FILE).replace(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _copy(place: Callable[[Path, str], Path], key: str, folder: Path, out: Path) -> None:
    """Copy a trial's weights or checkpoint, if there are any."""
    source, target = place(folder, key), place(out, key)
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary_path(target))
        temporary_path(target).replace(target)


def _result(row: TrialRow) -> tuple[Any, ...]:
    return row.state, row.metrics, row.cost


def _result_text(row: TrialRow) -> str:
    if row.state != "done":
        return f"{row.state}: {row.reason}"
    return ", ".join(f"{name} {value:.6g}" for name, value in row.metrics.items())
