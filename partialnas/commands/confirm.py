"""What `partialnas confirm` does: choose, train with fresh seeds, print what came of it."""

from collections.abc import Hashable, Mapping
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from partialnas.commands.terminal import plain_table
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.subject import Subject, parse_subject
from partialnas.space.arch.architecture import Architecture
from partialnas.space.errors import UserError

if TYPE_CHECKING:
    from partialnas.analysis.audit.confirmation import Confirmation


def confirm_study(
    folder: Path, top: str, seeds: int, recipe: str | None, condition: str, address: str | None
) -> None:
    """Train the chosen arms of a study with fresh seeds, and show what they reach."""
    from partialnas.analysis.audit.confirmation import confirmation_table, select_networks
    from partialnas.search.followup.confirm import confirm

    digests = select_networks(folder, top, condition)
    words = {"front": "the front", "all": "all arms"}.get(top, f"the best {top}")
    stage = confirm(
        folder,
        load_subjects(folder, digests, "confirm"),
        seeds=seeds,
        selection=words,
        recipe=recipe,
        condition=condition,
        address=address,
    )
    show_confirmation(confirmation_table(folder, stage.name))


def load_subjects(folder: Path, digests: Mapping[str, str], verb: str) -> dict[str, Subject]:
    """The networks that are trained again, by what they are called.

    Args:
        folder: the study's.
        digests: of the networks.
        verb: what is done with them.

    Raises:
        UserError: all of them follow from what other arms have learned.
    """
    with Ledger.open(folder) as ledger:
        known = {row.digest: row.subject for row in ledger.proposals()}
        following = {str(row.arm) for row in ledger.proposals() if "from" in row.proposal}
    why = "it has another network for each seed, which follow from what another arm learned"
    alone = {name: digest for name, digest in digests.items() if name not in following}
    if not alone:
        raise UserError(f"nothing to {verb}: of {', '.join(digests)}: {why}")
    for name in digests.keys() - alone.keys():
        Console(stderr=True).print(f"note: {name} is left out: {why}", markup=False, soft_wrap=True)
    return {name: _named(parse_subject(known[digest]), name) for name, digest in alone.items()}


def _named(subject: Subject, name: str) -> Subject:
    """Architectures are called as the arm is; two arms may have one network."""
    if isinstance(subject, Architecture):
        return subject.model_copy(update={"name": name})
    return subject


def show_confirmation(confirmation: "Confirmation") -> None:
    """Print a confirmation, and how to read it."""
    table, quantity, stage = confirmation
    shown = plain_table(f"{stage.name}: {stage.chosen}, {len(stage.seeds)} fresh seeds")
    shown.add_column("")
    heads = ("when chosen", "confirmed", "shift", "test accuracy (%)", "test NLL (nats)", "seeds")
    for head in heads:
        shown.add_column(head, justify="right")
    for row in table.to_dict("records"):
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        spread = quantity.text(row["confirmed_sd"])  # nothing of a single seed
        shown.add_row(
            str(row["arm"]),
            quantity.text(row["chosen"]),
            quantity.text(row["confirmed"]) + (f" ± {spread}" if spread else ""),
            f"{row['shift']:+.3g}",
            *(_interval(row, *test) for test in (("test_accuracy", ".2f"), ("test_nll", ".4f"))),
            f"{row['n']}{failed}",
        )
    console = Console()
    console.print(shown)
    console.print(
        f"{quantity.label}: mean of the trials that the choice was made from, then mean and "
        "standard deviation over fresh seeds. Test split: mean over fresh seeds and 95 % t "
        "interval; nothing was chosen by it.",
        highlight=False,
    )


def _interval(row: Mapping[Hashable, Any], key: str, spec: str) -> str:
    """A mean with its interval, where there is one."""
    mean, low, high = (row[name] for name in (key, f"{key}_low", f"{key}_high"))
    return format(mean, spec) + ("" if isnan(low) else f" [{low:{spec}}, {high:{spec}}]")
