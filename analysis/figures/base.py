"""Parts that all figures of studies share: requests, trials, quantities, specifications."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.provenance import drop_none
from partialnas.analysis.frames.seed_means import aggregate, require_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.table import empty_figure_message, require_one_condition
from partialnas.analysis.plotting.artists import AnyFigure
from partialnas.analysis.plotting.labels import study_names
from partialnas.analysis.plotting.style import FAMILY_STYLES, SERIES_COLORS, Style
from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError
from partialnas.space.validation import quote

LINE_COLORS = (SERIES_COLORS[0], *(color for color, _ in FAMILY_STYLES))
"""Colors of lines, one per study or network."""


@dataclass(frozen=True, kw_only=True)
class FigureRequest:
    """Options of a figure. Each kind of figure uses those that concern it.

    Attributes:
        metric: quantity to show; by default the study's first trained objective.
        condition: condition whose trials count, for a study with several.
        trials: numbers of the trials to show; by default those of the front.
    """

    metric: str | None = None
    condition: str | None = None
    trials: Sequence[int | str] | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the options as arguments of a query, without defaults."""
        numbers = None if self.trials is None else self._trial_numbers()
        return drop_none(metric=self.metric, condition=self.condition, trials=numbers)

    def requested_rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of the requested trials.

        Raises:
            UserError: an entry is not a number, or there is no such trial.
        """
        numbers = self._trial_numbers()
        missing = {*numbers} - {*frame["trial"]}
        if missing:
            raise UserError(f"there is no trial {min(missing)}; trials are 1 to {len(frame)}")
        return frame[frame["trial"].isin(numbers)]

    def _trial_numbers(self) -> list[int]:
        texts = [str(trial).lstrip("#") for trial in self.trials or ()]
        wrong = [text for text in texts if not text.isdecimal()]
        if wrong:
            raise UserError(f"invalid trial {quote(wrong[0])}: expected numbers, such as 1,7")
        return [*map(int, texts)]


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure before it is written.

    Attributes:
        table: all numbers behind the figure, as a tidy table.
        readable: the most important numbers as text.
        caption: caption of the figure.
        plot_data: numbers that the drawing shows, which its stamp carries.
        draw: function that draws the figure, called inside `figure_style`.
    """

    table: pd.DataFrame
    readable: pd.DataFrame
    caption: Caption
    plot_data: pd.DataFrame
    draw: Callable[[Style], AnyFigure]


def load_requested_trials(folders: Sequence[Path], request: FigureRequest) -> Trials:
    """Return the trials of studies under the requested condition.

    Raises:
        UserError: no trials, or a study has several conditions and the request names none.
    """
    trials = load_trials(folders).under(request.condition)
    require_trials(trials.frame)
    require_one_condition(trials.frame)
    return trials


def requested_metric(trials: Trials, request: FigureRequest) -> Quantity:
    """Return the requested quantity; the study's first trained objective by default."""
    return trials.quantity(request.metric or trials.deciding_quantity)


def requested_architectures(
    folders: Sequence[Path], request: FigureRequest
) -> tuple[Trials, Quantity, pd.DataFrame]:
    """Return the requested trials and quantity, and one row per architecture that has it.

    Raises:
        UserError: no architecture has the quantity.
    """
    trials = load_requested_trials(folders, request)
    quantity = requested_metric(trials, request)
    rows = aggregate(trials, {quantity.key: quantity.better})
    rows = rows[rows[quantity.key].notna()]
    if rows.empty:
        raise UserError(empty_figure_message(trials.frame, quantity.key))
    return trials, quantity, rows


def network_labels(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return the label of each row, see `network_names`; with the study if there are several."""
    names = network_names(rows)
    if rows["folder"].nunique() < 2:
        return names
    return rows["folder"].map(study_names(rows)) + ": " + names
