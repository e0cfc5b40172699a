import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from partialnas.analysis import Effects, effects, effects_figure
from partialnas.analysis.ablation import difference_plot, interaction_plot, ladder_plot
from partialnas.analysis.ablation.arm_axes import row_labels
from partialnas.analysis.plotting.style import StyleName, figure_style
from partialnas.runs.config.design import CostMatch, Design, DesignArm, Factor
from partialnas.space.errors import UserError

Ablations = Callable[..., Path]

ACCURACY = {"objectives": {"val_accuracy": "max"}}
VALUES: dict[str, dict[int, float | None]] = {
    "base": {0: 90.0, 1: 91.0, 2: 92.0},
    "same": {0: 90.1, 1: 90.9, 2: 92.0},
    "good": {0: 95.0, 1: 96.2, 2: 97.1},
    "bad": {0: None, 1: None, 2: None},
}


def drawn(plot: Any, result: Any, points: Any, style: StyleName = "cvpr") -> Figure:
    with figure_style(style) as look:
        figure: Figure = plot.draw(result, points, look)
        figure.draw_without_rendering()
    return figure


def texts_of(figure: Figure) -> list[Text]:
    texts = [*figure.texts]
    for axes in filter(Axes.get_visible, figure.axes):
        texts += [*_ticks(axes.xaxis), *_ticks(axes.yaxis), *axes.texts]
        texts += [axes.xaxis.label, axes.yaxis.label]
        texts += axes.get_legend().get_texts() if axes.get_legend() else []
    for legend in figure.legends:
        texts += legend.get_texts()
    return [text for text in texts if text.get_text() and text.get_visible()]


def _ticks(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    pairs = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
    return [label for at, label in pairs if low <= at <= high]


def assert_readable(figure: Figure) -> None:
    page = figure.bbox
    boxes = [(text, text.get_window_extent()) for text in texts_of(figure)]
    for text, box in boxes:
        assert page.x0 - 1 <= box.x0, text.get_text()
        assert box.x1 <= page.x1 + 1, text.get_text()
        assert page.y0 - 1 <= box.y0, text.get_text()
        assert box.y1 <= page.y1 + 1, text.get_text()
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.shrunk(0.95, 0.8).overlaps(b.shrunk(0.95, 0.8)), (
            one.get_text(), other.get_text(),
        )  # fmt: skip


def dots(axes: Axes, label: str) -> list[tuple[float, float]]:
    for artist in axes.collections:
        if isinstance(artist, PathCollection) and str(artist.get_label()).startswith(label):
            return [(float(x), float(y)) for x, y in artist.get_offsets().tolist()]
    return []


def ladder_of(names: list[str]) -> Design:
    arms = (DesignArm(name=n, against=None if n == names[0] else names[0]) for n in names)
    return Design(kind="ladder", arms=tuple(arms))


def grid_of(*factors: Factor) -> tuple[Design, dict[str, dict[int, float]]]:
    names = [factor.name for factor in factors]
    cells = [*itertools.product(*(factor.levels for factor in factors))]
    labels = [", ".join(f"{n}={v}" for n, v in zip(names, cell, strict=True)) for cell in cells]
    arms = tuple(
        DesignArm(
            name=labels[i],
            levels=dict(zip(names, cell, strict=True)),
            against=None
            if not i
            else ", ".join(f"{n}={v}" for n, v in zip(names, cells[0], strict=True)),
        )
        for i, cell in enumerate(cells)
    )
    values = {arm.name: {0: 90.0 + i, 1: 91.5 + i} for i, arm in enumerate(arms)}
    return Design(kind="factorial", factors=factors, arms=arms), values


PARTS = Factor(name="parts", levels=("2", "3", "4"), baseline="2")
ATTENTION = Factor(name="attention_in_stage", levels=("none", "channel"), baseline="none")
RATIO = Factor(name="ratio", levels=("1/8", "1/4"), baseline="1/8")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, ablations: Ablations) -> Effects:
    design, values = grid_of(PARTS, ATTENTION, RATIO)
    return effects(ablations(tmp_path_factory.mktemp("grid") / "s", values, design, study=ACCURACY))


