"""Interaction plots of reports: means at their values, labels apart, texts of users escaped."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from partialnas.analysis import effects
from partialnas.analysis.report.interaction_panels import interaction_panels
from partialnas.analysis.report.report import write_report
from partialnas.runs.config.design import Design, DesignArm, Factor

Ablations = Callable[..., Path]

NASTY = "<b>with</b> & ' \""
FACTORS = (
    Factor(name="pat_sp", levels=("off", NASTY), baseline="off"),
    Factor(name="ratio", levels=("1/8", "1/4", "1/2"), baseline="1/8"),
)


@pytest.fixture
def grid(tmp_path: Path, ablations: Ablations) -> Path:
    """A factorial study whose two factors add up, so that its lines are parallel."""
    cells = [*itertools.product(*(factor.levels for factor in FACTORS))]
    names = [f"arm {i}" for i in range(len(cells))]
    arms = tuple(
        DesignArm(
            name=name,
            levels={"pat_sp": cell[0], "ratio": cell[1]},
            against=None if name == names[0] else names[0],
        )
        for name, cell in zip(names, cells, strict=True)
    )
    values = {
        name: {seed: 80.0 + 3 * i + 5 * j + 0.1 * (seed + i * j % 2) for seed in range(3)}
        for name, (i, j) in zip(names, itertools.product(range(2), range(3)), strict=True)
    }
    design = Design(kind="factorial", factors=FACTORS, arms=arms)
    return ablations(tmp_path / "s", values, design, study={"objectives": {"val_accuracy": "max"}})


def test_lines_of_factors_that_add_up_are_parallel(grid: Path) -> None:
    (panel,) = interaction_panels(effects(grid))
    assert (panel["across"], panel["by"]) == ("PAT_sp", "Ratio")
    assert [line["label"] for line in panel["lines"]] == ["1/8", "1/4", "1/2"]
    heights = [[point["y"] for point in line["points"]] for line in panel["lines"]]
    rises = [left - right for left, right in heights]
    assert rises == pytest.approx([rises[0]] * 3, abs=1.5)
    assert rises[0] > 0  # upwards for the level with the larger values
    steps = [upper[0] - lower[0] for upper, lower in itertools.pairwise(heights)]
    assert steps[0] == pytest.approx(steps[1], abs=1.5)
    assert rises[0] / steps[0] == pytest.approx(3 / 5, abs=0.1)
    places = sorted(line["label_y"] for line in panel["lines"])
    assert all(below - above >= 13.9 for above, below in itertools.pairwise(places))
    assert panel["top"] <= min(map(min, heights)) < max(map(max, heights)) <= panel["bottom"]


def test_the_report_has_the_panels_with_escaped_texts(grid: Path, tmp_path: Path) -> None:
    page = write_report(grid, tmp_path / "r.html").read_text("utf-8")
    assert page.count('class="plot interaction"') == 1
    assert "&lt;b&gt;with" in page
    assert "<b>with" not in page


def test_other_designs_have_no_panels(tmp_path: Path, ablations: Ablations) -> None:
    values = {"a": {0: 1.0, 1: 1.1}, "b": {0: 2.0, 1: 2.2}}
    folder = ablations(tmp_path / "s", values, study={"objectives": {"val_accuracy": "max"}})
    assert interaction_panels(effects(folder)) == []
