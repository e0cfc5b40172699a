"""Figures from the command line: drawn, their tables printed, the files named."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from partialnas.commands.status import front_table
from partialnas.commands.terminal import plain_table

if TYPE_CHECKING:
    import pandas as pd

_OF_FIGURE = ("x", "y", "condition", "style", "width")
_ALONE = Path("families.pdf")


def draw_front(folders: list[Path], output: Path | None, asked: dict[str, Any]) -> None:
    """Draw the front of studies, print its table, and name the files written.

    Args:
        folders: of the studies; none for reference families alone.
        output: the figure; without it `front.pdf` in the first folder.
        asked: arguments of `pareto_figure`, those of its options, and `timing` (see `load`).
    """
    from partialnas.analysis import ParetoOptions, pareto_figure
    from partialnas.analysis.frames.load import empty_trials, load_trials
    from partialnas.analysis.frames.trials import as_trials

    timing = asked.pop("timing")
    families_alone = asked["families"] and not folders
    trials = as_trials(empty_trials()) if families_alone else load_trials(folders, timing=timing)
    output = output or (folders[0] / "front.pdf" if folders else _ALONE)
    options = ParetoOptions(**{key: v for key, v in asked.items() if key not in _OF_FIGURE})
    figure = {key: asked[key] for key in _OF_FIGURE}
    drawn = pareto_figure(trials, output, **figure, options=options)
    console = Console()
    if folders:
        console.print(front_table(trials.under(asked["condition"]), asked["x"], asked["y"]))
    _name_files(console, drawn.files)


def draw_figure(kind: str, folders: list[Path], output: Path | None, asked: dict[str, Any]) -> None:
    """Draw one of the other figures, print its short table, and name the files written."""
    from partialnas.analysis.figures.kinds import study_figure

    drawn = study_figure(kind, folders, output or folders[0] / f"{kind}.pdf", **asked)
    console = Console()
    console.print(_as_table(kind, drawn.readable))
    console.print(drawn.caption, markup=False, highlight=False)
    _name_files(console, drawn.files)


def _as_table(title: str, readable: "pd.DataFrame") -> Table:
    table = plain_table(title)
    for place, head in enumerate(readable.columns):
        table.add_column(Text(str(head)), justify="right" if place else "left")
    for row in readable.astype(str).itertuples(index=False):
        table.add_row(*map(Text, row))
    return table


def _name_files(console: Console, files: Iterable[Path]) -> None:
    for path in files:
        console.print(f"wrote {path}", soft_wrap=True, highlight=False)
