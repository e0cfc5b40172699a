"""Verbs that run studies and tell how they stand. Heavy imports stay inside the verbs."""

from pathlib import Path
from typing import Annotated

import typer

from partialnas.verbs.options import (
    AddressOption,
    MetricOption,
    OutOption,
    QuickOption,
    RecipeOption,
    SetOption,
    SingleConditionOption,
    StudyFileArgument,
    StudyFolderArgument,
    StyleOption,
    WidthOption,
)


def run(
    study: StudyFileArgument,
    out: OutOption = None,
    quick: QuickOption = False,
    set_: SetOption = None,
    address: AddressOption = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Play the study in seconds, with made-up results.")
    ] = False,
) -> None:
    """Run a study, or carry on with one that was interrupted.

    Writes into the folder: `ledger.sqlite` (every trial, measurement and proposal; the single
    source of truth), `study.yaml` (the study as it was run), `weights/` (final weights)
    and `workers.log`. Running the same command again continues: finished trials stay,
    interrupted ones continue from their last epoch, none runs twice. Ctrl-C once
    finishes the trials under way, twice ends now; all that is finished is kept. A study that has
    begun may grow (budget, seeds, executor, further arms); any other change is refused with the
    difference shown. `--rehearse` trains and measures nothing: it plays
    the whole study with made-up results into a folder of its own, results/STUDY-rehearsal, to see
    before the first real hour what its tables and figures will look like.

    Example: `partialnas run search/studies/quickstart.yaml --set budget.trials=40`
    """
    from partialnas.search.session.run_study import rehearse_study, run_study
    from partialnas.search.study.study_file import load_study

    loaded = load_study(study, quick=quick, overrides=set_ or ())
    folder = out or default_folder(loaded.study, quick=quick, rehearsal=rehearse)
    if rehearse:
        rehearse_study(loaded, folder, base_dir=study.parent)
    else:
        run_study(loaded, folder, base_dir=study.parent, address=address)
    status(folder)


def default_folder(study: str, *, quick: bool, rehearsal: bool = False) -> Path:
    """Where results go unless told otherwise: quick and rehearsed ones apart from full ones."""
    return Path("results") / (study + "-quick" * quick + "-rehearsal" * rehearsal)


