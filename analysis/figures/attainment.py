"""The figure of attainment: what the median and the quartiles of repeated searches reach."""

from collections.abc import Sequence
from pathlib import Path

from partialnas.analysis.figures.base import Asked, Shown, trials_of
from partialnas.analysis.formats.caption_sentences import compute_used
from partialnas.analysis.pareto.attainment import attainment
from partialnas.analysis.pareto.plot import Extras, draw
from partialnas.analysis.pareto.table import drawn_columns, pareto_table


def attainment_shown(folders: Sequence[Path], asked: Asked) -> Shown:
    """The surfaces that repeated searches attain, drawn over the trials of all of them.

    The axes are those of the Pareto figure, with `metric` upwards. `partialnas pareto --attainment`
    draws the same with every option of that figure; this one's table is that of the surfaces.
    """
    frame = trials_of(folders, asked)
    points = pareto_table(frame, y=asked.metric)
    x, y = points.attrs["x"], points.attrs["y"]
    surfaces = attainment(frame, {x.key: x.better, y.key: y.better})
    told = surfaces.assign(
        **{q.key: [q.text(value) for value in surfaces[q.key]] for q in (x, y)}
    ).rename(columns={x.key: x.label, y.key: y.label, "share": "Attained by (%)"})
    caption = (
        f"{y.label} against {x.label}: what 25, 50 and 75 % of repeated searches attain (empirical "
        f"attainment function of the fronts of seed means). {compute_used(frame)}"
    )
    columns = drawn_columns(x, y)
    return Shown(
        table=surfaces,
        readable=told,
        caption=caption,
        drawn=surfaces.merge(points[columns], how="outer", on=[x.key, y.key], sort=False),
        draw=lambda look: draw(points, x, y, look, Extras(surfaces=surfaces)),
    )
