"""Trials of earlier sittings for Optuna, which copies and compares what it is handed.

A long search has a hundred thousand of them: they share what they have in common, are told apart
from nobody, and are added without being copied.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from partialnas.search.source import Noted

Distributions = dict[str, BaseDistribution]


class _Kept(FrozenTrial):
    """A trial that a storage keeps as it is handed it."""

    def __deepcopy__(self, memo: object) -> "_Kept":
        return self


class History:
    """Makes trials of what a source has noted."""

    def __init__(self) -> None:
        self._began = datetime.now()
        self._known: dict[tuple[tuple[str, str], ...], Distributions] = {}
        self._single: dict[str, BaseDistribution] = {}
        self._told: dict[str, Distributions] = {}

    def trial(
        self,
        note: Mapping[str, Any],
        state: TrialState,
        values: list[float] | None,
        constraints: Mapping[str, float],
    ) -> FrozenTrial:
        """The trial of a note; trials with the same choices share their distributions.

        Args:
            note: as a source has written it: `params`, `distributions` and `system_attrs`.
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
            distributions=self.choices(note),
            user_attrs={},
            system_attrs=note["system_attrs"],
            intermediate_values={},
        )
        for name, excess in constraints.items():
            trial.set_constraint(name, excess)
        return trial

    def choices(self, note: Mapping[str, Any]) -> Distributions:
        """The choices that a trial has made; of many notes few differ in them."""
        if not isinstance(note, Noted):
            return self._distributions(note["distributions"])
        # between quotes that no text holds unescaped
        told = note.text.partition(',"distributions":{')[2].partition('},"system_attrs":')[0]
        if not told:  # of another layout
            return self._distributions(note["distributions"])
        if told not in self._told:
            self._told[told] = self._distributions(note["distributions"])
        return self._told[told]

    def _distributions(self, texts: Mapping[str, str]) -> Distributions:
        known = tuple(texts.items())
        if known not in self._known:
            self._known[known] = {name: self._distribution(text) for name, text in known}
        return self._known[known]

    def _distribution(self, text: str) -> BaseDistribution:
        if text not in self._single:
            self._single[text] = json_to_distribution(text)
        return self._single[text]


class Common:
    """The choices that all complete trials of a study have made.

    Optuna's `IntersectionSearchSpace` finds the same by comparing every choice of every trial.
    """

    def __init__(self) -> None:
        self._choices: Distributions | None = None
        self._seen: set[int] = set()
        self._kept: list[Distributions] = []

    def add(self, trial: FrozenTrial) -> None:
        """Takes in the choices of a trial that is complete."""
        self.add_choices(trial.distributions)

    def add_choices(self, made: Distributions) -> None:
        """Takes in the choices that a trial has made; trials may share them."""
        if id(made) in self._seen:
            return
        self._seen.add(id(made))
        self._kept.append(made)  # so that no other dict gets its id
        if self._choices is None:
            self._choices = dict(made)
        else:
            self._choices = {n: d for n, d in self._choices.items() if made.get(n) == d}

    def calculate(self, study: optuna.Study) -> Distributions:  # noqa: ARG002
        """The choices, by name in alphabetical order; none before a trial is complete."""
        return dict(sorted((self._choices or {}).items()))