def check(
    study: StudyFileArgument,
    quick: QuickOption = False,
    set_: SetOption = None,
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
    from partialnas.search.check.check_study import check_study
    from partialnas.search.study.study_file import load_study

    loaded = load_study(study, quick=quick, overrides=set_ or ())
    check_study(loaded, base_dir=study.parent, show=typer.echo, pilot=pilot)


def confirm(
    folder: StudyFolderArgument,
    top: Annotated[
        str, typer.Option(metavar="front|all|N", help="Which arms: the front, all, the best N.")
    ] = "front",
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds of each.")] = 5,
    recipe: RecipeOption = None,
    condition: SingleConditionOption = "",
    address: AddressOption = None,
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
    from partialnas.commands.confirm import confirm_study

    confirm_study(folder, top, seeds, recipe, condition, address)


def audit(
    folder: StudyFolderArgument,
    longer: Annotated[
        str | None,
        typer.Option(metavar="4x|EPOCHS", help="How long. Default: 4x, or the recipe's epochs."),
    ] = None,
    sample: Annotated[int, typer.Option(min=3, help="How many networks.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, max=999, help="Longer trainings of each.")] = 2,
    repeats: Annotated[
        int,
        typer.Option(min=0, max=998, help="Further trainings by every fidelity, for the noise."),
    ] = 1,
    recipe: RecipeOption = None,
    condition: SingleConditionOption = "",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Figure: .pdf, .svg or .png. Default: DIR/audit.pdf."),
    ] = None,
    metric: MetricOption = None,
    style: StyleOption = "cvpr",
    width: WidthOption = None,
    report: Annotated[
        bool, typer.Option("--report", help="Train nothing: report what was trained before.")
    ] = False,
    address: AddressOption = None,
) -> None:
    """Train a sample of a study longer, and report how far its short trainings can be trusted.

    The sample has members of the front and networks spread evenly over the rest. It is trained
    longer, with seeds of its own, and with further seeds by every fidelity of the study (the rungs
    of a search too), into the same ledger as stages of their own. For each fidelity the report
    tells Kendall's tau-b between its ranking and that of longer training, overall and within the
    best third, with intervals, by log-likelihood and by accuracy; beside it the noise ceiling (one
    seed against another), what MACs or parameters alone would give, and the regret of choosing so;
    and which ranks of the study's best networks its noise leaves open.

    The same command again carries on where it was interrupted, and adds seeds or networks. Beside
    the figure stand its tables (.csv) and their readable form (.md): `partialnas verify` recomputes
    them.

    Example: `partialnas audit results/quickstart --longer 4x --sample 20`
    """
    from partialnas.commands.audit import audit_study, show_audit

    figure = {"output": output, "metric": metric, "style": style, "width": width}
    if report:
        show_audit(folder, None, figure)
        return
    asked = {
        "length": longer, "recipe": recipe, "seeds": seeds, "repeats": repeats,
        "condition": condition, "address": address,
    }  # fmt: skip
    audit_study(folder, asked, figure, sample=sample)


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders that `run` wrote, two or more.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the joined study.")],
) -> None:
    """Join what one study has done in several places into one folder.

    The studies must be the same, but for what a study may grow by (seeds, arms, budget) and the
    seed of the search; anything else is refused with the difference shown. Trials of the first
    folder keep their numbers. A trial that several folders have counts once: one that is finished
    before one that is not, and where two differ, one that is done before one that failed, else
    the one that finished first. Weights, and the checkpoints of unfinished trials, are copied; the
    folders themselves stay as they are. All verbs read the result, and `run` carries on with it.

    Example: `partialnas merge results/node1 results/node2 -o results/both`
    """
    from partialnas.search.followup.merge_studies import merge_studies

    join = merge_studies(folders, out)
    for remark in join.remarks:
        typer.echo(f"note: {remark}")
    final = sum(row.is_final for row in join.trials.values())
    typer.echo(
        f"{out}: {len(join.trials)} trials ({final} finished), {len(join.proposals)} proposals and "
        f"{len(join.measurements)} measurements of {len(folders)} folders"
    )


def status(
    folder: StudyFolderArgument,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again and again while the study runs.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Between two looks of --watch.")
    ] = 2.0,
) -> None:
    """Show a study's trials by state, its front, what failed and why, and warnings.

    Reads the ledger only: safe at any time, also while the study runs. Columns are means over
    seeds; the front is that of the study's objectives. Hours are those that workers were busy;
    a device-hour is one whole GPU, or all cores of a machine, for an hour. `--watch` ends when no
    driver works on the study any more, or with Ctrl-C.

    Example: `partialnas status results/quickstart --watch`
    """
    if watch:
        from partialnas.commands.status import watch_status

        watch_status(folder, every)
        return
    from partialnas.commands.status import show_status

    show_status(folder)


def dashboard(
    folder: StudyFolderArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine alone.")] = 8080,
    export_only: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write Optuna's journal there and serve nothing."),
    ] = None,
) -> None:
    """Show a study in optuna-dashboard, a web page with plots of its trials.

    Copies the ledger into an Optuna storage, which the page reads: done trials are complete, those
    of lower rungs pruned, with their curves. It is a copy: what a running study does later is seen
    after another start. Needs `pip install 'partialnas[dashboard]'`; `--export-only` does not.

    Example: `partialnas dashboard results/quickstart --port 8080`
    """
    from partialnas.commands.dashboard import export_journal, serve_dashboard

    if export_only is None:
        serve_dashboard(folder, port)
    else:
        typer.echo(f"wrote {export_journal(folder, export_only)} trials to {export_only}")
