import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text

from partialnas.analysis.plotting.style import DEFAULT_STYLES, StyleName, figure_style
from partialnas.analysis.ratios.figure import ratio_panels
from partialnas.analysis.ratios.plot import SERIES_STYLES, RatioPanels, boundary_label, draw
from partialnas.analysis.ratios.tables import ratio_table

Ledgers = Callable[..., Path]
Learned = Callable[..., list[dict[str, Any]]]
Records = list[dict[str, Any]]
LONG = "a learned arm with a name that is far too long for any legend"


def ordinary(learned: Learned) -> Records:
    return learned("dynamic", 3, 12)


def one_epoch(learned: Learned) -> Records:
    return learned("dynamic", 1, 1, depths=(1, 1, 1, 1))


def deep(learned: Learned) -> Records:
    return learned("dynamic", 2, 30, depths=(2, 3, 20, 4)) + learned(
        LONG, 2, 30, depths=(2, 3, 20, 4), random=1, mlp_ratio=3
    )


def many(learned: Learned) -> Records:
    arms = [learned(f"arm {i}", 2, 10, random=i, mlp_ratio=i + 1) for i in range(8)]
    return list(itertools.chain.from_iterable(arms))


def by_image(learned: Learned) -> Records:
    return learned("images", 2, 10, per="input", depths=(1, 2, 4, 1))


def two_boundaries(learned: Learned) -> Records:
    both = [{"learned": {"budget": "static"}}] * 2
    return learned("both", 2, parts=3, operations=["conv", "pool", "identity"], ratio=both)


def panels_of(
    records: Records, folder: Path, ledgers: Ledgers, trial: int | None = None
) -> RatioPanels:
    study = {"search": None, "recipe": {"epochs": records[0]["fidelity"]}}
    return ratio_panels(ratio_table(ledgers(folder, records, study=study)), trial)


def drawn(panels: RatioPanels, name: StyleName = "cvpr") -> Figure:
    with figure_style(name) as style:
        figure = draw(panels, style)
        figure.draw_without_rendering()
    return figure


SCENES = [
    (ordinary, "cvpr"),
    (one_epoch, "cvpr"),
    (deep, "cvpr"),
    (many, "cvpr"),
    (by_image, "cvpr"),
    (two_boundaries, "cvpr"),
    (by_image, "neurips"),
]


@pytest.mark.parametrize(("scene", "style"), SCENES)
def test_no_text_is_clipped_or_overlaps_another(
    tmp_path: Path,
    ledgers: Ledgers,
    learned: Learned,
    scene: Callable[[Learned], Records],
    style: StyleName,
) -> None:
    figure = drawn(panels_of(scene(learned), tmp_path, ledgers), style)
    assert figure.get_figwidth() == DEFAULT_STYLES[style].width
    assert figure.get_figheight() < 8.9  # inches of a page
    page = figure.bbox
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    assert len(boxes) > 8
    for text, box in boxes:
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text
    inner = [(text, box.padded(-0.5)) for text, box in boxes]
    pairs = itertools.combinations(inner, 2)
    covered = [(a, b) for (a, one), (b, two) in pairs if one.overlaps(two)]
    assert covered == []


def texts(figure: Figure) -> list[Text]:
    texts = []
    for axes in figure.findobj(Axes):
        if not axes.get_visible():
            continue
        legend = axes.get_legend()
        texts += [axes.xaxis.label, axes.yaxis.label, *axes.texts]
        texts += legend.get_texts() if legend else []
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(limits)
            ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            texts += [tick.label1 for tick in ticks]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def test_the_map_shows_the_ratio_of_every_epoch_and_block(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    (record,) = learned(seeds=1, epochs=10)
    axes = drawn(panels_of([record], tmp_path, ledgers)).axes[0]
    (mesh,) = [c for c in axes.collections if isinstance(c, QuadMesh)]
    expected = [[*epoch.ratios.values()] for epoch in record["ratios"]]
    assert np.asarray(mesh.get_array()).tolist() == np.transpose(expected).tolist()
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "1.1",
        "2.1",
        "3.1",
        "3.2",
        "4.1",
    ]
    assert axes.get_ylim() == (4.5, -0.5)  # the first block on top
    assert [text.get_text() for text in axes.texts] == ["frozen from 7"]
    rules = {line.get_ydata()[0] for line in axes.lines if line.get_xdata()[0] == 0}  # type: ignore[index]
    assert rules == {0.5, 1.5, 3.5}


