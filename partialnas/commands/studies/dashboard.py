"""The verb `dashboard`: copy a study into an Optuna storage, and serve optuna-dashboard."""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from partialnas.analysis.frames.load import load_trials
from partialnas.commands.terminal import make_console, print_lines
from partialnas.installation import install_command
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.system.files import check_output_path
from partialnas.space.errors import MachineError, UserError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_STATES = {
    **{"planned": "WAITING", "running": "RUNNING", "done": "COMPLETE"},
    **{"early": "PRUNED", "failed": "FAIL", "timeout": "FAIL"},
}
"""Optuna's state for each state of a trial."""

_DIRECTIONS: dict[str, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}

_HOST = "127.0.0.1"


def serve_dashboard(folder: Path, port: int) -> None:
    """Serve a study in optuna-dashboard, to this machine only, until Ctrl-C.

    Raises:
        UserError: optuna-dashboard is not installed, or the folder has no ledger.
        MachineError: the port is in use.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise UserError(
            f"optuna-dashboard is not installed: run {install_command('dashboard')}; "
            "--export-only FILE writes an Optuna journal without it"
        ) from None
    from optuna.storages import InMemoryStorage

    storage = InMemoryStorage()
    count = _copy_study(folder, storage)
    print(f"{count} trials at http://{_HOST}:{port}/ (stop with Ctrl-C)", flush=True)
    try:
        run_server(storage, host=_HOST, port=port)
    except OSError as error:
        raise MachineError(f"port {port}: {error.strerror}; choose another --port") from error


def export_journal(folder: Path, file: Path) -> None:
    """Write a study as an Optuna journal.

    Raises:
        UserError: the file exists, its folder does not, or the study has no ledger.
        MachineError: the folder is not writable.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if file.exists():
        raise UserError(f"{file} exists already: choose another file for the journal")
    if not file.parent.is_dir():
        raise UserError(f"no such folder: {file.parent}")
    check_output_path(file)
    count = _copy_study(folder, JournalStorage(JournalFileBackend(str(file))))
    print_lines(make_console(), f"wrote {count} trials to {file}")


def _copy_study(folder: Path, storage: "BaseStorage") -> int:
    """Add all trials of a ledger to a storage as a study of Optuna, and return their number."""
    import optuna
    from optuna.exceptions import ExperimentalWarning

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Ledger.open(folder) as ledger:
        converter = _TrialConverter.of(folder, ledger)
        directions = [_DIRECTIONS[direction] for direction in converter.objectives.values()]
        name = ledger.study.name or folder.name
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([*converter.objectives])
        trials = [*converter.trials(ledger)]
    study.add_trials(trials)
    return len(trials)


@dataclass(frozen=True)
class _TrialConverter:
    """Conversion of a ledger's trials into trials of Optuna.

    Attributes:
        objectives: objectives and their directions.
        values: objective values by trial key.
        choices: parameters by proposal number.
    """

    objectives: Mapping[str, str]
    values: Mapping[str, list[float]]
    choices: Mapping[int, Mapping[str, Any]]

    @classmethod
    def of(cls, folder: Path, ledger: Ledger) -> "_TrialConverter":
        trials = load_trials(folder, stage=None)
        frame, objectives = trials.frame, trials.objectives
        values = frame.reindex(columns=[*objectives]).astype("float64").to_numpy().tolist()
        design = ledger.study.design
        choices = {}
        for row in ledger.proposals():
            arm = design.arm(row.arm) if design and row.arm else None
            params = row.proposal.get("params") or row.proposal.get("point") or {}
            choices[row.number] = (
                {"arm": row.arm, **(arm.levels if arm else {})}
                if row.arm
                else {key: _plain(value) for key, value in params.items()}
            )
        return cls(objectives, dict(zip(frame["key"], values, strict=True)), choices)

    def trials(self, ledger: Ledger) -> Iterator["FrozenTrial"]:
        """Yield every trial, in the order of planning."""
        from optuna.distributions import CategoricalDistribution
        from optuna.trial import TrialState, create_trial

        labels: dict[str, dict[Any, None]] = {}
        for params in self.choices.values():
            for name, value in params.items():
                labels.setdefault(name, {})[value] = None
        distributions = {name: CategoricalDistribution([*of]) for name, of in labels.items()}
        for row in ledger.trials():
            state, values, reason = _STATES[row.state], self.values.get(row.key), row.reason
            if state == "COMPLETE" and not (values and all(map(math.isfinite, values))):
                state, reason = "FAIL", "an objective is missing: it was not measured"
            params = self.choices[row.proposal]
            facts = {"trial": row.number, "network": row.name, "seed": row.seed, "state": row.state}
            yield create_trial(
                state=TrialState[state],
                values=values if state == "COMPLETE" else None,
                params=dict(params),
                distributions={name: distributions[name] for name in params},
                user_attrs=facts | ({"reason": reason} if reason else {}),
                intermediate_values=self._curve(ledger, row.key),
            )

    def _curve(self, ledger: Ledger, key: str) -> dict[int, float]:
        """Return the first recorded objective after each epoch."""
        rows = ledger.curve(key)
        name = next((name for name in self.objectives if rows and name in rows[0]), None)
        return {int(row["epoch"]): row[name] for row in rows if name in row} if name else {}


def _plain(value: Any) -> Any:
    """Return a choice as Optuna accepts it."""
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
