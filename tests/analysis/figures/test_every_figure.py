"""Properties of every figure, table and report that the registry of exports builds."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from partialnas.analysis.figures.kinds import FIGURE_KINDS
from partialnas.analysis.formats.artefact import Drawing
from partialnas.analysis.formats.look import find_look
from partialnas.analysis.frames.provenance import Query
from partialnas.analysis.plotting.fitting import ensure_axes_height, fit_labels
from partialnas.analysis.plotting.style import WIDTHS, figure_style, find_style
from partialnas.analysis.registry import build_artefact
from partialnas.analysis.verification import verify
from partialnas.cli import main
from partialnas.runs.config.design import Design, DesignArm, Factor
from partialnas.space.errors import UserError

Factory = Callable[..., Any]
Request = tuple[str, list[str], dict[str, Any]]
"""A verb, the studies' names, and the arguments."""

SHIPPED = Path(__file__).parents[3] / "analysis" / "notebooks" / "ledgers"
NARROW = {"style": "slides", "width": "column"}
TWO = ["quickstart", "quickstart-random"]
LONG = "a level with a name that is so long that no axis has room for it"
FIGURES: dict[str, Request] = {
    "front": ("pareto", ["quickstart"], {}),
    "sizes": ("pareto", ["quickstart"], {"size": "params"}),
    "two fronts": ("pareto", TWO, {"x": "macs", "log": "xy", "size": "macs"}),
    "families": (
        "pareto",
        ["quickstart"],
        {"x": "params", "y": "val_accuracy", "clip": True, "probability": True},
    ),
    "attained": ("pareto", ["quickstart-random", "again"], {"attainment": True, "size": "params"}),
    **{
        kind: ("figure", ["quickstart"], {"kind": kind})
        for kind in FIGURE_KINDS
        if kind != "attainment"
    },
    "attainment": ("figure", ["quickstart-random", "again"], {"kind": "attainment"}),
    "two convergences": ("figure", TWO, {"kind": "convergence"}),
    "two distributions": ("figure", TWO, {"kind": "edf", "metric": "val_accuracy"}),
    "two costs": ("figure", TWO, {"kind": "cost"}),
    "two curves": ("figure", TWO, {"kind": "curves"}),
    "effects": ("effects", ["partitions"], {"margin": 0.05}),
    "effects of many": ("effects", ["static-vs-dynamic"], {}),
    "ladder": ("effects", ["ladder"], {}),
    "interactions": ("effects", ["grid"], {"kind": "interaction"}),
    "effects of a grid": ("effects", ["grid"], {"kind": "effect"}),
    "ratios": ("ratios", ["static-vs-dynamic"], {}),
    "audit": ("audit", ["quickstart"], {}),
}
TEXTS: dict[str, Request] = {
    "table": ("table", ["partitions"], {}),
    "table of a search": ("table", ["quickstart"], {}),
    "report": ("report", ["quickstart"], {}),
    "report of learned ratios": ("report", ["static-vs-dynamic"], {}),
}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, ablations: Factory) -> Mapping[str, Path]:
    """Return the studies that ship with the notebooks, a ladder and a factorial design."""
    root = tmp_path_factory.mktemp("studies")
    names = ["plain", "+ channel attention", "+ self-attention in the last stage", LONG]
    rungs = tuple(DesignArm(name=n, against=names[0] if n != names[0] else None) for n in names)
    factors = (
        Factor(name="attention in all stages", levels=("none", "channel"), baseline="none"),
        Factor(name="parts", levels=("2", "3", LONG), baseline="2"),
        Factor(name="ratio", levels=("1/8", "1/4"), baseline="1/8"),
    )
    designs = {"ladder": Design(kind="ladder", arms=rungs), "grid": _grid(factors)}
    folders = {
        name: ablations(
            root / name,
            {
                arm.name: {seed: 90 + i + seed % 2 / 9 for seed in range(3)}
                for i, arm in enumerate(d.arms)
            },
            d,
            study={"study": name, "objectives": {"val_accuracy": "max"}},
        )
        for name, d in designs.items()
    }
    again = shutil.copytree(SHIPPED / "quickstart-random", root / "again")
    return {**{path.name: path for path in SHIPPED.iterdir()}, **folders, "again": again}


