"""Verbs that turn ledgers into figures and tables. Heavy imports stay inside the functions."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from partialnas.verbs import options as shared


def pareto(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR...]", help="Folders that `run` wrote.")
    ] = None,
    x: Annotated[
        str | None, typer.Option("--x", "-x", metavar="KEY", help="Quantity on the x axis.")
    ] = None,
    y: Annotated[
        str | None, typer.Option("--y", "-y", metavar="KEY", help="Quantity on the y axis.")
    ] = None,
    output: Annotated[Path | None, shared.figure_option("DIR/front.pdf")] = None,
    condition: shared.ConditionOption = None,
    size: Annotated[
        str | None, typer.Option(metavar="KEY", help="Quantity shown by the area of markers.")
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Published family: partialnet, fasternet. Repeatable."),
    ] = None,
    timm_results: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="timm results (.csv) of families. Repeatable."),
    ] = None,
    log: Annotated[
        Literal["x", "y", "xy", "none"] | None,
        typer.Option(help="Logarithmic axes. Default: those over a decade."),
    ] = None,
    clip: Annotated[
        bool, typer.Option("--clip", help="Show far dominated points as arrows at the edge.")
    ] = False,
    probability: Annotated[
        bool, typer.Option("--probability", help="Label networks with their front probability.")
    ] = False,
    attainment: Annotated[
        bool,
        typer.Option("--attainment", help="Treat folders as repeats: draw median and quartiles."),
    ] = False,
    timing: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE,...", help="Other measurements: batch_size=1,device=H100."),
    ] = None,
    style: shared.StyleOption = "cvpr",
    width: shared.WidthOption = None,
    font: shared.FontOption = None,
    caption: shared.CaptionOption = "full",
) -> None:
    """Draw the front of one or more studies, and write its table.

    The axes may be any two quantities; by default they are two of the study's objectives. All
    objectives of the study decide what is on the front: with other axes the figure is a projection,
    and says so. For a quantity that partialnas does not know, append the direction: `KEY:min` or
    `KEY:max`. The table (.csv) and a version to read with the caption (.md) are written next to the
    figure. If networks have several seeds, the table gives the probability that each is on the
    front.

    Published families can be drawn alone (give no study) or with studies of the same task. To add
    their speed on your device, use timm: `benchmark.py --results-file FILE`.

    Quantities: `val_accuracy`, `val_nll`, `test_accuracy`, `test_nll`, `throughput_img_s`,
    `latency_ms`, `relative_throughput`, `params`, `macs`, `macs_core`, `activations`,
    `peak_memory_bytes`, `seconds`, and the metrics of a study's own trial function.

    Example: `partialnas pareto results/quickstart -x params -y val_accuracy -o params.pdf`
    """
    from partialnas.commands.results.figure import draw_front

    arguments = {
        "x": x, "y": y, "condition": condition, "style": style, "width": width, "font": font,
        "caption": caption, "size": size,
        "log": log, "clip": clip, "probability": probability, "attainment": attainment,
        "families": family or [], "timm_results": [*map(str, timm_results or [])],
        "timing": timing,
    }  # fmt: skip
    draw_front(folders or [], output, arguments)


def figure(
    kind: Annotated[
        shared.FigureKind,
        typer.Argument(metavar="KIND", help="Kind of the figure, see above."),
    ],
    folders: shared.StudyFoldersArgument,
    output: Annotated[Path | None, shared.figure_option("DIR/KIND.pdf")] = None,
    metric: shared.MetricOption = None,
    condition: shared.ConditionOption = None,
    trials: Annotated[
        str | None,
        typer.Option(metavar="1,7", help="Trials of `cost` and `curves`. Default: the front."),
    ] = None,
    style: shared.StyleOption = "cvpr",
    width: shared.WidthOption = None,
    font: shared.FontOption = None,
    caption: shared.CaptionOption = "full",
) -> None:
    """Draw another figure of a study, and write its table.

    - `convergence`: hypervolume over trials and device-hours, with a band for repeated searches.
    - `attainment`: median and quartiles of the fronts of repeated searches.
    - `edf`: distribution of errors with bootstrap bands, one line per study.
    - `parallel`: axes and objectives in parallel coordinates, the front highlighted.
    - `importance`: importance of each axis of the space, by a random forest.
    - `axis`: a quantity against each axis of the space.
    - `curves`: learning curves.
    - `cost`: cost of each block.

    The table (.csv) and a version to read with the caption (.md) are written next to the figure.
    All files carry the study's digest and the query: `partialnas verify` recomputes them.

    Example: `partialnas figure convergence results/quickstart -o convergence.pdf`
    """
    from partialnas.commands.results.figure import draw_figure

    options = {
        "metric": metric, "condition": condition, "style": style, "width": width, "font": font,
        "caption": caption,
    }  # fmt: skip
    draw_figure(kind, folders, output, _arguments(options, trials=trials))


def table(
    folders: shared.StudyFoldersArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File: .tex, .md, .csv or .html. Default: print it."),
    ] = None,
    format_: Annotated[
        Literal["latex", "markdown", "csv", "html"] | None,
        typer.Option("--format", help="Format. Default: by the suffix, Markdown on the terminal."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="Trained quantity. Default: the first objective. Repeatable."
        ),
    ] = None,
    against: shared.AgainstOption = None,
    margin: shared.MarginOption = None,
    condition: shared.ConditionOption = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns, in this order.")
    ] = None,
    caption: shared.CaptionOption = "full",
) -> None:
    """Write the table of an ablation, or of a search's front.

    One row per arm, including failed and missing ones: seeds, mean ± standard deviation, the
    difference from the baseline with its simultaneous interval, adjusted p, effect size,
    parameters, MACs and throughput; for a ladder also each step. The caption states what a
    reproducibility checklist asks for. An arm is bold only if its intervals against all other arms
    exclude zero. For a search the table holds the front and the baselines. Studies with the same
    training settings can share a table.

    Each `--metric` has its own group of columns with its own intervals.

    LaTeX output needs `booktabs` alone and leaves sizes to the document; with `--caption none` it
    is the tabular, for a table environment of your own. CSV has every value and every seed. The
    file carries the study's digest and the query: `partialnas verify` recomputes it.

    Columns: `arm`, `levels`, `n`, `metric`, `delta`, `p`, `effect`, `equivalence`, `step`,
    `params`, `macs`, `throughput`, `latency`.

    Example: `partialnas table results/partitions -o partitions.tex --columns arm,n,metric,delta`
    """
    from partialnas.commands.results.ablation import write_table

    options = {
        "metric": metric or None, "against": against, "margin": margin, "condition": condition,
        "caption": caption,
    }  # fmt: skip
    write_table(folders, output, format_, _arguments(options, columns=columns))


def effects(
    folder: shared.StudyFolderArgument,
    kind: Annotated[
        Literal["effect", "interaction", "ladder"] | None,
        typer.Option(help="Kind of the figure. Default: by the design."),
    ] = None,
    output: shared.FigureOption = None,
    metric: shared.MetricOption = None,
    against: shared.AgainstOption = None,
    margin: shared.MarginOption = None,
    condition: shared.ConditionOption = None,
    factors: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Factors of `interaction`: on the x axis, and as lines."),
    ] = None,
    style: shared.StyleOption = "cvpr",
    width: shared.WidthOption = None,
    font: shared.FontOption = None,
    caption: shared.CaptionOption = "full",
) -> None:
    """Draw the effects of an ablation, and write their table.

    Kinds: `effect` shows each arm's difference from its baseline: a dot per seed, the mean with its
    simultaneous interval, and the equivalence margin. `interaction` shows one factor of a factorial
    design on the x axis, with a line per level of another. `ladder` shows the value of each rung
    and what each step adds. Failed arms are named in their place.

    Prints the table; for factorial designs also main effects and two-factor interactions. The table
    with every value and seed (.csv) and a version to read with the caption (.md) are written next
    to the figure. All files carry the study's digest and the query: `partialnas verify` recomputes
    them.

    Example: `partialnas effects results/partitions --margin 0.2 -o effects.pdf`
    """
    from partialnas.commands.results.ablation import draw_effects

    options = {
        "metric": metric, "against": against, "margin": margin, "condition": condition,
        "style": style, "width": width, "font": font, "caption": caption,
    }  # fmt: skip
    draw_effects(folder, kind, output, _arguments(options, factors=factors))


def _arguments(options: dict[str, Any], **lists: str | None) -> dict[str, Any]:
    """Return the options that are set; comma-separated lists are split."""
    split = {key: [part.strip() for part in text.split(",")] for key, text in lists.items() if text}
    return {key: value for key, value in options.items() if value is not None} | split


def verify(
    file: Annotated[Path, typer.Argument(help="Exported table or figure.")],
    against: Annotated[
        list[Path],
        typer.Option("--against", metavar="DIR", help="Folder of the study. Repeatable."),
    ],
) -> None:
    """Recompute an exported table or figure from the ledger.

    Every file that `table`, `effects`, `pareto`, `figure` and `ratios` write carries the study's
    digest and its query, a figure also the numbers that it shows. This command repeats the query
    and lists each number that differs, with its row, its column and both values. A figure that was
    edited is reported. A figure that was drawn with other fonts is reported too, but does not count
    as a difference.

    Exit codes: 0 every number is equal, 1 something differs, 2 the file carries no stamp, cannot
    be read, or belongs to another study.

    Example: `partialnas verify partitions.tex --against results/partitions`
    """
    from partialnas.commands.results.ablation import show_verdict

    if not show_verdict(file, against):
        raise typer.Exit(1)


def ratios(
    name: Annotated[
        str,
        typer.Argument(metavar="DIR[:TRIAL]", help="Folder that `run` wrote, or a trial of it."),
    ],
    output: Annotated[Path | None, shared.figure_option("DIR/ratios.pdf")] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Table: .csv. Default: next to the figure."),
    ] = None,
    style: shared.StyleOption = "cvpr",
    width: shared.WidthOption = None,
    font: shared.FontOption = None,
    caption: shared.CaptionOption = "full",
) -> None:
    """Draw learned ratios, and write their table.

    Panels: the ratios of one trial over its epochs (the given trial, or the first of the arm with
    the most seeds); the final ratios of each arm over its seeds, next to the static ratio; and, for
    input-dependent ratios, the mean for each class and each kind of input. Prints for each arm how
    well the budget was met, the gap between the trained and the frozen form, the agreement of
    seeds, when the ratios converged, and every warning.

    The table (.csv: every trial, epoch and layer) and a version to read with the caption (.md) are
    written next to the figure.

    Example: `partialnas ratios results/static-vs-dynamic -o ratios.pdf`
    """
    from partialnas.commands.results.ratios import draw_ratios

    look = {"style": style, "width": width, "font": font, "caption": caption}
    draw_ratios(name, output, csv, **look)


def export(
    folder: shared.StudyFolderArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File: .csv, .parquet or .xlsx.")
    ] = Path("trials.csv"),
) -> None:
    """Write all trials as CSV, Parquet or a spreadsheet.

    One row per trial, including failed ones. Columns: `trial`, `digest`, `seed`, `state`,
    `val_accuracy`, `test_accuracy`, `params`, `macs`, `throughput_img_s`, then the study, arm and
    condition, the other metrics and costs, the network's measurement with its protocol (device,
    threads, batch size, resolution, precision, form), why a trial failed, and the metrics of a
    study's own trial function. Learning curves, ratios, proposals and repeated measurements stay in
    the ledger. Accuracies are in percent, log-likelihoods in nats, MACs as counted by fvcore.

    Example: `partialnas export results/quickstart -o trials.parquet`
    """
    from partialnas.commands.results.export import export_trials

    export_trials(folder, output)


def report(
    folder: shared.StudyFolderArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Page: .html. Default: DIR/report.html.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Rewrite it while the study runs, until Ctrl-C.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="Interval of --watch.")] = 30,
) -> None:
    """Write a study as one self-contained HTML page.

    The page holds figures, tables, warnings, and the settings and commands of the study. It opens
    offline, loads nothing, and works on a phone, in print, in light and dark mode, and without
    JavaScript. Point at a network of the front to see its name; click it, or press Enter, for its
    blocks, ratios and learning curves; the arrow keys move between points. The same ledger gives
    the same bytes, and `partialnas verify` compares them.

    With `--watch` the page is rewritten whenever the ledger changes, and reloads in the browser.

    Example: `partialnas report results/quickstart -o quickstart.html`
    """
    from partialnas.commands.results.report import write_page

    write_page(folder, output, watch=watch, every=every)
