"""What a figure is made of before it is written: table, numbers drawn, caption, drawing."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from partialnas.analysis.frames.columns import network_names
from partialnas.analysis.frames.load import load_trials
from partialnas.analysis.frames.seed_means import aggregate, require_trials
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.plotting.labels import study_names
from partialnas.analysis.plotting.style import Style
from partialnas.runs.config.quantities import Quantity
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class FigureRequest:
    """What a figure may be asked for; each kind uses what concerns it.

    Attributes:
        metric: the quantity shown; without it the study's first trained objective.
        condition: the one whose trials count, of a study that has several.
        trials: numbers of the trials shown; without them the front's.
    """

    metric: str | None = None
    condition: str | None = None
    trials: Sequence[int | str] | None = None

    def arguments(self) -> dict[str, Any]:
        """As the arguments of a query, those not given left out."""
        found = {key: value for key, value in asdict(self).items() if value is not None}
        if self.trials is not None:
            found["trials"] = self.trial_numbers()
        return found

    def trial_numbers(self) -> list[int]:
        """The numbers of the trials asked for.

        Raises:
            UserError: one is no number.
        """
        texts = [str(trial).lstrip("#") for trial in self.trials or ()]
        wrong = [text for text in texts if not text.isdecimal()]
        if wrong:
            raise UserError(f"trials: {wrong[0]!r} is no number of a trial; write 1,7")
        return [*map(int, texts)]


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure before it is written.

    Attributes:
        table: every figure behind it, tidy.
        readable: the part that a reader wants, as texts.
        caption: what a checklist asks of it, in sentences.
        plot_data: the numbers that the drawing shows, as its stamp carries them.
        draw: draws it, to be called inside `style.drawing`.
    """

    table: pd.DataFrame
    readable: pd.DataFrame
    caption: str
    plot_data: pd.DataFrame
    draw: Callable[[Style], "Figure"]


def load_requested_trials(folders: Sequence[Path], request: FigureRequest) -> Trials:
    """The trials of studies under the condition asked for.

    Raises:
        UserError: there are none, or a study has several conditions and none was chosen.
    """
    trials = load_trials(folders).under(request.condition)
    require_trials(trials.frame)
    for folder, rows in trials.frame.groupby("folder", sort=False):
        names = rows["condition"].unique()
        if len(names) > 1:
            raise UserError(
                f"{folder} was run under several conditions: choose one of {', '.join(names)} "
                "with --condition"
            )
    return trials


def requested_metric(trials: Trials, request: FigureRequest) -> Quantity:
    """Return the requested quantity; the study's first trained objective by default."""
    return trials.quantity(request.metric or trials.default_axes()[1])


def architectures_with(trials: Trials, quantity: Quantity) -> pd.DataFrame:
    """Return one row per architecture that has the quantity.

    Raises:
        UserError: no architecture has it.
    """
    rows = aggregate(trials, {quantity.key: quantity.better})
    rows = rows[rows[quantity.key].notna()]
    if rows.empty:
        raise UserError(empty_figure_message(trials.frame, quantity.key))
    return rows


def empty_figure_message(frame: pd.DataFrame, key: str) -> str:
    """What to say where no architecture has what a figure shows."""
    states = ", ".join(f"{n} {state}" for state, n in frame["state"].value_counts().items())
    reasons = frame["reason"].dropna().mode()
    often = f" (most often: {reasons.iloc[0]})" if len(reasons) else ""
    return f"nothing to draw: no architecture has {key} at full fidelity; trials: {states}{often}"


def network_labels(rows: pd.DataFrame) -> "pd.Series[str]":
    """What rows are called: the arm, or the first trial's number; of several studies with these."""
    names = network_names(rows)
    if rows["folder"].nunique() < 2:
        return names
    return rows["folder"].map(study_names(rows)) + ": " + names
