"""The command line: parse, call a room, print. Heavy imports stay inside the verbs."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from partialnas.space.errors import MachineError, UserError

app = typer.Typer(
    name="partialnas",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Neural architecture search and ablations for partial-channel networks (PartialNet).",
    epilog="Exit codes: 0 done, 1 a failure of the machine, 2 a mistake in what was asked, "
    "130 interrupted. Every finished trial is kept, whatever happens.",
)

_INTERRUPTED = 130

StudyFile = Annotated[
    Path, typer.Argument(help="A study in YAML, such as search/studies/quickstart.yaml.")
]
StudyFolder = Annotated[Path, typer.Argument(help="The folder that `run` wrote.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the results. Default: results/STUDY.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Apply the study's `quick:` settings.")]
Override = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a setting, keys with dots. Repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Metric = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Trained quantity. Default: the study's first objective."),
]
Against = Annotated[
    str | None,
    typer.Option(metavar="ARM", help="Compare with this arm, or none. Default: the baseline."),
]
Margin = Annotated[
    float | None, typer.Option(metavar="X", help="Difference that makes none: tests equivalence.")
]
Condition = Annotated[
    str | None,
    typer.Option("--condition", metavar="NAME", help="Of a study that has several conditions."),
]
Resolution = Annotated[int, typer.Option(min=1, help="Side of the input in pixels.")]


@app.callback()
def _common(
    _debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Options before the verb."""


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def status(folder: StudyFolder) -> None:
    """Show a study's trials by state, its front, what failed and why, and warnings.

    Reads the ledger only: safe at any time, also while the study runs. Columns are means over
    seeds; the front is that of the study's objectives.

    Example: `partialnas status results/quickstart`
    """
    from partialnas.overview import show_status

    show_status(folder)


@app.command()
def describe(
    architecture: Annotated[
        str, typer.Argument(metavar="ARCH", help="A preset, a JSON file, or a trial as DIR:7.")
    ],
    resolution: Resolution = 224,
    in_chans: Annotated[int, typer.Option(min=1, help="Channels of the input.")] = 3,
    classes: Annotated[int, typer.Option(min=2, help="Classes of the head.")] = 1000,
    json: AsJson = False,
) -> None:
    """Print an architecture's parameters and multiply-accumulates, per block and in all.

    By closed formula, without building the network. `macs` is what fvcore counts (norms and
    pooling included), `macs_core` convolutions and matrix products alone.

    Example: `partialnas describe results/quickstart:7 --resolution 28 --in-chans 1 --classes 10`
    """
    from partialnas.overview import show_architecture
    from partialnas.subjects import find_architecture

    found = find_architecture(architecture)
    show_architecture(found, resolution, in_chans, classes, as_json=json)


@app.command()
def measure(
    architectures: Annotated[
        list[str],
        typer.Argument(metavar="ARCH...", help="Presets, JSON files, trials (DIR:7), timm:NAME."),
    ],
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one forward pass.")] = 32,
    resolution: Resolution = 224,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Fold the norms first, as for shipping.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest time for each.")] = 20.0,
    json: AsJson = False,
) -> None:
    """Measure throughput (img/s) and latency (ms per batch) on a device.

    The first network is the reference: every other is timed in turns with it, so that drift of
    the machine cancels in `relative_throughput`. A figure is marked noisy where the wall clock and
    the processor's time disagree, or where its interval stayed wide.

    Example: `partialnas measure fasternet_t0 partialnet_t0 --batch-size 8 --deploy`
    """
    from partialnas.overview import show_measurements
    from partialnas.runs.measurement import Protocol
    from partialnas.space.values import checked
    from partialnas.subjects import find_subject, measure_subjects

    protocol = checked(
        Protocol,
        {
            "device": device,
            "threads": threads,
            "batch_size": batch_size,
            "precision": precision,
            "form": "deploy" if deploy else "training",
            "max_seconds": seconds,
        },
        "it cannot be measured so",
    )
    subjects = [find_subject(name) for name in architectures]
    show_measurements(measure_subjects(subjects, resolution, protocol), as_json=json)


@app.command()
def pareto(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of studies.")],
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
    condition: Annotated[
        str | None,
        typer.Option("--condition", metavar="NAME", help="Of a study that has several conditions."),
    ] = None,
) -> None:
    """Draw the front of one or several studies, and write the table behind it.

    Axes are any two quantities, by default the study's objectives; `KEY:min` or `KEY:max` says
    which way is better for one that is not known. Beside the figure stand its table (.csv) and its
    readable form with the caption (.md).

    Quantities: `val_accuracy`, `val_nll`, `test_accuracy`, `test_nll`, `throughput_img_s`,
    `latency_ms`, `relative_throughput`, `params`, `macs`, `macs_core`, `activations`,
    `peak_memory_bytes`, `seconds`, and what a study's own trial function tells.

    Example: `partialnas pareto results/quickstart -x params -y val_accuracy -o params.pdf`
    """
    from partialnas.overview import draw_front

    draw_front(folders, x, y, output, condition)


