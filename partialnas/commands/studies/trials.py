"""The trials of a study, for `status --trials`: numbers, networks, results and kept weights."""

from pathlib import Path

from rich.table import Table

from partialnas.analysis.frames.columns import find_quantity, network_names
from partialnas.analysis.frames.load import load_trials
from partialnas.commands.terminal import make_console, plain_table, print_table
from partialnas.runs.config.quantities import differs_by_seed
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import DRY_RUN_NOTICE, is_dry_run
from partialnas.runs.system.files import weights_path


def show_trials(folder: Path) -> None:
    """Print a line for each trial of a study, in the order of their numbers."""
    console = make_console()
    with Ledger.open(folder) as ledger:
        if is_dry_run(ledger.study.name):
            console.print(DRY_RUN_NOTICE, style="yellow")
    print_table(console, trials_table(folder))


def trials_table(folder: Path) -> Table:
    """Return a table with a row for each trial of a study, its follow-up stages included.

    Columns are the trial's number (`DIR:7`), its network, condition and stage if there are several,
    seed, state, the trained objectives, and whether its weights are kept.
    """
    study = load_trials(folder, stage=None)
    frame = study.frame
    keys = dict.fromkeys(["val_nll", *filter(differs_by_seed, study.objectives)])
    quantities = [
        find_quantity(f"{key}:min", frame)
        for key in keys
        if key in frame and frame[key].notna().any()
    ]
    kinds = [kind for kind in ("condition", "stage") if frame[kind].nunique() > 1]
    heads = "network", *kinds, "seed", "state", *(q.key for q in quantities), "weights"
    table = plain_table("trials", "trial", *heads)
    for name, row in zip(network_names(frame), frame.to_dict("records"), strict=True):
        values = [quantity.text(row[quantity.key]) for quantity in quantities]
        weights = "kept" if weights_path(folder, row["key"]).is_file() else ""
        facts = name, *(row[kind] for kind in kinds), str(row["seed"]), row["state"]
        table.add_row(str(row["trial"]), *facts, *values, weights)
    return table