@pytest.mark.parametrize("style", ["cvpr", pytest.param("neurips", marks=pytest.mark.slow)])
def test_effect_plot_shows_paired_differences_means_and_failed_arms(
    tmp_path: Path, ablations: Ablations, style: StyleName
) -> None:
    result = effects(ablations(tmp_path / "s", VALUES, study=ACCURACY), margin=0.5)
    points = difference_plot.effect_points(result)
    seeds = points[points["seed"].notna() & points["arm"].eq("good")]
    assert seeds["value"].tolist() == pytest.approx([5.0, 5.2, 5.1])
    figure = drawn(difference_plot, result, points, style)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["same", "good", "bad"]
    assert sorted(x for x, _ in dots(axes, "seed")) == pytest.approx(
        [-0.1, 0.0, 0.1, 5.0, 5.1, 5.2], abs=1e-9
    )
    assert dots(axes, "mean") == [(pytest.approx(0, abs=1e-9), 0), (pytest.approx(5.1), 1)]
    assert [(text.get_text(), text.xy[1]) for text in axes.texts] == [("failed", 2)]
    assert (
        figure.get_supxlabel()
        == "Δ Validation accuracy (percentage points)\nfrom base (better\u00a0→)"
    )
    assert "within ±0.5" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert_readable(figure)


def test_rows_of_strata_keep_full_names_and_unmatched_arms_are_marked(
    tmp_path: Path, ablations: Ablations
) -> None:
    matched = CostMatch(
        quantity="macs", target=100.0, before=130.0, reached=130.0, width=((8,), (8,)),
        mlp_ratio=("2", "2"), problem="no width fits",
    )  # fmt: skip
    arms, values = [], {}
    for size in ("a small one", "a medium one", "a large one"):
        base = f"size={size}, baseline"
        arms += [
            DesignArm(name=base, levels={"size": size, "parts": "2"}),
            DesignArm(
                name=f"size={size}, parts=3", levels={"size": size, "parts": "3"}, against=base,
                matched=matched if size == "a large one" else None,
            ),
        ]  # fmt: skip
    for index, arm in enumerate(arms):
        values[arm.name] = {seed: 90.0 + index + seed / 10 * (1 + index % 2) for seed in range(3)}
    design = Design(kind="one-factor", arms=tuple(arms), match="macs", within=("size",))
    result = effects(ablations(tmp_path / "s", values, design, study=ACCURACY))
    figure = drawn(difference_plot, result, difference_plot.effect_points(result))
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == [
        "size=a small one, parts=3", "size=a medium one, parts=3", "size=a large one, parts=3 †",
    ]  # fmt: skip
    title = figure.get_supxlabel()
    assert "from the baseline with the same size" in title
    assert "†: macs not equal" in title
    assert_readable(figure)


def test_long_names_are_wrapped_in_full(tmp_path: Path, ablations: Ablations) -> None:
    names = ["base", *(f"without the {part} part of a long story about channels" for part in "xyz")]
    values = {name: {0: 90.0 + i, 1: 91.0 + i * i} for i, name in enumerate(names)}
    arms = tuple(
        DesignArm(name=name, levels={"a": name}, against="base" if name != "base" else None)
        for name in names
    )
    design = Design(kind="leave-one-out", arms=arms, factors=())
    result = effects(ablations(tmp_path / "s", values, design, study=ACCURACY))
    figure = drawn(difference_plot, result, difference_plot.effect_points(result))
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [row.replace("\n", " ") for row in rows] == names[1:]
    assert_readable(figure)


def test_long_names_of_a_factorial_design_become_their_levels(grid: Effects) -> None:
    result = grid
    figure = drawn(difference_plot, result, difference_plot.effect_points(result))
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows[:4] == ["Ratio=1/4", "channel", "channel · Ratio=1/4", "Parts=3"]
    title = figure.get_supxlabel()
    assert "from Parts=2, Attention i…age=none, Ratio=1/8" in title
    assert "rows:" not in title
    assert_readable(figure)


def test_rows_of_switches_are_named_by_what_is_switched() -> None:
    factors = (
        Factor(name="pat_sp", levels=("false", "true"), baseline="false"),
        Factor(name="augmentation", levels=("none", "mixup"), baseline="none"),
        Factor(name="shortcut", levels=("with", "without"), baseline="with"),
    )
    design, _ = grid_of(*factors)
    names = [arm.name for arm in design.arms]
    assert row_labels(names, design) == [
        "baseline", "no Shortcut", "mixup", "mixup · no Shortcut", "PAT_sp", "PAT_sp · no Shortcut",
        "PAT_sp · mixup", "PAT_sp · mixup · no Shortcut",
    ]  # fmt: skip


