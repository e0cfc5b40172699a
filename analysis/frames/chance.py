"""Whether trained networks are at chance level: no better than guessing the class."""

import math

import pandas as pd

from partialnas.analysis.frames.trials import Trials

_MIN_LOSS = 0.95
"""Smallest loss at chance level, as a share of the loss of guessing, ln(classes)."""

_MAX_ACCURACY = 1.2
"""Largest mean accuracy at chance level, as a multiple of that of guessing, without the spread."""

_DEVIATIONS = 2
"""Standard deviations that a mean accuracy may be larger."""

_COLUMNS = ("state", "fidelity", "full_fidelity", "function", "folder", "val_nll", "val_accuracy")


def chance_note(trials: Trials) -> str:
    """Return that no network is better than guessing, with the rule; empty if one is.

    Networks are at chance level if all losses are about that of equal probabilities for all
    classes, and if no mean accuracy exceeds that of guessing by more than seeds differ. An
    accuracy alone would not do: that of guesses scatters, by 2 % on 180 images of ten classes. A
    loss alone would not do either: networks with wrong confidence have large ones.

    Only networks that were trained in full are considered, not those that a user function
    evaluated; without any, and for several numbers of classes, nothing is said.
    """
    frame = trials.frame
    if not {*_COLUMNS} <= {*frame.columns}:  # of a frame that a user has changed
        return ""
    complete = frame["state"].eq("done") & frame["fidelity"].ge(frame["full_fidelity"])
    rows = frame[complete & frame["function"].eq("") & frame["folder"].ne("")]
    rows = rows[rows[["val_nll", "val_accuracy"]].notna().all(axis=1)]
    pairs = zip(rows["folder"], rows["condition"], strict=True)
    numbers = {trials.classes.get(pair) for pair in dict.fromkeys(pairs)}
    classes = numbers.pop() if len(numbers) == 1 else None
    if classes is None:
        return ""
    loss, accuracy = math.log(classes), 100 / classes
    if rows["val_nll"].min() < _MIN_LOSS * loss:
        return ""
    means, deviation, between = _accuracies(rows)
    if means.max() > _MAX_ACCURACY * accuracy + _DEVIATIONS * deviation:
        return ""
    return (
        "Chance level: no network is better than guessing, so that their differences say nothing; "
        f"train for more steps. (Every validation NLL is at least {_MIN_LOSS:.0%} of "
        f"ln({classes}) = {loss:.3f} nats, and every mean accuracy at most {_MAX_ACCURACY:g} "
        f"times {accuracy:.3g} % plus {_DEVIATIONS} standard deviations between {between}.)"
    )


def _accuracies(rows: pd.DataFrame) -> tuple["pd.Series[float]", float, str]:
    """Return the mean accuracy of each network, a standard deviation, and between what it is.

    It is that between the seeds of a network, pooled, or with one seed each that between networks;
    0 for a single trial.
    """
    by_network = rows.groupby(["arm", "digest", "condition"])["val_accuracy"]
    variance = by_network.var().mean()
    between = "seeds"
    if math.isnan(variance):
        variance, between = rows["val_accuracy"].var(), "networks"
    return by_network.mean(), 0.0 if math.isnan(variance) else math.sqrt(variance), between
