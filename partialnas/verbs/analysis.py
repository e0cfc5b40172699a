"""Verbs that turn ledgers into figures, tables and files. Heavy imports stay inside."""

from pathlib import Path
from typing import Annotated, Any

import typer

from partialnas.verbs.options import (
    AgainstOption,
    ConditionOption,
    MarginOption,
    MetricOption,
    StudyFolderArgument,
    StyleOption,
    WidthOption,
)


def pareto(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR...]", help="Folders of studies.")
    ] = None,
    x: Annotated[
        str | None, typer.Option("--x", "-x", metavar="KEY", help="Quantity along x.")
    ] = None,
    y: Annotated[
        str | None, typer.Option("--y", "-y", metavar="KEY", help="Quantity along y.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Figure: .pdf, .svg or .png. Default: DIR/front.pdf."),
    ] = None,
    condition: ConditionOption = None,
    size: Annotated[
        str | None, typer.Option(metavar="KEY", help="Quantity that the area of markers shows.")
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Published family: partialnet, fasternet. Repeatable."),
    ] = None,
    timm_results: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Results .csv of timm for families. Repeatable."),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(metavar="AXES", help="x, y, xy or none. Default: axes that span a decade."),
    ] = None,
    clip: Annotated[
        bool, typer.Option("--clip", help="Dominated points far off become arrows on the edge.")
    ] = False,
    probability: Annotated[
        bool, typer.Option("--probability", help="Labels tell the chance of being on the front.")
    ] = False,
    attainment: Annotated[
        bool, typer.Option("--attainment", help="Folders are repeats: median and quartiles.")
    ] = False,
    timing: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE,...", help="Measured otherwise: batch_size=1,device=H100."),
    ] = None,
    style: StyleOption = "cvpr",
    width: WidthOption = None,
) -> None:
    """Draw the front of one or several studies, and write the table behind it.

    Axes are any two quantities, by default the study's objectives; `KEY:min` or `KEY:max` says
    which way is better for one that is not known. Beside the figure stand its table (.csv) and its
    readable form with the caption (.md). Where networks have several seeds the table tells the
    probability that each is on the front.

    Reference families stand alone (name no study) or beside studies of the same task. Speeds of
    them on your own device come from timm: `benchmark.py --results-file FILE`.

    Quantities: `val_accuracy`, `val_nll`, `test_accuracy`, `test_nll`, `throughput_img_s`,
    `latency_ms`, `relative_throughput`, `params`, `macs`, `macs_core`, `activations`,
    `peak_memory_bytes`, `seconds`, and what a study's own trial function tells.

    Example: `partialnas pareto results/quickstart -x params -y val_accuracy -o params.pdf`
    """
    from partialnas.commands.figure import draw_front

    asked = {
        "x": x, "y": y, "condition": condition, "style": style, "width": width, "size": size,
        "log": log, "clip": clip, "probability": probability, "attainment": attainment,
        "families": family or [], "timm_results": [*map(str, timm_results or [])],
        "timing": timing,
    }  # fmt: skip
    draw_front(folders or [], output, asked)


def figure(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Which figure; see below.")],
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of studies.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Figure: .pdf, .svg or .png. Default: DIR/KIND.pdf."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Quantity. Default: the study's first trained objective."),
    ] = None,
    condition: ConditionOption = None,
    trials: Annotated[
        str | None, typer.Option(metavar="1,7", help="Of cost and curves. Default: the front.")
    ] = None,
    style: StyleOption = "cvpr",
    width: WidthOption = None,
) -> None:
    """Draw one of the other figures of a study, and write the table behind it.

    `convergence`: hypervolume over trials and device hours; repeats of a study as a band.
    `attainment`: what the median and the quartiles of repeated searches attain.
    `edf`: distribution of errors, with bootstrap bands, a line for each study.
    `parallel`: axes and objectives side by side, the front highlighted.
    `importance`: how much each axis of the space matters, by a random forest.
    `axis`: a quantity against each axis of the space.
    `curves`: learning curves. `cost`: what each block costs.

    Beside the figure stand its table (.csv) and its readable form with the caption (.md). All
    carry the study's digest and the query: `partialnas verify` recomputes them.

    Example: `partialnas figure convergence results/quickstart -o convergence.pdf`
    """
    from partialnas.commands.figure import draw_figure

    asked = {"metric": metric, "condition": condition, "style": style, "width": width}
    draw_figure(kind, folders, output, _given(asked, trials=trials))


