import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path as Polygon
from matplotlib.text import Text
from matplotlib.transforms import Bbox, BboxBase

from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.plot import draw_pareto
from partialnas.analysis.pareto.table import make_pareto_table
from partialnas.analysis.plotting.labels import distinct_labels, elide, study_names
from partialnas.analysis.plotting.style import DEFAULT_STYLES, StyleName, figure_style

Frames = Callable[..., pd.DataFrame]


def drawn(frame: pd.DataFrame, x: str, y: str, name: StyleName = "cvpr") -> tuple[Figure, Axes]:
    table = make_pareto_table(Trials(frame=frame), x, y)
    with figure_style(name) as style:
        figure = draw_pareto(table, style)
        figure.draw_without_rendering()
    return figure, figure.axes[0]


def ordinary(frames: Frames) -> pd.DataFrame:
    return frames(40, 2)


def one(frames: Frames) -> pd.DataFrame:
    return frames(1, 1, failed=0)


def ties(frames: Frames) -> pd.DataFrame:
    frame = frames(40, 2)
    coarse = {"val_nll": frame["val_nll"].round(1)}
    return frame.assign(**coarse, throughput_img_s=frame["throughput_img_s"].round(-3))


def duplicates(frames: Frames) -> pd.DataFrame:
    frame = frames(40, 2)
    return pd.concat([frame, frame.assign(digest="x" + frame["digest"])], ignore_index=True)


def constant(frames: Frames) -> pd.DataFrame:
    return frames(40, 2).assign(val_nll=0.5)


def long_names(frames: Frames) -> pd.DataFrame:
    long = "a_baseline_with_a_name_that_is_far_too_long_for_a_legend"
    return frames(40, 2, baselines=(long, "resnet10", "_x$y$", "fasternet_t0", "fasternet_t1"))


def noisy(frames: Frames) -> pd.DataFrame:
    return frames(40, 2).assign(noisy=True, device="NVIDIA GeForce RTX 4090 Laptop GPU")


def two_studies(frames: Frames) -> pd.DataFrame:
    other = frames(40, 2, random=3, folder="no-ledger/other").assign(study="other")
    return pd.concat([frames(40, 2), other], ignore_index=True)


def many(frames: Frames) -> pd.DataFrame:
    return frames(800, 1)


def baselines_alone(frames: Frames) -> pd.DataFrame:
    frame = frames(2, 1, failed=0, baselines=("resnet10", "resnet18"))
    return frame.assign(val_nll=frame["val_nll"].where(frame["baseline"]))


SCENES = [
    *((scene, "cvpr") for scene in (
        ordinary, one, ties, duplicates, constant, long_names, noisy, two_studies, many,
        baselines_alone,
    )),
    (long_names, "neurips"),
]  # fmt: skip


@pytest.mark.parametrize(("scene", "style"), SCENES)
def test_no_text_is_clipped_and_no_label_covers_another_or_a_marker(
    frames: Frames, scene: Callable[[Frames], pd.DataFrame], style: StyleName
) -> None:
    figure, axes = drawn(scene(frames), "throughput_img_s", "val_nll", style)
    page, inside = figure.bbox, axes.bbox
    texts: list[Text] = [*figure.legends[0].get_texts(), axes.xaxis.label, axes.yaxis.label]
    texts += [text for text in figure.texts if text.get_text()]
    for text in texts:
        assert _within(text.get_window_extent(), page), text.get_text()
    labels = [text.get_window_extent() for text in axes.texts]
    assert labels or scene is baselines_alone
    assert not any(a.overlaps(b) for a, b in itertools.combinations(labels, 2))
    clouds = [c for c in axes.collections if isinstance(c, PathCollection)]
    points = np.concatenate([axes.transData.transform(c.get_offsets()) for c in clouds])
    for box in labels:
        assert _within(box, inside)
        assert not any(box.contains(*point) for point in points)


def _within(box: Bbox, page: BboxBase) -> bool:
    across = page.x0 <= box.x0 and box.x1 <= page.x1
    return across and page.y0 <= box.y0 and box.y1 <= page.y1


