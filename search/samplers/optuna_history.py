"""Trials of earlier sittings for Optuna, which copies and compares what it is handed.

A long search has a hundred thousand of them: they share what they have in common, are told apart
from nobody, and are added without being copied.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from partialnas.search.samplers.base import ProposalNote

Distributions = Mapping[str, BaseDistribution]


class _Kept(FrozenTrial):
    """A trial that a storage keeps as it is handed it."""

    def __deepcopy__(self, memo: object) -> "_Kept":
        return self


class FrozenTrialFactory:
    """Makes trials of what a source has noted.

    Args:
        kinds: every choice that a trial may make, by name.
    """

    def __init__(self, kinds: Distributions) -> None:
        self._began = datetime.now()
        self._kinds = kinds
        self._made: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}

    def create_trial(
        self,
        note: Mapping[str, Any],
        state: TrialState,
        values: list[float] | None,
        constraints: Mapping[str, float],
    ) -> FrozenTrial:
        """The trial of a note; trials with the same choices share their distributions.

        Args:
            note: as a source has written it: `params` and `system_attrs`.
            state: of the trial.
            values: that it reached; None unless it is complete.
            constraints: that it was told.
        """
        trial = _Kept(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=self._began,
            datetime_complete=self._began if state.is_finished() else None,
            params=note["params"],
            distributions=self._choices(note["params"]),
            user_attrs={},
            system_attrs=note["system_attrs"],
            intermediate_values={},
        )
        for name, excess in constraints.items():
            trial.set_constraint(name, excess)
        return trial

    def _choices(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """The choices that a trial has made; of many trials few differ in them."""
        names = tuple(params)
        if names not in self._made:
            self._made[names] = {name: self._kinds[name] for name in names}
        return self._made[names]


class CommonSearchSpace:
    """The choices that all complete trials of a study have made.

    Optuna's `IntersectionSearchSpace` finds the same by comparing every choice of every trial.

    Args:
        kinds: every choice that a trial may make, by name.
    """

    def __init__(self, kinds: Distributions) -> None:
        self._kinds = kinds
        self._names: set[str] | None = None
        self._keys: list[str] = []

    def add(self, names: Iterable[str]) -> None:
        """Takes in the names of the choices that a complete trial has made."""
        self._names = {*names} if self._names is None else self._names.intersection(names)
        self._keys = [f'"{name}":' for name in self._names]

    def add_note(self, note: Mapping[str, Any]) -> None:
        """Takes in what a complete trial of an earlier sitting has chosen, as its note tells.

        A note whose text has all that is common so far changes nothing: most do, and are not read.
        """
        text = note.text if isinstance(note, ProposalNote) and self._names is not None else None
        if text is None or not all(map(text.__contains__, self._keys)):
            self.add(note["params"])

    def calculate(self, study: optuna.Study) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """The choices, by name in alphabetical order; none before a trial is complete."""
        return {name: self._kinds[name] for name in sorted(self._names or ())}
