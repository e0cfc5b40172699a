"""Figure of attainment: the median and the quartiles of repeated searches."""

from collections.abc import Sequence
from pathlib import Path

from partialnas.analysis.figures.base import FigureRequest, FigureSpec, load_requested_trials
from partialnas.analysis.formats.caption import Caption
from partialnas.analysis.formats.caption_sentences import compute_sentence
from partialnas.analysis.pareto.attainment import attainment_surfaces
from partialnas.analysis.pareto.caption import limit_marks, projection_note
from partialnas.analysis.pareto.plot import ParetoPlotOptions, draw_pareto
from partialnas.analysis.pareto.table import ParetoTable, make_pareto_table, plot_columns


def attainment_figure_spec(folders: Sequence[Path], request: FigureRequest) -> FigureSpec:
    """Return the figure of the surfaces that repeated searches attain, over all their trials.

    The axes are those of the Pareto figure; a requested metric is on the vertical axis.
    `partialnas pareto --attainment` draws the same with every option of the Pareto figure; the
    table of this figure is that of the surfaces.
    """
    trials = load_requested_trials(folders, request)
    table = make_pareto_table(trials, y=request.metric)
    x, y = table.x, table.y
    surfaces = attainment_surfaces(trials, table.axes)
    readable = surfaces.assign(
        **{q.key: [q.text(value) for value in surfaces[q.key]] for q in (x, y)}
    ).rename(columns={x.key: x.label, y.key: y.label, "share": "Attained by (%)"})
    caption = Caption(
        [
            f"{y.label} against {x.label}: surfaces that 25, 50 and 75 % of repeated searches "
            f"attain (empirical attainment function of the fronts of seed means"
            f"{_projected(table)}). Dots: the fronts of the searches.",
            limit_marks(table),
        ],
        [compute_sentence(trials.frame)],
    )
    columns = plot_columns(table)
    return FigureSpec(
        table=surfaces,
        readable=readable,
        caption=caption,
        plot_data=surfaces.merge(table.rows[columns], how="outer", on=[x.key, y.key], sort=False),
        draw=lambda look: draw_pareto(table, look, ParetoPlotOptions(surfaces=surfaces)),
    )


def _projected(table: ParetoTable) -> str:
    """Return that two quantities are shown, if the studies have other objectives."""
    note = projection_note(table, drawn=False)
    return f" in these two quantities; {note}" if note else ""