def _grid(factors: tuple[Factor, ...]) -> Design:
    names = [factor.name for factor in factors]
    cells = [*itertools.product(*(factor.levels for factor in factors))]
    called = [", ".join(map("=".join, zip(names, cell, strict=True))) for cell in cells]
    arms = tuple(
        DesignArm(
            name=name,
            levels=dict(zip(names, cell, strict=True)),
            against=called[0] if name != called[0] else None,
        )
        for name, cell in zip(called, cells, strict=True)
    )
    return Design(kind="factorial", factors=factors, arms=arms)


DRAWINGS: dict[tuple[str, str], Drawing] = {}
"""Drawings of figures by study folder and name; their data are the same in every look."""


def _draw(studies: Mapping[str, Path], name: str, look: dict[str, str]) -> Figure:
    verb, names, arguments = FIGURES[name]
    folders = [studies[study] for study in names]
    key = (str(folders[-1]), name)
    if key not in DRAWINGS:
        drawing = build_artefact(folders, Query(verb=verb, arguments=arguments)).drawing
        assert drawing is not None
        DRAWINGS[key] = drawing
    drawing = replace(DRAWINGS[key], look=find_look(**look))
    with drawing.style() as style:
        figure = drawing.draw(style).get_figure(root=True)
        fit_labels(figure)
        figure.draw_without_rendering()
    return figure


def _assert_readable(figure: Figure, what: str) -> None:
    """Check that no text is cut off or covered by another text or by a legend's marker."""
    boxes = [(text, text.get_window_extent()) for text in _texts(figure)]
    page = figure.bbox.padded(0.5)
    for text, box in boxes:
        left, bottom, right, top = page.extents
        inside = left <= box.x0 and box.x1 <= right and bottom <= box.y0 and box.y1 <= top
        assert inside, (what, text.get_text())
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not _overlap(a, b), (what, one.get_text(), other.get_text())
    for legend, marker in itertools.product(_legends(figure), [*_markers(figure)]):
        for text in legend.get_texts():
            assert not _overlap(marker, text.get_window_extent()), (what, text.get_text())


def _overlap(one: Bbox, other: Bbox, room: float = 0.5) -> bool:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    return across > room and min(one.y1, other.y1) - max(one.y0, other.y0) > room


def _all_axes(figure: Figure) -> list[Axes]:
    visible = [axes for axes in figure.axes if axes.get_visible()]
    children = (child for axes in visible for child in axes.child_axes)
    return [*visible, *(child for child in children if isinstance(child, Axes))]


def _texts(figure: Figure) -> list[Text]:
    texts: dict[int, Text] = {}
    hidden = {id(text) for axes in _all_axes(figure) for text in _hidden_tick_labels(axes)}
    for artist in _visible_artists(figure):
        if isinstance(artist, Text) and artist.get_text().strip() and id(artist) not in hidden:
            texts[id(artist)] = artist
    return [text for text in texts.values() if text.get_window_extent().width]


def _visible_artists(artist: Artist) -> Iterator[Artist]:
    for child in artist.get_children():
        if child.get_visible():
            yield child
            yield from _visible_artists(child)


def _hidden_tick_labels(axes: Axes) -> Iterator[Text]:
    """Yield the labels of ticks outside the limits of their axis."""
    both: list[Axis] = [axes.xaxis, axes.yaxis]
    for axis in both:
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


def _legends(figure: Figure) -> list[Legend]:
    of_axes = [axes.get_legend() for axes in figure.axes]
    return [*figure.legends, *(legend for legend in of_axes if legend is not None)]


def _markers(figure: Figure) -> Iterator[Bbox]:
    for handle in (item for legend in _legends(figure) for item in legend.legend_handles):
        if isinstance(handle, PathCollection):
            x, y = handle.get_offset_transform().transform(handle.get_offsets())[0]
            reach = max(handle.get_sizes()) ** 0.5 / 2 * figure.dpi / 72
            yield Bbox.from_extents(x - reach, y - reach, x + reach, y + reach)