def table(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of studies.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File: .tex, .md, .csv or .html. Default: printed."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="latex, markdown, csv or html. Default: by suffix."
        ),
    ] = None,
    metric: MetricOption = None,
    against: AgainstOption = None,
    margin: MarginOption = None,
    condition: ConditionOption = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B", help="Which columns, in this order.")
    ] = None,
) -> None:
    """Write the table of an ablation: each arm beside its baseline, with intervals.

    One row per arm, failed and missing ones too: seeds, mean ± standard deviation, the difference
    from the baseline with its simultaneous interval, adjusted p, effect size, parameters, MACs and
    throughput; of a ladder also each step. Below it the caption that a checklist asks for. Bold is
    an arm whose intervals against all others exclude zero, and nothing else. Of a search the table
    holds the front and the baselines. Studies that were trained alike may stand in one table.

    LaTeX compiles as is with `booktabs`; CSV has every figure and every seed. The file carries the
    study's digest and the query: `partialnas verify` recomputes it.

    Columns: `arm`, `levels`, `n`, `metric`, `delta`, `p`, `effect`, `equivalence`, `step`,
    `params`, `macs`, `throughput`, `latency`.

    Example: `partialnas table results/partitions -o partitions.tex --columns arm,n,metric,delta`
    """
    from partialnas.commands.ablation import write_table

    asked = {"metric": metric, "against": against, "margin": margin, "condition": condition}
    write_table(folders, output, format_, _given(asked, columns=columns))


def effects(
    folder: StudyFolderArgument,
    kind: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="effect, interaction or ladder. Default: by design."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Figure: .pdf, .svg or .png. Default: in DIR."),
    ] = None,
    metric: MetricOption = None,
    against: AgainstOption = None,
    margin: MarginOption = None,
    condition: ConditionOption = None,
    factors: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of interaction: across, and lines.")
    ] = None,
    style: StyleOption = "cvpr",
    width: WidthOption = None,
) -> None:
    """Draw the effects of an ablation, and write the table behind the figure.

    Kinds: `effect` shows each arm's difference from its baseline, a dot for every seed, the mean
    with its simultaneous interval, and the margin within which differences do not matter;
    `interaction` shows one factor of a factorial design across, a line for each level of another;
    `ladder` the value of each rung and what each step adds. Failed arms are named in their place.

    Prints the table, and of factorial designs main effects and two-factor interactions. Beside the
    figure stand the table with every figure and seed (.csv) and its readable form with the caption
    (.md). All carry the study's digest and the query: `partialnas verify` recomputes them.

    Example: `partialnas effects results/partitions --margin 0.2 -o effects.pdf`
    """
    from partialnas.commands.ablation import draw_effects

    asked = {
        "metric": metric, "against": against, "margin": margin, "condition": condition,
        "style": style, "width": width,
    }  # fmt: skip
    draw_effects(folder, kind, output, _given(asked, factors=factors))


def _given(asked: dict[str, Any], **lists: str | None) -> dict[str, Any]:
    """The arguments that were given; lists written with commas are taken apart."""
    taken = {key: [part.strip() for part in text.split(",")] for key, text in lists.items() if text}
    return {key: value for key, value in asked.items() if value is not None} | taken


