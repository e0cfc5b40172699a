"""A study as an Optuna storage, and optuna-dashboard on it."""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from partialnas.space.errors import MachineError, UserError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from partialnas.runs.ledger.ledger import Ledger

_STATES = {
    "planned": "WAITING",
    "running": "RUNNING",
    "done": "COMPLETE",
    "early": "PRUNED",
    "failed": "FAIL",
    "timeout": "FAIL",
}
"""What Optuna calls the states of a ledger."""

_DIRECTIONS: dict[str, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}

_HOST = "127.0.0.1"


def serve_dashboard(folder: Path, port: int) -> None:
    """Show a study in optuna-dashboard, on this machine alone, until Ctrl-C.

    Raises:
        UserError: optuna-dashboard is not installed, or there is no ledger in the folder.
        MachineError: the port is taken.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise UserError(
            "the dashboard needs optuna-dashboard: pip install 'partialnas[dashboard]'; "
            "--export-only FILE writes a storage without it"
        ) from None
    from optuna.storages import InMemoryStorage

    storage = InMemoryStorage()
    count = _fill(folder, storage)
    print(f"{count} trials at http://{_HOST}:{port}/ (Ctrl-C ends it)", flush=True)
    try:
        run_server(storage, host=_HOST, port=port)
    except OSError as error:
        raise MachineError(f"port {port}: {error.strerror}; choose another --port") from error


def export_journal(folder: Path, file: Path) -> int:
    """Write a study as an Optuna journal; how many trials it has.

    Raises:
        UserError: the file is there already, or there is no ledger in the folder.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if file.exists():
        raise UserError(f"{file}: is there already; a journal is only added to: name a new file")
    if not file.parent.is_dir():
        raise UserError(f"{file.parent}: there is no such folder")
    return _fill(folder, JournalStorage(JournalFileBackend(str(file))))


def _fill(folder: Path, storage: "BaseStorage") -> int:
    """Adds a study of Optuna with all trials of a ledger to a storage."""
    import optuna
    from optuna.exceptions import ExperimentalWarning

    from partialnas.runs.ledger.ledger import Ledger

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Ledger.open(folder) as ledger:
        copy = _Copy.of(folder, ledger)
        directions = [_DIRECTIONS[each] for each in copy.goals.values()]
        name = ledger.study.name or folder.name
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([*copy.goals])
        trials = [*copy.trials(ledger)]
    study.add_trials(trials)
    return len(trials)


@dataclass(frozen=True)
class _Copy:
    """What turns trials of a ledger into Optuna's.

    Attributes:
        goals: the objectives, and the direction of each.
        figures: by key of each trial what it reached in them.
        choices: by number of each proposal what was chosen for it.
    """

    goals: Mapping[str, str]
    figures: Mapping[str, list[float]]
    choices: Mapping[int, Mapping[str, Any]]

    @classmethod
    def of(cls, folder: Path, ledger: "Ledger") -> "_Copy":
        from partialnas.analysis.frames.load import load_trials

        trials = load_trials(folder, stage=None)
        frame, goals = trials.frame, trials.objectives
        values = frame.reindex(columns=[*goals]).astype("float64").to_numpy().tolist()
        design = ledger.study.design
        choices = {}
        for row in ledger.proposals():
            arm = design.arm(row.arm) if design and row.arm else None
            note = row.proposal
            chosen = note.get("params") or note.get("point") or {}
            choices[row.number] = (
                {"arm": row.arm, **(arm.levels if arm else {})}
                if row.arm
                else ({key: _plain(value) for key, value in chosen.items()})
            )
        return cls(goals, dict(zip(frame["key"], values, strict=True)), choices)

    def trials(self, ledger: "Ledger") -> Iterator["FrozenTrial"]:
        """Every trial, in the order of planning."""
        from optuna.distributions import CategoricalDistribution
        from optuna.trial import TrialState, create_trial

        labels: dict[str, dict[Any, None]] = {}
        for chosen in self.choices.values():
            for name, value in chosen.items():
                labels.setdefault(name, {})[value] = None
        kinds = {name: CategoricalDistribution([*known]) for name, known in labels.items()}
        for row in ledger.trials():
            state, values, reason = _STATES[row.state], self.figures.get(row.key), row.reason
            if state == "COMPLETE" and not (values and all(map(math.isfinite, values))):
                state, reason = "FAIL", "an objective is not known: it was not measured"
            chosen = self.choices[row.proposal]
            told = {"trial": row.number, "network": row.name, "seed": row.seed, "state": row.state}
            yield create_trial(
                state=TrialState[state],
                values=values if state == "COMPLETE" else None,
                params=dict(chosen),
                distributions={name: kinds[name] for name in chosen},
                user_attrs=told | ({"reason": reason} if reason else {}),
                intermediate_values=self._curve(ledger, row.key),
            )

    def _curve(self, ledger: "Ledger", key: str) -> dict[int, float]:
        """The first objective that was told after each epoch."""
        rows = ledger.curve(key)
        name = next((name for name in self.goals if rows and name in rows[0]), None)
        return {int(row["epoch"]): row[name] for row in rows if name in row} if name else {}


def _plain(value: Any) -> Any:
    """A choice as Optuna takes it."""
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
