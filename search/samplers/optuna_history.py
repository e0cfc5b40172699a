"""Optuna trials of earlier sessions, created and stored at little cost.

A long search has a hundred thousand of them. They share their distributions, and Optuna stores them
without copying.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from partialnas.search.samplers.base import ProposalNote

Distributions = Mapping[str, BaseDistribution]


class _UncopiedTrial(FrozenTrial):
    """A trial that a storage keeps without copying it."""

    def __deepcopy__(self, memo: object) -> "_UncopiedTrial":
        return self


class FrozenTrialFactory:
    """Create Optuna trials from the notes of proposals.

    Args:
        distributions: distribution of every parameter, by name.
    """

    def __init__(self, distributions: Distributions) -> None:
        self._created_at = datetime.now()
        self._distributions = distributions
        self._shared: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}

    def create_trial(
        self,
        note: Mapping[str, Any],
        state: TrialState,
        values: list[float] | None,
    ) -> FrozenTrial:
        """Create the trial of a note; trials with the same parameters share distributions.

        Args:
            note: note of `OptunaSource`, with `params` and `system_attrs`.
            state: state of the trial.
            values: objective values, or None unless the trial is complete.
        """
        return _UncopiedTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=self._created_at,
            datetime_complete=self._created_at if state.is_finished() else None,
            params=note["params"],
            distributions=self._shared_distributions(note["params"]),
            user_attrs={},
            system_attrs=note["system_attrs"],
            intermediate_values={},
        )

    def _shared_distributions(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        names = tuple(params)
        if names not in self._shared:
            self._shared[names] = {name: self._distributions[name] for name in names}
        return self._shared[names]


class CommonSearchSpace:
    """The parameters that all complete trials of a study have in common.

    Optuna's `IntersectionSearchSpace` does the same by comparing all parameters of all trials.

    Args:
        distributions: distribution of every parameter, by name.
    """

    def __init__(self, distributions: Distributions) -> None:
        self._distributions = distributions
        self._names: set[str] | None = None
        self._keys: list[str] = []

    def add(self, names: Iterable[str]) -> None:
        """Add the parameter names of a complete trial."""
        self._names = {*names} if self._names is None else self._names.intersection(names)
        self._keys = [f'"{name}":' for name in self._names]

    def add_note(self, note: Mapping[str, Any]) -> None:
        """Add the parameters of a complete trial of an earlier session from its note.

        A note with all common parameters changes nothing. Most notes have them, and are not parsed.
        """
        text = note.text if isinstance(note, ProposalNote) and self._names is not None else None
        if text is None or not all(map(text.__contains__, self._keys)):
            self.add(note["params"])

    def calculate(self, study: optuna.Study) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """Return the common parameters in alphabetical order; none before a trial is complete."""
        return {name: self._distributions[name] for name in sorted(self._names or ())}