def test_final_ratios_show_means_deviations_seeds_and_the_static_ratio(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    records = learned(seeds=3, epochs=10)
    axes = drawn(panels_of(records, tmp_path, ledgers)).axes[1]
    ends = np.array([[*record["ratios"][-1].ratios.values()] for record in records])
    clouds = [c for c in axes.collections if isinstance(c, PathCollection)]
    dots, marks = (cloud.get_offsets() for cloud in clouds)
    assert sorted(dots[:, 0]) == pytest.approx(sorted(ends.ravel()))
    assert marks[:, 0].tolist() == pytest.approx(ends.mean(axis=0).tolist())
    assert marks[:, 1].tolist() == [0, 1, 2, 3, 4]
    bars, static = (c for c in axes.collections if isinstance(c, LineCollection))
    spans = [abs(np.diff(segment[:, 0])[0]) for segment in bars.get_segments()]
    assert spans == pytest.approx((2 * ends.std(axis=0, ddof=1)).tolist())
    assert {x for segment in static.get_segments() for x in segment[:, 0]} == {0.25}
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] >= (ends.mean(axis=0) + ends.std(axis=0, ddof=1)).max()


def test_classes_are_drawn_as_differences_from_their_mean(
    tmp_path: Path, ledgers: Ledgers, learned: Learned
) -> None:
    (record,) = learned(seeds=1, epochs=4, per="input", classes=6)
    figure = drawn(panels_of([record], tmp_path, ledgers))
    axes = figure.axes[2]
    (mesh,) = [c for c in axes.collections if isinstance(c, QuadMesh)]
    ratios = np.array([[*ratios.values()] for ratios in record["ratios"][-1].per_class.values()])
    expected = ratios - ratios.mean(axis=1, keepdims=True)
    assert np.asarray(mesh.get_array()) == pytest.approx(expected)
    assert mesh.norm.vmin == pytest.approx(-np.abs(expected).max())
    assert mesh.norm.vmax == pytest.approx(np.abs(expected).max())
    labels = [axes.get_xlabel() for axes in figure.axes[:4]]
    assert labels == ["(a) epoch", "(b) final ratio", "(c) class", "(d) ratio by input"]
    names = [text.get_text().strip() for text in figure.axes[3].get_legend().get_texts()]
    assert names == ["clean", "blurred", "noisy", "low-resolution"]


def test_series_have_distinct_styles(tmp_path: Path, ledgers: Ledgers, learned: Learned) -> None:
    axes = drawn(panels_of(many(learned), tmp_path, ledgers)).axes[1]
    names = [text.get_text().strip() for text in axes.get_legend().get_texts()]
    assert names == [*(f"arm {i}" for i in range(6)), "static"]
    marks = [c for c in axes.collections if isinstance(c, PathCollection)][1::2]
    assert (
        len({tuple(mark.get_facecolor()[0]) for mark in marks})
        == len(marks)
        == len(SERIES_STYLES)
        == 6
    )
    assert len({mark.get_paths()[0].vertices.tobytes() for mark in marks}) == 6
    rows = [set(mark.get_offsets()[:, 1].round(6)) for mark in marks]
    assert not any(a & b for a, b in itertools.combinations(rows, 2))


def test_blocks_are_labeled_by_stage_and_number() -> None:
    assert [boundary_label(p) for p in ((1, 1, 1), (3, 12, 1), (2, 1, 2))] == [
        "1.1",
        "3.12",
        "2.1 p2",
    ]