@pytest.mark.parametrize("name", ["sizes", "effects"])
def test_texts_fit_into_crowded_figures(studies: Mapping[str, Path], name: str) -> None:
    _assert_readable(_draw(studies, name, NARROW), name)


NARROWEST = ("eccv", "slides")
"""Styles whose columns have the fewest characters to a line; the others have more room."""

MOST_TEXT = ("sizes", "parallel", "two costs", "effects of a grid", "ladder", "ratios", "audit")


@pytest.mark.slow
@pytest.mark.parametrize(
    "look",
    [
        *({"style": style, "width": "column"} for style in WIDTHS),
        {"style": "cvpr", "width": "page"},
        {"style": "eccv", "width": "column", "font": "serif"},
    ],
    ids=lambda look: "-".join(look.values()),
)
def test_texts_fit_in_every_figure_and_style(
    studies: Mapping[str, Path], look: dict[str, str]
) -> None:
    narrowest = look in [{"style": style, "width": "column"} for style in NARROWEST]
    for name in FIGURES if narrowest else MOST_TEXT:
        _assert_readable(_draw(studies, name, look), name)


def test_the_narrowest_styles_have_the_fewest_characters_to_a_line() -> None:
    columns = {style: find_style(style, "column") for style in WIDTHS}
    order = sorted(WIDTHS, key=lambda s: columns[s].width / columns[s].small_font_size)
    assert {*order[: len(NARROWEST)]} == {*NARROWEST}


@pytest.mark.parametrize(
    ("verb", "study"),
    [
        ("effects", "partitions"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                ("ratios", "static-vs-dynamic"), ("pareto", "quickstart"),
                ("figure curves", "quickstart"),
            )
        ),
    ],
)  # fmt: skip
def test_every_verb_of_figures_has_the_styles_and_their_widths(
    tmp_path: Path, studies: Mapping[str, Path], verb: str, study: str
) -> None:
    path = tmp_path / "f.svg"
    options = ["--style", "neurips", "--width", "column", "-o", str(path)]
    with pytest.raises(SystemExit) as exit_info:
        main([*verb.split(), str(studies[study]), *options])
    assert exit_info.value.code == 0
    wide = find_style("neurips", "column").width * 72
    assert f'width="{wide:g}pt"' in path.read_text()
    verdict = verify(path, [studies[study]])
    assert (verdict.differences, verdict.note) == ((), "")


def test_long_axis_label_breaks_before_its_unit() -> None:
    with figure_style("slides", "column"):
        figure = Figure(figsize=(2, 2), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel="A quantity of some length (in a unit)", ylabel="Short (unit)")
        fit_labels(figure)
    assert axes.get_xlabel() == "A quantity of some length\n(in a unit)"
    assert axes.get_ylabel() == "Short (unit)"


def test_a_figure_grows_until_its_axes_have_their_height() -> None:
    figure = Figure(figsize=(3, 1), layout="constrained")
    axes = figure.add_subplot(xlabel="x")
    ensure_axes_height(axes, 2.0)
    figure.draw_without_rendering()
    assert axes.get_window_extent().height / figure.dpi == pytest.approx(2.0, abs=0.01)
    before = figure.get_figheight()
    ensure_axes_height(axes, 1.0)
    assert figure.get_figheight() == before


SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from partialnas.analysis.registry import build_artefact
from partialnas.analysis.frames.provenance import Query
for name, verb, folders, arguments, drawn in json.load(sys.stdin):
    artefact = build_artefact([*map(Path, folders)], Query(verb=verb, arguments=arguments))
    for suffix in [*artefact.texts, *drawn]:
        print(name, suffix, hashlib.sha256(artefact.content(suffix)).hexdigest())
