"""The verbs `pareto` and `figure`."""

from pathlib import Path
from typing import Any

from partialnas.analysis.figures.kinds import study_figure
from partialnas.analysis.formats.look import LOOK_OPTIONS
from partialnas.analysis.frames.load import as_trials, empty_trials, load_trials
from partialnas.analysis.pareto.figure import PARETO_ARGUMENTS, ParetoOptions, pareto_figure
from partialnas.commands.studies.status import front_table
from partialnas.commands.terminal import frame_table, make_console, print_files, print_table

_FAMILIES_FILE = Path("families.pdf")


def draw_front(folders: list[Path], output: Path | None, arguments: dict[str, Any]) -> None:
    """Draw the front of studies, print its table, and name the files written.

    Args:
        folders: the studies' folders; empty to draw published families alone.
        output: file of the figure; by default `front.pdf` in the first folder.
        arguments: arguments of `pareto_figure`, its options, and `timing` (see `load`).
    """
    timing = arguments.pop("timing")
    only_families = arguments["families"] and not folders
    trials = as_trials(empty_trials()) if only_families else load_trials(folders, timing=timing)
    output = output or (folders[0] / "front.pdf" if folders else _FAMILIES_FILE)
    figure = {key: arguments.pop(key) for key in (*PARETO_ARGUMENTS, *LOOK_OPTIONS)}
    result = pareto_figure(trials, output, **figure, options=ParetoOptions(**arguments))
    console = make_console()
    if folders:
        shown = trials.under(figure["condition"])
        print_table(console, front_table(shown, figure["x"], figure["y"], drawn=True))
    print_files(console, result.files)


def draw_figure(
    kind: str, folders: list[Path], output: Path | None, arguments: dict[str, Any]
) -> None:
    """Draw another figure of studies, print its table and caption, and name the files written."""
    result = study_figure(kind, folders, output or folders[0] / f"{kind}.pdf", **arguments)
    console = make_console()
    print_table(console, frame_table(kind, result.readable))
    if result.caption:
        console.print(result.caption)
    print_files(console, result.files)
