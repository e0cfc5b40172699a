"""Verbs that run studies and show their state. Heavy imports stay inside the functions."""

from pathlib import Path
from typing import Annotated

import typer

from partialnas.verbs import options as shared


def run(
    study: shared.StudyFileArgument,
    out: shared.OutOption = None,
    quick: shared.QuickOption = False,
    set_: shared.SetOption = None,
    address: shared.AddressOption = None,
    plugin: shared.PluginOption = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Dry run: simulate all results, in seconds.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed trials again.")
    ] = False,
    accept_source: Annotated[
        bool, typer.Option("--accept-source", help="Continue with an edited `trial:` function.")
    ] = False,
) -> None:
    """Run a study, or resume an interrupted one.

    Writes into the folder: `ledger.sqlite` (every trial, measurement and proposal; the single
    source of truth), `study.yaml` (the study with every setting stated), `weights/` (final
    weights) and `workers.log`.

    The same command resumes the study: finished trials are kept, interrupted trials continue from
    their last checkpoint (at most 30 seconds or one epoch ago), and no trial runs twice. The first
    Ctrl-C waits for the running trials, the second stops at once; finished trials are kept either
    way. A study may be extended later (budget, seeds, executor, further arms); any other change is
    rejected and the difference shown.

    `--retry-failed` runs the failed trials again, for example after a mistake in a user function
    was corrected; tables use the new results and state how often a trial failed before. A study
    does not continue with another source of its `trial:` function than the recorded one unless
    `--accept-source` is given; later records then name the new source.

    `--rehearse` trains and measures nothing. It runs the whole study with simulated results into
    its own folder, `results/STUDY-rehearsal`, to show what its tables and figures will look like.

    A name stands for a study of `partialnas studies`, unless the current folder has a file of that
    name; the output says which one was taken.

    Example: `partialnas run quickstart --set budget.trials=40`
    """
    from partialnas.commands.studies import study as command
    from partialnas.search.study.shipped import find_study
    from partialnas.space.errors import printable_message

    if note := find_study(study).note:
        typer.echo(printable_message(note), err=True)
    folder = command.run(
        study, out, quick=quick, overrides=set_ or (), plugins=plugin or (), address=address,
        rehearse=rehearse, accept_source=accept_source, retry_failed=retry_failed,
    )  # fmt: skip
    status(folder)
    command.print_next_steps(folder)


def check(
    study: shared.StudyFileArgument,
    quick: shared.QuickOption = False,
    set_: shared.SetOption = None,
    plugin: shared.PluginOption = None,
    pilot: Annotated[
        int, typer.Option(min=0, metavar="N", help="Estimate the seed deviation from N trainings.")
    ] = 0,
) -> None:
    """Validate a study and estimate its time; run nothing.

    Lists every mistake with its place in the file, the size of the space, axes that have no
    effect, the number of trials, and the estimated time, from a few timed steps of cheap, typical
    and expensive networks.

    For an ablation it prints the design: the arms and their cost, how arms were adjusted to the
    cost of their baseline, which combinations are left out and why, and the smallest difference
    that the seeds can detect (80 % power), given the deviation between seeds that the study states
    or that `--pilot` estimates.

    Example: `partialnas check quickstart --quick`
    """
    from partialnas.commands.studies import study as command
    from partialnas.search.study.shipped import find_study
    from partialnas.space.errors import printable_message

    def show(line: str) -> None:
        typer.echo(printable_message(line))

    if note := find_study(study).note:
        show(note)
    command.check(
        study, quick=quick, overrides=set_ or (), plugins=plugin or (), pilot=pilot, show=show
    )


def confirm(
    folder: shared.StudyFolderArgument,
    top: Annotated[
        str, typer.Option(metavar="front|all|N", help="Arms: the front, all, or the best N.")
    ] = "front",
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds for each arm.")] = 5,
    recipe: shared.RecipeOption = None,
    condition: shared.ConditionOption = None,
    address: shared.AddressOption = None,
) -> None:
    """Train selected arms again with fresh seeds.

    An arm that was selected by its own trials looks better in them than it is. This command trains
    the front, or the best N arms by the study's deciding quantity (together with the baselines of
    an ablation), with seeds that the study never uses, and with the study's recipe or a longer
    one. The trials go into the same ledger as a separate stage; fronts and tables of the study do
    not change.

    Prints for each arm the deciding quantity at selection, with fresh seeds, and the shift between
    them; and the results on the test split, which no selection has used.

    The same command resumes an interrupted confirmation, and adds seeds or arms.

    Example: `partialnas confirm results/quickstart --top 3 --seeds 5`
    """
    from partialnas.commands.studies.confirm import confirm_study

    settings = {
        "seeds": seeds, "recipe": recipe, "condition": condition or "", "address": address,
    }  # fmt: skip
    confirm_study(folder, top, settings)