@app.command()
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
    metric: Metric = None,
    against: Against = None,
    margin: Margin = None,
    condition: Condition = None,
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
    from partialnas.ablation_overview import write_table

    asked = {"metric": metric, "against": against, "margin": margin, "condition": condition}
    write_table(folders, output, format_, _given(asked, columns=columns))


@app.command()
def effects(
    folder: StudyFolder,
    kind: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="effect, interaction or ladder. Default: by design."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Figure: .pdf, .svg or .png. Default: in DIR."),
    ] = None,
    metric: Metric = None,
    against: Against = None,
    margin: Margin = None,
    condition: Condition = None,
    factors: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of interaction: across, and lines.")
    ] = None,
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
    from partialnas.ablation_overview import draw_effects

    asked = {"metric": metric, "against": against, "margin": margin, "condition": condition}
    draw_effects(folder, kind, output, _given(asked, factors=factors))


def _given(asked: dict[str, Any], **lists: str | None) -> dict[str, Any]:
    """The arguments that were given; lists written with commas are taken apart."""
    taken = {key: [part.strip() for part in text.split(",")] for key, text in lists.items() if text}
    return {key: value for key, value in asked.items() if value is not None} | taken


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A table or figure that was exported.")],
    against: Annotated[
        list[Path],
        typer.Option("--against", metavar="DIR", help="The study's folder. Repeat for several."),
    ],
) -> None:
    """Recompute an exported table or figure from the ledger, and compare every number.

    Every file that `table`, `effects`, `pareto` and `ratios` write carries the study's digest and
    the query that made it, a figure also the numbers that it shows. This command asks the ledger
    the same, and says for each number that differs its row, its column, and both values. A figure
    that was changed after it was written is told, and so is one that was drawn with other fonts,
    which is no difference.

    Exit codes: 0 every number is equal, 1 something differs, 2 the file carries no stamp, cannot
    be read, or is of another study.

    Example: `partialnas verify partitions.tex --against results/partitions`
    """
    from partialnas.ablation_overview import show_verdict

    if not show_verdict(file, against):
        raise typer.Exit(1)


@app.command()
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
    from partialnas.ratio_overview import draw_ratios

    draw_ratios(name, output, csv)


@app.command()
def export(
    folder: StudyFolder,
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


@app.command("export-model")
def export_model(
    trial: Annotated[str, typer.Argument(metavar="DIR:7", help="A trial of a study.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the files go.")
    ],
    device: Annotated[
        str | None, typer.Option(help="Measures on cpu, cuda or cuda:1. Default: the study's.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest time to measure.")] = 20.0,
) -> None:
    """Write a trial's trained network, learned ratios frozen, ready for timm.

    Proves before it writes: that the static network computes what the trained one does (validation
    images, at most 1e-5 of the largest logit), that it costs what formula, fvcore and record say,
    and how fast it runs beside a hand-specified static network of the same ratios. The trial must
    be done, its weights kept (`recipe.keep_weights: all`), its ratios static or learned per layer.

    Writes `architecture.json` (plain ratios), `model.safetensors`, `config.json` (timm's),
    `train.sh` (a full training with timm's script) and `proof.json`.

    Example: `partialnas export-model results/static-vs-dynamic:7 -o dpconv`
    """
    from partialnas.export_overview import find_trial, show_export
    from partialnas.runs.export_model import export_model

    found = export_model(*find_trial(trial), output, device=device, max_seconds=seconds)
    show_export(found)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; turns errors into one message and an exit code."""
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else arguments))


def _exit_code(arguments: list[str]) -> int:
    try:
        code = int(app(arguments, prog_name="partialnas", standalone_mode=False) or 0)
        if code == _INTERRUPTED:  # Ctrl-C, as typer tells it
            raise KeyboardInterrupt
        return code
    except typer.TyperException as error:  # a word of the command line that does not fit
        return _shown(error)
    except UserError as error:
        return _told(f"error: {error}", arguments, 2)
    except MachineError as error:
        return _told(f"error: {error}", arguments, 1)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # typer takes a file's sudden end for Ctrl-D
            return _defect(error.__cause__, arguments)
        return _told("interrupted; all that was finished is kept", arguments, _INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _defect(error, arguments)


def _defect(error: BaseException, arguments: list[str]) -> int:
    text = f"error: {type(error).__name__}: {error}\n"
    hint = "This is a defect of partialnas; --debug before the verb shows where it happened."
    return _told(text + hint, arguments, 1)


def _shown(error: Any) -> int:
    error.show()
    return int(error.exit_code)


def _told(text: str, arguments: list[str], code: int) -> int:
    if "--debug" in arguments:
        traceback.print_exc()
    print(text, file=sys.stderr)
    return code
