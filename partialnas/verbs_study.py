"""Verbs that run studies and tell how they stand. Heavy imports stay inside the verbs."""

from pathlib import Path
from typing import Annotated

import typer

from partialnas.arguments import Out, Override, Quick, StudyFile, StudyFolder


def run(
    study: StudyFile,
    out: Out = None,
    quick: Quick = False,
    set_: Override = None,
    address: Annotated[
        str | None, typer.Option(help="Join a Ray cluster instead of starting one here.")
    ] = None,
) -> None:
    """Run a study, or carry on with one that was interrupted.

    Writes into the folder: `ledger.sqlite` (every trial, measurement and proposal; the single
    source of truth), `study.yaml` (the study as it was run), `weights/` (final weights)
    and `workers.log`. Running the same command again continues: finished trials stay,
    interrupted ones continue from their last epoch, none runs twice. Ctrl-C keeps all that is
    finished. A study that has begun may grow (budget, seeds, executor, further arms); any other
    change is refused with the difference shown.

    Example: `partialnas run search/studies/quickstart.yaml --set budget.trials=40`
    """
    from partialnas.search.runner import run_study
    from partialnas.search.study_file import load_study

    loaded = load_study(study, quick=quick, overrides=set_ or ())
    folder = out or default_folder(loaded.study, quick=quick)
    run_study(loaded, folder, beside=study.parent, address=address)
    status(folder)


def default_folder(study: str, *, quick: bool) -> Path:
    """Where a study's results go unless told otherwise: quick ones apart from full ones."""
    return Path("results") / (f"{study}-quick" if quick else study)


def check(
    study: StudyFile,
    quick: Quick = False,
    set_: Override = None,
    pilot: Annotated[
        int, typer.Option(min=0, help="Train the first arm with so many seeds, for their spread.")
    ] = 0,
) -> None:
    """Validate a study, count its trials, estimate its time; run nothing.

    Names every mistake with its place in the file, the size of the space, axes that cannot
    matter, and the time that the trials will take, from a few timed steps of cheap, typical and
    dear networks. Of an ablation it prints the design: arms, the cost of each, how twins were
    adjusted to cost what their baseline costs, what is left out and why, and the smallest
    difference that its seeds can find (80 % power), from the deviation between seeds that the study
    states or that `--pilot` measures.

    Example: `partialnas check search/studies/quickstart.yaml --quick`
    """
    from partialnas.search.checking import check_study
    from partialnas.search.study_file import load_study

    loaded = load_study(study, quick=quick, overrides=set_ or ())
    check_study(loaded, beside=study.parent, show=typer.echo, pilot=pilot)


def confirm(
    folder: StudyFolder,
    top: Annotated[
        str, typer.Option(metavar="front|all|N", help="Which arms: the front, all, the best N.")
    ] = "front",
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds of each.")] = 5,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="A named recipe: short, standard.")
    ] = None,
    condition: Annotated[
        str, typer.Option("--condition", metavar="NAME", help="Of a study that has several.")
    ] = "",
    address: Annotated[
        str | None, typer.Option(help="Join a Ray cluster instead of starting one here.")
    ] = None,
) -> None:
    """Train chosen arms of a study again with fresh seeds, and report the test split.

    What was chosen by its trials looks better in them than it is. A confirmation trains the front,
    or the best N by what the study decides by (with the baselines that an ablation compares them
    with), with seeds that the study never uses, by the study's recipe or a longer one, into the
    same ledger as a stage of its own: fronts and tables of the study stay as they are. It prints
    for each arm the deciding quantity when it was chosen, with fresh seeds, and the shift between
    them; and the test split, which nothing was chosen by.

    The same command again carries on where it was interrupted, and adds seeds or arms.

    Example: `partialnas confirm results/quickstart --top 3 --seeds 5`
    """
    from partialnas.confirm_overview import confirm_study

    confirm_study(folder, top, seeds, recipe, condition, address)


def status(folder: StudyFolder) -> None:
    """Show a study's trials by state, its front, what failed and why, and warnings.

    Reads the ledger only: safe at any time, also while the study runs. Columns are means over
    seeds; the front is that of the study's objectives.

    Example: `partialnas status results/quickstart`
    """
    from partialnas.overview import show_status

    show_status(folder)