def audit(
    folder: shared.StudyFolderArgument,
    longer: Annotated[
        str | None,
        typer.Option(metavar="4x|EPOCHS", help="Length. Default: 4x, or the recipe's epochs."),
    ] = None,
    sample: Annotated[int, typer.Option(min=3, help="Number of networks.")] = 20,
    seeds: Annotated[
        int, typer.Option(min=1, max=999, help="Longer trainings of each network.")
    ] = 2,
    repeats: Annotated[
        int,
        typer.Option(min=0, max=998, help="Further seeds at each fidelity, to estimate the noise."),
    ] = 1,
    recipe: shared.RecipeOption = None,
    condition: shared.ConditionOption = None,
    output: shared.FigureOption = None,
    metric: shared.MetricOption = None,
    style: shared.StyleOption = "cvpr",
    width: shared.WidthOption = None,
    font: shared.FontOption = None,
    caption: shared.CaptionOption = "full",
    report: Annotated[
        bool, typer.Option("--report", help="Train nothing; report an earlier audit.")
    ] = False,
    address: shared.AddressOption = None,
) -> None:
    """Test how well short trainings predict longer ones.

    Trains a sample of the study's networks longer. The sample holds members of the front and
    networks spread evenly over the others. They are trained with seeds of their own, and with
    further seeds at every fidelity of the study (the rungs of a search included). The trials go
    into the same ledger as separate stages.

    For each fidelity the report gives Kendall's tau-b between its ranking and that of longer
    training, overall and within the best third, with intervals, by log-likelihood and by accuracy.
    For comparison it gives the noise ceiling (one seed against another), the agreement of MACs or
    parameters alone, and the regret of selecting by the short training. It also shows which ranks
    of the study's best networks the noise leaves unresolved.

    The same command resumes an interrupted audit, and adds seeds or networks. The tables are
    written next to the figure (.csv, and .md to read); `partialnas verify` recomputes them.

    Example: `partialnas audit results/quickstart --longer 4x --sample 20`
    """
    from partialnas.commands.studies.audit import audit_study, show_audit

    figure = {
        "output": output, "metric": metric, "style": style, "width": width, "font": font,
        "caption": caption,
    }  # fmt: skip
    if report:
        show_audit(folder, None, figure)
        return
    settings = {
        "length": longer, "recipe": recipe, "seeds": seeds, "repeats": repeats,
        "condition": condition or "", "address": address,
    }  # fmt: skip
    audit_study(folder, settings, figure, sample=sample)


def merge(
    folders: shared.StudyFoldersArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the merged study.")],
) -> None:
    """Merge the folders of a study that ran in several places.

    The studies must agree in everything but what may be extended (seeds, arms, budget) and the
    seed of the search; anything else is rejected and the difference shown. Trials of the first
    folder keep their numbers. A trial that several folders hold counts once: a finished one before
    an unfinished one, a successful one before a failed one, otherwise the one that finished first.
    Weights, and checkpoints of unfinished trials, are copied; the folders are not changed. All
    verbs read the result, and `run` resumes it.

    Example: `partialnas merge results/node1 results/node2 -o results/both`
    """
    from partialnas.commands.studies import study as command

    command.merge(folders, out)


def restore(
    folder: shared.StudyFolderArgument,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Copy. Default: the newest intact one."),
    ] = None,
) -> None:
    """Put an intact copy in the place of a damaged or missing ledger.

    `run` copies the ledger into `backups/` every ten minutes and at the end. This command checks
    these copies and restores the newest intact one. The damaged ledger is moved to a new folder
    `damaged-N`, together with its write-ahead log, which would spoil the copy; nothing is deleted.
    Do not copy the file by hand while a `ledger.sqlite-wal` lies beside it.

    Prints which finished trials the copy does not have. `run` trains them again.

    Example: `partialnas restore results/quickstart`
    """
    from partialnas.commands.studies.restore import restore as command

    command(folder, source)


def clean(
    folder: shared.StudyFolderArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Remove the files.")] = False,
) -> None:
    """List, or remove, weights and checkpoints that nothing needs any more.

    Lists the number and size of the files by kind; `--yes` removes them. Checkpoints of unfinished
    trials are kept. Weights are kept of trials on the front, of arms and baselines, of trials of
    later stages (`confirm`, `audit`) and, while any trial is unfinished, of all trials. The ledger
    is never changed, and no file that the study has not written is touched. A study that is running
    is rejected.

    Example: `partialnas clean results/quickstart --yes`
    """
    from partialnas.commands.studies.clean import clean as command

    command(folder, remove=yes)


def status(
    folder: shared.StudyFolderArgument,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh while the study runs, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Interval of --watch.")
    ] = 2.0,
    trials: Annotated[
        bool, typer.Option("--trials", help="List all trials with their numbers, and end.")
    ] = False,
) -> None:
    """Show a study's trials, front, failures and warnings.

    Only reads the ledger: it is safe at any time, also while the study runs. Values are means over
    seeds; the front is that of the study's objectives. Hours are the time that workers were busy;
    a device-hour is one hour of one GPU, or of all cores of a machine. `--watch` ends when the
    study no longer runs, or with Ctrl-C. `--trials` lists the numbers by which other verbs name
    trials (`DIR:7`), and the trials whose weights are kept.

    Example: `partialnas status results/quickstart --watch`
    """
    from partialnas.commands.studies.status import show_status, watch_status
    from partialnas.commands.studies.trials import show_trials
    from partialnas.space.errors import UserError

    if trials and watch:
        raise UserError("--trials and --watch exclude each other; choose one")
    if trials:
        show_trials(folder)
    elif watch:
        watch_status(folder, every)
    else:
        show_status(folder)


def dashboard(
    folder: shared.StudyFolderArgument,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port; the page is served to this machine only.")
    ] = 8080,
    export_only: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write an Optuna journal to FILE and serve nothing."),
    ] = None,
) -> None:
    """Show a study in optuna-dashboard, a web page with plots.

    Copies the ledger into an Optuna storage: done trials are complete, trials of lower rungs are
    pruned, with their learning curves. The copy does not follow a running study; start the command
    again to update it. Needs the packages of `partialnas[dashboard]`; `--export-only` does not.

    Example: `partialnas dashboard results/quickstart --port 8080`
    """
    from partialnas.commands.studies.dashboard import export_journal, serve_dashboard

    if export_only is None:
        serve_dashboard(folder, port)
    else:
        export_journal(folder, export_only)
