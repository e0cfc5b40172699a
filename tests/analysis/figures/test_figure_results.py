"""Results of figure functions, and figures in the caller's own axes and figures."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from partialnas.analysis import (
    FigureResult,
    audit_figure,
    effects_figure,
    load_trials,
    pareto_figure,
    ratio_figure,
    study_figure,
)
from partialnas.analysis.figures.kinds import FIGURE_KINDS
from partialnas.space.errors import UserError

SHIPPED = Path(__file__).parents[3] / "analysis" / "notebooks" / "ledgers"
SEARCH, ABLATION = SHIPPED / "quickstart", SHIPPED / "partitions"
Draw = Callable[..., FigureResult]

OWN_STYLE = {
    **{"font.family": ["DejaVu Serif"], "font.size": 7.0, "axes.labelsize": 7.5},
    **{"xtick.labelsize": 5.5, "ytick.labelsize": 5.5, "text.parse_math": True},
}


def pareto(**options: Any) -> FigureResult:
    return pareto_figure(load_trials(SEARCH), **options)


def effects(**options: Any) -> FigureResult:
    return effects_figure(ABLATION, **options)


def ratios(**options: Any) -> FigureResult:
    return ratio_figure(SHIPPED / "static-vs-dynamic", **options)


def audit(**options: Any) -> FigureResult:
    return audit_figure(SEARCH, **options)


def study(kind: str) -> Draw:
    return lambda **options: study_figure(kind, SEARCH, **options)


KINDS = [kind for kind in FIGURE_KINDS if kind not in ("attainment", "importance")]
"""Kinds that one study of few networks has enough data for."""

ALL: dict[str, Draw] = {"pareto": pareto, "effects": effects, "ratios": ratios, "audit": audit}
ALL |= {kind: study(kind) for kind in KINDS}
SEVERAL_PANELS = {"ratios", "audit", "convergence", "cost"}


QUICK = {"pareto", "effects", "ratios", "audit", "convergence"}
NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in sorted(ALL)
]
"""All figures; the default tests draw those whose layouts differ most."""


@pytest.fixture(autouse=True)
def own_style() -> Iterator[None]:
    with mpl.rc_context(OWN_STYLE):
        yield
    plt.close("all")


def families(figure: Any) -> set[str]:
    texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
    assert texts
    return {family for text in texts for family in text.get_fontfamily()}


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_in_a_subfigure_keeps_the_callers_style(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    figure = plt.figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subfigures(1, 2)
    other = right.subplots()
    other.set_xlabel("untouched")
    engine, settings = figure.get_layout_engine(), dict(mpl.rcParams)
    result = ALL[name](figure=left)
    assert result.figure is left
    assert result.axes == tuple(left.axes)
    assert (len(result.axes) > 1) == (name in SEVERAL_PANELS - {"audit"})
    assert len(result.table) > 0
    assert result.caption.endswith(".")
    assert result.files == ()
    assert [*tmp_path.iterdir()] == []
    assert dict(mpl.rcParams) == settings
    assert families(figure) == {"DejaVu Serif"}
    assert figure.get_layout_engine() is engine
    assert tuple(figure.get_size_inches()) == (7, 3)
    assert other.get_xlabel() == "untouched"
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("name", NAMES)
def test_one_panel_goes_into_the_callers_axes(name: str) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(7, 3))
    if name in SEVERAL_PANELS:
        if name in ("ratios", "audit"):
            with pytest.raises(TypeError, match="ax"):
                ALL[name](ax=axes[0])
        else:
            with pytest.raises(UserError, match=r"2 panels .* pass figure="):
                ALL[name](ax=axes[0])
        assert not axes[0].has_data()
        return
    result = ALL[name](ax=axes[0])
    assert result.axes == (axes[0],)
    assert result.figure is figure
    assert axes[0].has_data()
    assert not axes[1].has_data()
    assert len(figure.axes) == 2
    assert figure.legends == []
    assert figure.get_supxlabel() == ""
    assert figure.get_layout_engine() is None
    assert families(axes[0]) == {"DejaVu Serif"}


def test_font_sizes_are_the_callers() -> None:
    figure, axes = plt.subplots(layout="constrained")
    effects(ax=axes)
    assert axes.xaxis.label.get_fontsize() == 7.5
    assert {label.get_fontsize() for label in axes.get_yticklabels()} == {5.5}
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("draw", [effects, pareto], ids=["effects", "pareto"])
@pytest.mark.parametrize("layout", [None, "constrained"])
def test_one_of_three_panels_has_a_short_label_and_a_legend_off_its_data(
    draw: Draw, layout: Any
) -> None:
    mpl.rcParams.update({"font.size": 10, "axes.labelsize": 10})
    figure, grid = plt.subplots(1, 3, figsize=(10, 3), layout=layout)
    if layout is None:
        figure.subplots_adjust(left=0.05, right=0.97, bottom=0.2, wspace=0.5)
    axes = grid[1]
    draw(ax=axes)
    figure.draw_without_rendering()
    legend = axes.get_legend()
    assert legend is not None
    box, page = legend.get_window_extent(), figure.bbox
    assert axes.bbox.x0 - 1 <= box.x0
    assert box.x1 <= axes.bbox.x1 + 1
    label = axes.xaxis.label
    assert label.get_text().count("\n") <= 1
    assert all(page.containsx(x) for x in label.get_window_extent().intervalx)
    assert box.y0 >= page.y0
    if layout == "constrained":
        assert box.y1 <= label.get_window_extent().y0
        return
    for collection in axes.collections:  # markers and ends of bars
        at = collection.get_offset_transform().transform(collection.get_offsets())
        assert not any(box.contains(x, y) for x, y in at)
    for line in axes.lines:
        if len({*line.get_xdata()}) > 1:  # not the zero line
            path = line.get_transform().transform_path(line.get_path())
            assert not path.intersects_bbox(box, filled=False)


def test_a_label_with_room_stays_on_one_line_with_its_arrow() -> None:
    mpl.rcParams.update({"font.size": 10, "axes.labelsize": 10, "ytick.labelsize": 10})
    for size, layout in (((4, 3), None), ((4, 3), "constrained"), ((4, 1.2), "constrained")):
        figure, axes = plt.subplots(figsize=size, layout=layout)
        study("curves")(ax=axes)
        figure.draw_without_rendering()
        lines = axes.get_ylabel().split("\n")
        assert len(lines) == (1 if size == (4, 3) else 2)
        assert all(len(line) > 2 for line in lines)


def test_a_figure_without_a_path_shows_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = pareto()
    shown = result._repr_png_()
    assert shown is not None
    png, size = shown
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    assert image.width / size["width"] == pytest.approx(image.height / size["height"], rel=0.01)
    assert image.width > 2 * size["width"]
    assert isinstance(result.figure, Figure)
    assert result.figure is result.figure
    assert result.axes == tuple(result.figure.axes)
    assert [*tmp_path.iterdir()] == []
    assert pareto(ax=plt.figure().subplots())._repr_png_() is None
    assert repr(result) == f"<ParetoFigure: table of {len(result.table)} rows, no files>"


def test_a_path_gives_the_same_files_with_and_without_axes(tmp_path: Path) -> None:
    plain = effects(path=tmp_path / "a" / "e.svg")
    axes = plt.figure().subplots()
    both = effects(path=tmp_path / "b" / "e.svg", ax=axes)
    assert [path.name for path in both.files] == ["e.svg", "e.csv", "e.md"]
    assert [p.read_bytes() for p in both.files] == [p.read_bytes() for p in plain.files]
    assert both.axes == (axes,)


def test_a_dry_run_is_marked_in_the_callers_axes(tmp_path: Path, ledgers: Any) -> None:
    records = [
        {"state": "done", "metrics": {"val_nll": n / 9}, "cost": {"macs": 1000 * n}}
        for n in (1, 2, 3)
    ]
    study = {"study": "quickstart-rehearsal"}
    folder = ledgers(tmp_path / "dry", records, study=study)
    axes = plt.figure().subplots()
    pareto_figure(load_trials(folder), ax=axes, x="macs", y="val_nll")
    assert "rehearsal" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ax": [1, 2]}, "ax: expected one Axes .* of type list"),
        ({"figure": "front.pdf"}, "figure: expected a Figure .* of type str"),
    ],
)
def test_other_targets_are_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        effects(**options)


def test_two_targets_are_a_mistake() -> None:
    figure, axes = plt.subplots()
    with pytest.raises(UserError, match="ax= or figure=, not both"):
        effects(ax=axes, figure=figure)