def test_labels_have_the_size_of_the_ticks(grid: Effects) -> None:
    for plot, points in (
        (difference_plot, difference_plot.effect_points(grid)),
        (interaction_plot, interaction_plot.interaction_points(grid)),
    ):
        figure = drawn(plot, grid, points)
        assert len({round(text.get_fontsize(), 3) for text in texts_of(figure)}) == 1


def test_one_seed_is_noted_in_the_figure(tmp_path: Path, ablations: Ablations) -> None:
    values = {arm: {0: of[0]} for arm, of in VALUES.items()}
    result = effects(ablations(tmp_path / "s", values, study=ACCURACY))
    figure = drawn(difference_plot, result, difference_plot.effect_points(result))
    assert "too few seeds: differences cannot be tested" in figure.get_supxlabel()
    assert_readable(figure)


@pytest.mark.parametrize("style", ["cvpr", pytest.param("neurips", marks=pytest.mark.slow)])
def test_ladder_plot_shows_each_rung_and_its_step(
    tmp_path: Path, ablations: Ablations, style: StyleName
) -> None:
    names = ["base", "a rung with a name that is long", "good", "bad"]
    values = dict(zip(names, VALUES.values(), strict=True))
    result = effects(ablations(tmp_path / "s", values, ladder_of(names), study=ACCURACY))
    points = ladder_plot.ladder_points(result)
    figure = drawn(ladder_plot, result, points, style)
    axes = figure.axes[0]
    assert [x for x, _ in dots(axes, "mean")] == pytest.approx([91, 91, 96.1])
    steps = [text.get_text() for text in axes.texts if "[" in text.get_text()]
    assert [step.split()[0] for step in steps] == ["+0.00", "+5.10"]
    rungs = points[points["seed"].isna()]
    half = 2.776445 * result.comparison.deviation / 3**0.5  # t(4) at 97.5 %
    assert (rungs["high"] - rungs["value"]).tolist()[:3] == pytest.approx([half] * 3, rel=1e-5)
    assert_readable(figure)
    plain = effects(ablations(tmp_path / "plain", values, study=ACCURACY))
    with pytest.raises(UserError, match="not a ladder"):
        ladder_plot.ladder_points(plain)


def test_interaction_plot_shows_the_means_of_pairs_of_levels(grid: Effects) -> None:
    result = grid
    points = interaction_plot.interaction_points(result)
    pairs = points[["across", "lines"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [
        ["parts", "attention_in_stage"], ["parts", "ratio"], ["attention_in_stage", "ratio"],
    ]  # fmt: skip
    cell = points[points["lines"].eq("ratio") & points["x"].eq("3") & points["line"].eq("1/4")]
    assert cell["value"].tolist() == pytest.approx([(95 + 96.5 + 97 + 98.5) / 4])
    assert cell["n"].tolist() == [4]
    assert_readable(drawn(interaction_plot, result, points))
    chosen = interaction_plot.interaction_points(result, ["ratio", "parts"])
    assert chosen["across"].unique().tolist() == ["ratio"]
    assert len(drawn(interaction_plot, result, chosen).axes) == 1


@pytest.mark.parametrize(
    ("factors", "message"),
    [(["ratio"], "expected two of"), (["a", "ratio"], "such as parts and attention")],
)
def test_an_interaction_needs_two_factors_of_the_design(
    grid: Effects, factors: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        interaction_plot.interaction_points(grid, factors)


def test_only_factorial_designs_have_interactions(tmp_path: Path, ablations: Ablations) -> None:
    result = effects(ablations(tmp_path / "s", VALUES, study=ACCURACY))
    with pytest.raises(UserError, match="no interactions"):
        interaction_plot.interaction_points(result)
    with pytest.raises(UserError, match="no comparisons to draw"):
        difference_plot.effect_points(effects(tmp_path / "s", against="none"))


def test_the_default_figure_suits_the_design_and_is_written_with_its_table(
    tmp_path: Path, ablations: Ablations
) -> None:
    folder = ablations(tmp_path / "s", VALUES, ladder_of([*VALUES]), study=ACCURACY)
    one, other = (effects_figure(folder, tmp_path / n / "f.pdf") for n in "ab")
    assert [path.suffix for path in one.files] == [".pdf", ".csv", ".md"]
    assert "step" in one.points
    for first, second in zip(one.files, other.files, strict=True):
        assert first.read_bytes() == second.read_bytes()
    pdf = one.files[0].read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"/CreationDate" not in pdf
    assert "bars: 95% interval of a single mean" in one.files[2].read_text()