def verify(
    file: Annotated[Path, typer.Argument(help="A table or figure that was exported.")],
    against: Annotated[
        list[Path],
        typer.Option("--against", metavar="DIR", help="The study's folder. Repeat for several."),
    ],
) -> None:
    """Recompute an exported table or figure from the ledger, and compare every number.

    Every file that `table`, `effects`, `pareto`, `figure` and `ratios` write carries the study's
    digest and the query that made it, a figure also the numbers that it shows. This command asks
    the ledger the same, and says for each number that differs its row, its column, and both
    values. A figure that was changed after it was written is told, and so is one that was drawn
    with other fonts, which is no difference.

    Exit codes: 0 every number is equal, 1 something differs, 2 the file carries no stamp, cannot
    be read, or is of another study.

    Example: `partialnas verify partitions.tex --against results/partitions`
    """
    from partialnas.commands.ablation import show_verdict

    if not show_verdict(file, against):
        raise typer.Exit(1)


def ratios(
    name: Annotated[
        str, typer.Argument(metavar="DIR[:TRIAL]", help="A study's folder, or a trial as DIR:7.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Figure: .pdf, .svg or .png. Default: DIR/ratios.pdf."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Table: .csv. Default: beside the figure."),
    ] = None,
    style: StyleOption = "cvpr",
    width: WidthOption = None,
) -> None:
    """Draw the ratios that networks have learned, and write the table behind it.

    Panels: the ratios of one trial over its epochs (the trial named, or the first of the arm with
    most seeds); those at the end, of each arm over its seeds, beside the static ratio; and, where
    every image has its own ratio, the mean of each class and of each kind of input. Prints for
    each arm how well the budget was met, how far the trained and the frozen form are apart, how
    far seeds agree, when ratios came to rest, and every warning.

    Beside the figure stand its table (.csv: every trial, epoch and layer) and its readable form
    with the caption (.md).

    Example: `partialnas ratios results/static-vs-dynamic -o ratios.pdf`
    """
    from partialnas.commands.ratios import draw_ratios

    draw_ratios(name, output, csv, style=style, width=width)


def export(
    folder: StudyFolderArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="trials.csv, .parquet or .xlsx.")
    ] = Path("trials.csv"),
) -> None:
    """Write one row per trial, failed ones included, as CSV, Parquet or a spreadsheet.

    Columns: `trial`, `digest`, `seed`, `state`, `val_accuracy`, `test_accuracy`, `params`, `macs`,
    `throughput_img_s`, then the study, arm and condition, the other metrics and costs, the one
    measurement that stands for the network with its protocol (device, threads, batch, resolution,
    precision, form), why a trial failed, and what a study's own trial function told. Curves,
    ratios, proposals and repeated measurements stay in the ledger. Accuracies in percent,
    log-likelihoods in nats, macs as fvcore counts them.

    Example: `partialnas export results/quickstart -o trials.parquet`
    """
    from partialnas.analysis import export as export_table
    from partialnas.analysis import load

    frame = load(folder, stage=None)
    export_table(frame, output)
    typer.echo(f"{len(frame)} trials in {output}")


def report(
    folder: StudyFolderArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Page: .html. Default: DIR/report.html."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write it again while the study runs, until Ctrl-C.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Seconds between two looks, of --watch.")] = 30,
) -> None:
    """Write a study as one page for a browser: figures, tables, warnings, and how it was made.

    The page needs nothing but itself: it opens offline, loads nothing, reads on a phone, in print,
    in light and dark, and without scripts. Hovering over a point of the front tells the network;
    clicking it, or Enter, shows its blocks, ratios and learning curves; arrow keys go through the
    points. The same ledger gives the same bytes, and `partialnas verify` compares them.

    With `--watch` the page is written anew whenever the ledger has changed, and loads itself again
    in the browser.

    Example: `partialnas report results/quickstart -o quickstart.html`
    """
    from partialnas.commands.report import write_page

    write_page(folder, output, watch=watch, every=every)