"""


def _formats(name: str) -> list[str]:
    """Return the formats to compare: PDF, and SVG for one figure of each verb."""
    if name in TEXTS:
        return []
    return [".pdf", ".svg"] if name in ("front", "curves", "effects", "ratios") else [".pdf"]


@pytest.mark.slow
def test_another_process_exports_the_same_bytes(studies: Mapping[str, Path]) -> None:
    requests = [
        (name, verb, [str(studies[study]) for study in names], arguments, _formats(name))
        for name, (verb, names, arguments) in {**FIGURES, **TEXTS}.items()
    ]
    printed = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], input=json.dumps(requests), text=True, check=True,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.splitlines()
        for seed in ("1", "7")
    ]  # fmt: skip
    assert printed[0] == printed[1]
    suffixes = {line.rsplit(" ", 2)[1] for line in printed[0]}
    assert suffixes == {".pdf", ".svg", ".csv", ".md", ".tex", ".html"}


def _trial(number: int, **changes: Any) -> dict[str, Any]:
    cost = {"params": 1000 + number, "macs": 5000 + 10 * number, "macs_core": 1, "activations": 1}
    metrics = {"val_nll": 0.5 + 0.1 * number, "val_accuracy": 80.0 + number}
    return {"state": "done", "cost": cost, "metrics": metrics, **changes}


TASK = json.dumps({"data": "mnist5k", "resolution": 28, "channels": 1, "classes": 10})
LOST = {"metrics": {"val_accuracy": 90.0}}  # the ledger rejects NaN
SAME = {"metrics": {"val_nll": 0.5, "val_accuracy": 90.0}}
FAILED = {"state": "failed", "reason": "the loss is NaN in epoch 2", "metrics": {}}
ODD: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    "planned": [{}, {}],
    "one": [_trial(0)],
    "failed": [_trial(i, **FAILED) for i in range(4)],
    "missing": [_trial(i, **(LOST if i % 2 else {})) for i in range(4)],
    "all missing": [_trial(i, **LOST) for i in range(4)],
    "ties": [_trial(0, digest=f"{i:016x}") for i in range(4)],
    "constant": [_trial(i, **SAME) for i in range(4)],
    "seeds": [
        _trial(i // 2, seed=i % 2, digest=f"{i // 2:016x}", proposal=i // 2) for i in range(6)
    ],
}
VERBS: list[tuple[str, dict[str, Any], str]] = [
    ("pareto", {"x": "macs"}, ".svg"),
    ("pareto", {"x": "macs", "size": "params", "probability": True, "clip": True}, ".svg"),
    ("pareto", {"x": "macs", "attainment": True}, ".svg"),
    *(("figure", {"kind": kind}, ".svg") for kind in FIGURE_KINDS if kind != "importance"),
    ("effects", {}, ".svg"),
    ("effects", {"kind": "interaction"}, ".svg"),
    ("effects", {"kind": "ladder"}, ".svg"),
    ("ratios", {}, ".svg"),
    ("audit", {}, ".svg"),
    ("table", {}, ".tex"),
    ("report", {}, ".html"),
]


OFTEN = "failed"
RARE = [pytest.param(odd, marks=pytest.mark.slow) for odd in ODD if odd != OFTEN]


@pytest.mark.parametrize(
    "arms", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["search", "arms"]
)
@pytest.mark.parametrize("odd", [OFTEN, *RARE])
def test_odd_ledgers_give_a_file_or_a_message(
    tmp_path: Path, ledgers: Factory, odd: str, arms: bool
) -> None:
    records = ODD[odd]
    if arms:
        records = [{**r, "arm": f"arm {r.get('proposal', i)}"} for i, r in enumerate(records)]
    study = {"objectives": {"macs": "min", "val_nll": "min"}, "search": None if arms else {}}
    folder = ledgers(tmp_path / "s", records, study=study, meta={"task": TASK})
    for verb, arguments, suffix in VERBS:
        assert len(_content_or_message(folder, verb, arguments, suffix)) > 20, (verb, arguments)
    assert build_artefact([folder], Query(verb="report", arguments={})).content(".html")


def _content_or_message(folder: Path, verb: str, arguments: dict[str, Any], suffix: str) -> bytes:
    try:
        return build_artefact([folder], Query(verb=verb, arguments=arguments)).content(suffix)
    except UserError as error:
        return str(error).encode()