@pytest.mark.parametrize("x", ["size:min", "size:max"])
@pytest.mark.parametrize("y", ["score:min", "score:max"])
def test_step_line_bounds_exactly_what_the_front_dominates(frames: Frames, x: str, y: str) -> None:
    frame = frames(25, 1)
    frame = frame.assign(size=frame["macs"].astype(float), score=frame["val_nll"])
    table = make_pareto_table(Trials(frame=frame), x, y).rows
    _, axes = drawn(frame, x, y)
    corner = [axes.get_xlim()[x.endswith("min")], axes.get_ylim()[y.endswith("min")]]
    edge = np.vstack([axes.lines[0].get_xydata(), corner])
    rng = np.random.default_rng(0)
    spots = rng.uniform(*np.transpose([axes.get_xlim(), axes.get_ylim()]), (400, 2))
    members = table.loc[table["on_front"], ["size", "score"]].to_numpy(float)
    sign = np.array([1 if key.endswith("min") else -1 for key in (x, y)])
    ahead = (sign * members)[:, None] <= sign * spots
    expected = ahead.all(axis=2).any(axis=0)
    assert 0.05 < expected.mean() < 0.999
    assert (Polygon(edge).contains_points(spots) == expected).all()


def test_scales_follow_the_span(frames: Frames) -> None:
    wide = frames(30, 1)
    _, axes = drawn(wide, "macs", "val_accuracy")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert set(ticks) <= {"0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50", "100"}
    narrow = wide.assign(macs=1_000_000 + wide["trial"])
    assert drawn(narrow, "macs", "val_accuracy")[1].get_xscale() == "linear"
    broken = wide.assign(val_accuracy=wide["val_accuracy"].where(wide["trial"] > 5, 1.0))
    assert drawn(broken, "macs", "val_accuracy")[1].get_yscale() == "linear"


def test_axes_say_unit_direction_and_protocol(frames: Frames) -> None:
    frame = frames(10, 1).assign(processor="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz")
    figure, axes = drawn(frame, "throughput_img_s", "val_accuracy")
    assert axes.get_xlabel() == "Throughput (images/s) ↑"
    assert axes.get_ylabel() == "Validation accuracy (%) ↑"
    line = figure.get_supxlabel().replace("\n", " ")
    assert line == "Intel Xeon Platinum 8481C, 1 thread, batch 32, 28 px, float32, deploy form"
    assert figure.get_figwidth() == DEFAULT_STYLES["cvpr"].width
    assert drawn(frame, "macs", "val_accuracy")[0].get_supxlabel() == ""


def test_baseline_without_a_deploy_form_is_an_error(frames: Frames) -> None:
    frame = frames(10, 1, failed=0, baselines=("resnet10",))
    frame.loc[frame["arm"].eq("resnet10"), "form"] = "training"
    line = drawn(frame, "throughput_img_s", "val_nll")[0].get_supxlabel().replace("\n", " ")
    assert line.endswith("deploy form (resnet10: training form)")


def test_long_texts_are_elided_in_the_middle() -> None:
    assert elide("a" * 24) == "a" * 24
    assert elide("abcdefghij", 5) == "ab…ij"
    assert len(elide("x" * 99)) == 24


def test_elided_names_stay_distinct() -> None:
    names = ["14 px, batch 16: per-layer", "14 px, batch 64: per-layer", "static"]
    assert distinct_labels(names, 18) == ["…16: per-layer", "…64: per-layer", "static"]
    assert distinct_labels(names, 30) == names
    assert distinct_labels([*names, names[0]], 18)[3] == "…16: per-layer"


def test_repeats_are_labeled_by_the_ends_of_their_paths() -> None:
    folders = ["/somewhere/one/run", "/somewhere/two/run", "/elsewhere/last"]
    rows = pd.DataFrame({"folder": folders, "study": ["s", "s", "t"]})
    assert [*study_names(rows).values()] == ["one/run", "two/run", "elsewhere/last"]
    apart = rows.assign(study=["a", "b", "c"])
    assert study_names(apart) == dict(zip(folders, "abc", strict=True))
