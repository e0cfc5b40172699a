"""The verb `confirm`: train selected networks with fresh seeds, and print the results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from partialnas.analysis.audit.confirmation import Confirmation, confirmation_table, select_networks
from partialnas.analysis.formats.caption_sentences import count_seeds
from partialnas.analysis.formats.text_table import format_mean
from partialnas.commands.terminal import (
    make_console,
    plain_table,
    print_lines,
    print_table,
)
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import Subject, parse_subject
from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError


def confirm_study(folder: Path, top: str, settings: Mapping[str, Any]) -> None:
    """Train the selected arms of a study with fresh seeds, and print the results.

    Args:
        folder: the study's folder.
        top: see `select_networks`.
        settings: `seeds`, `recipe`, `condition` and `address`.
    """
    from partialnas.search.followup.confirm import confirm

    digests = select_networks(folder, top, settings["condition"])
    selection = {"front": "the front", "all": "all arms"}.get(top, f"the best {top}")
    subjects = load_subjects(folder, digests, "confirm")
    stage = confirm(folder, subjects, selection=selection, **settings)
    _show_confirmation(confirmation_table(folder, stage.name))


def load_subjects(folder: Path, digests: Mapping[str, str], verb: str) -> dict[str, Subject]:
    """Return the networks to train again, by name.

    Args:
        folder: the study's folder.
        digests: digests of the networks, by name.
        verb: verb for the error message, such as `confirm`.

    Raises:
        UserError: every network depends on the ratios that another arm has learned.
    """
    with Ledger.open(folder) as ledger:
        subjects = {row.digest: row.subject for row in ledger.proposals()}
        dependent = {str(row.arm) for row in ledger.proposals() if "from" in row.proposal}
    reason = "its network differs between seeds, because it follows the learned ratios of an arm"
    usable = {name: digest for name, digest in digests.items() if name not in dependent}
    if not usable:
        raise UserError(f"cannot {verb} {', '.join(digests)}: {reason}")
    for name in digests.keys() - usable.keys():
        print_lines(make_console(stderr=True), f"note: {name} is left out: {reason}")
    return {name: _named(parse_subject(subjects[digest]), name) for name, digest in usable.items()}


def _named(subject: Subject, name: str) -> Subject:
    """Return a subject named after its arm: two arms may have the same network."""
    if isinstance(subject, Architecture):
        return subject.model_copy(update={"name": name})
    return subject


def _show_confirmation(confirmation: Confirmation) -> None:
    table, quantity, stage = confirmation.table, confirmation.quantity, confirmation.stage
    objectives = confirmation.objective_columns()
    title = f"{stage.name}: {stage.chosen}, {len(stage.seeds)} fresh seeds"
    tests = ("test accuracy (%)", "test NLL (nats)")
    heads = ("at selection", "confirmed", "shift", *objectives, *tests, "seeds")
    shown = plain_table(title, "", *heads)
    for place, row in enumerate(table.to_dict("records")):
        sd = quantity.text(row["confirmed_sd"])  # empty for a single seed
        shown.add_row(
            str(row["arm"]),
            quantity.text(row["chosen"]),
            quantity.text(row["confirmed"]) + (f" ± {sd}" if sd else ""),
            f"{row['shift']:+.3g}",
            *(texts[place] for texts in objectives.values()),
            format_mean(row, "test_accuracy", ".2f"),
            format_mean(row, "test_nll", ".4f"),
            count_seeds(row["n"], failed=row["failed"]),
        )
    console = make_console()
    print_table(console, shown)
    course = " Other objectives: at selection → mean over fresh seeds." if objectives else ""
    console.print(
        f"{quantity.label}: mean over the trials of the selection, then mean ± standard deviation "
        f"over fresh seeds.{course} Test split, which no selection used: mean over fresh seeds and "
        f"95 % t interval{_interval_note(table)}."
    )


def _interval_note(table: pd.DataFrame) -> str:
    """Return what the reader must know of intervals that are cut off, or from two seeds."""
    cut = table["test_accuracy_high"].ge(100).any() or table["test_accuracy_low"].le(0).any()
    note = ", cut off at 0 and 100 %" if cut else ""
    if table["n"].eq(2).any():
        note += "; from two seeds it reaches 12.7 standard errors to each side and settles little"
    return note
