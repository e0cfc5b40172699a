"""Limits of a study in every figure with a limited quantity on an axis, and in tables of arms."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.markers import MarkerStyle

from partialnas.analysis import effects, pareto_figure
from partialnas.analysis.ablation.caption import effects_caption
from partialnas.analysis.ablation.effects import limit_verdicts
from partialnas.analysis.ablation.figure import effects_artefact
from partialnas.analysis.ablation.table import effects_sheet
from partialnas.analysis.figures.kinds import figure_artefact
from partialnas.analysis.formats.artefact import Artefact
from partialnas.analysis.formats.text_table import to_markdown
from partialnas.runs.config.design import Design, DesignArm, Factor
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.arch.plan import Plan

Factory = Callable[..., Path]

BOUND = 0.8
LIMITS = {"val_nll": {"max": BOUND}}
TASK = {"task": json.dumps({"data": "mnist5k", "resolution": 28, "channels": 1, "classes": 10})}
NETWORK = {"stem_stride": 2, "depths": (1, 1, 1, 1), "head_width": 16}


def trials(count: int) -> list[dict[str, Any]]:
    """Return networks with the losses 0.1, 0.2, ...; each loses 0.01 per epoch."""
    records = []
    for i in range(count):
        network = Plan.model_validate({**NETWORK, "width": 8 * (1 + i)}).architecture()
        nll = (i + 1) / 10
        records.append(
            {
                "digest": f"{i:016x}", "subject": network.model_dump(mode="json"), "state": "done",
                "metrics": {"val_nll": nll, "val_accuracy": 100 - 50 * nll},
                "cost": {"params": 9_000 - i, "macs": 90_000 - i, "macs_core": 1, "activations": 1},
                "curve": [{"epoch": e, "val_nll": nll + 0.04 - e / 100} for e in range(1, 5)],
            }
        )  # fmt: skip
    return records


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, ledgers: Factory
) -> Iterator[Callable[..., Path]]:
    """Return a function that writes a search of ten networks, which notes their points."""
    plain = Ledger.add_proposal

    def with_note(self: Ledger, arm: Any, digest: str, subject: Any, _: Any) -> int:
        width = subject["stages"][0]["width"] if subject else 0
        note = {"params": {"width": width, "odd": int(digest[-1], 16) % 2}}
        return plain(self, arm, digest, subject, note)

    def write(limits: dict[str, Any], records: list[dict[str, Any]]) -> Path:
        settings = {
            "objectives": {"macs": "min", "val_nll": "min"},
            "limits": limits,
            "arms": {},
        }
        folder = tmp_path_factory.mktemp("limited") / "s"
        return ledgers(folder, records, study=settings, meta=TASK)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "add_proposal", with_note)
        yield write


def drawn_axes(artefact: Artefact) -> list[Axes]:
    assert artefact.drawing is not None
    with artefact.drawing.style() as style:
        figure = artefact.drawing.draw(style)
        figure.draw_without_rendering()
    return [axes for axes in figure.axes if axes.get_visible()]


def dashed_lines(axes: Axes) -> list[tuple[str, float]]:
    """Return the axis and position of each dashed line across the whole axes."""
    lines = []
    for line in axes.lines:
        x, y = [*map(float, line.get_xdata())], [*map(float, line.get_ydata())]
        if line.is_dashed() and len(x) == 2:
            lines += [("x", x[0])] if x[0] == x[1] else [("y", y[0])] if y[0] == y[1] else []
    return lines


def crosses(axes: Axes) -> int:
    """Return the number of markers that are crosses."""
    marker = MarkerStyle("X")
    cross = marker.get_path().transformed(marker.get_transform()).vertices
    return sum(
        len(c.get_offsets())
        for c in axes.collections
        if isinstance(c, PathCollection) and np.array_equal(c.get_paths()[0].vertices, cross)
    )


@pytest.mark.parametrize(
    ("kind", "metric", "line", "crossed"),
    [
        ("edf", None, ("x", BOUND), 0),
        ("edf", "val_accuracy", None, 0),
        ("axis", None, ("x", BOUND), 2 * 2),  # each network on both axes
        ("axis", "val_accuracy", None, 2 * 2),
        ("curves", None, ("y", BOUND), 0),
        ("parallel", None, None, 0),
        ("convergence", None, None, 0),
    ],
)
def test_a_limit_is_a_line_where_its_quantity_is_an_axis(
    study: Callable[..., Path], kind: str, metric: str | None, line: Any, crossed: int
) -> None:
    folder = study(LIMITS, trials(10))
    spec, artefact = figure_artefact([folder], kind=kind, metric=metric)
    axes, *_ = drawn_axes(artefact)
    assert dashed_lines(axes) == ([pytest.approx(line)] if line else [])
    assert crosses(axes) == crossed
    assert ("Dashed line: limit of the study." in spec.caption.text()) == (line is not None) or (
        kind == "parallel"
    )
    assert ("2 architectures outside the limits." in spec.caption.text()) == (
        bool(crossed) or kind == "parallel"
    )
    unlimited, without = figure_artefact([study({}, trials(10))], kind=kind, metric=metric)
    assert dashed_lines(drawn_axes(without)[0]) == []
    assert "imit" not in unlimited.caption.text()


def test_an_error_in_percent_has_the_limit_of_its_accuracy(study: Callable[..., Path]) -> None:
    folder = study({"val_accuracy": {"min": 70.0}}, trials(10))
    _, artefact = figure_artefact([folder], kind="edf", metric="val_accuracy")
    assert dashed_lines(drawn_axes(artefact)[0]) == [("x", pytest.approx(30.0))]


def test_parallel_coordinates_show_limits_on_their_row_and_networks_outside(
    study: Callable[..., Path],
) -> None:
    spec, artefact = figure_artefact([study(LIMITS, trials(10))], kind="parallel")
    (axes,) = drawn_axes(artefact)
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert len(dotted) == spec.table["excluded"].sum() == 2
    assert spec.table["within_limits"].value_counts().to_dict() == {"yes": 8, "no": 2}
    assert {*spec.readable["Within limits"]} == {"yes"}
    (segment,) = [s for c in axes.collections if isinstance(c, LineCollection)
                  for s in c.get_segments()]  # fmt: skip
    # better values are on the right: that of the network with this value is the third
    ends = sorted(line.get_xdata()[-2] for line in axes.lines)
    assert segment[:, 0].tolist() == pytest.approx([ends[2]] * 2)
    assert "Dotted lines: 2 architectures outside the limits." in spec.caption.text()


def test_bars_of_costs_mark_networks_outside(study: Callable[..., Path]) -> None:
    folder = study(LIMITS, trials(10))
    spec, artefact = figure_artefact([folder], kind="cost", trials=[1, 8, 9, 10])
    assert [crosses(axes) for axes in drawn_axes(artefact)] == [2, 2]
    assert "Crosses: 2 architectures outside the limits." in spec.caption.text()


def test_a_failed_seed_is_marked_like_a_network_outside(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    records = trials(6)
    records.append({**records[0], "seed": 1, "state": "failed", "reason": "the loss is NaN",
                    "metrics": {}, "curve": (), "cost": {}})  # fmt: skip
    folder = study({}, records)
    figure = pareto_figure(folder_trials(folder), tmp_path / "f.pdf")
    assert "Crosses: 1 architecture with a failed seed." in figure.caption
    spec, artefact = figure_artefact([folder], kind="axis")
    assert crosses(drawn_axes(artefact)[0]) == 2
    assert "Crosses: 1 architecture with a failed seed." in spec.caption.text()


def folder_trials(folder: Path) -> Any:
    from partialnas.analysis import load_trials

    return load_trials(folder)


VALUES = {"a": {0: 90.0, 1: 91.0}, "b": {0: 93.0, 1: 94.0}, "c": {0: 88.0, 1: 87.0}}
ARMS = tuple(DesignArm(name=n, against="a" if n != "a" else None) for n in VALUES)


@pytest.mark.parametrize("kind", ["ladder", "effect"])
def test_plots_of_arms_show_limits_and_mark_arms_outside(
    tmp_path: Path, ablations: Factory, kind: Any
) -> None:
    settings = {"objectives": {"val_accuracy": "max"}, "limits": {"val_accuracy": {"min": 90.0}}}
    design = Design(kind="ladder", arms=ARMS)
    folder = ablations(tmp_path / "s", VALUES, design, study=settings)
    result, _, artefact = effects_artefact(folder, kind=kind)
    assert limit_verdicts(result) == {"a": "yes", "b": "yes", "c": "no"}
    (axes,) = drawn_axes(artefact)
    assert dashed_lines(axes) == ([("x", 90.0)] if kind == "ladder" else [])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert [label for label in labels if "‡" in label] == ["c ‡"]
    assert "‡ Outside the limits of the study: c." in effects_caption(result)
    assert "c ‡" in to_markdown(effects_sheet(result))


def test_an_interaction_plot_shows_limits(tmp_path: Path, ablations: Factory) -> None:
    factors = tuple(Factor(name=n, levels=("0", "1"), baseline="0") for n in "pq")
    arms = tuple(
        DesignArm(name=f"{p}{q}", levels={"p": p, "q": q}, against=None if p + q == "00" else "00")
        for p in "01"
        for q in "01"
    )
    design = Design(kind="factorial", factors=factors, arms=arms)
    values = {arm.name: {s: 90.0 + i + s / 2 for s in (0, 1)} for i, arm in enumerate(arms)}
    settings = {"objectives": {"val_accuracy": "max"}, "limits": {"val_accuracy": {"min": 91.0}}}
    folder = ablations(tmp_path / "s", values, design, study=settings)
    _, _, artefact = effects_artefact(folder, kind="interaction")
    assert dashed_lines(drawn_axes(artefact)[0]) == [("y", 91.0)]


def test_an_undecided_arm_is_marked(tmp_path: Path, ablations: Factory) -> None:
    """Speeds of the arms are 3000, 1500 and 1000 img/s with intervals of 1 %."""
    settings = {
        "objectives": {"val_accuracy": "max"},
        "limits": {"throughput_img_s": {"min": 1495.0}},
    }
    folder = ablations(tmp_path / "s", VALUES, Design(kind="ladder", arms=ARMS), study=settings)
    result = effects(folder)
    assert limit_verdicts(result) == {"a": "yes", "b": "?", "c": "no"}
    text = to_markdown(effects_sheet(result))
    assert "b ?" in text
    assert "?: undecided" in text


def test_an_arm_with_a_failed_seed_is_never_the_best(tmp_path: Path, ablations: Factory) -> None:
    values: dict[str, dict[int, float | None]] = {
        "a": {s: 90 + s / 10 for s in range(5)},
        "b": {s: 99 + s / 10 for s in range(5)},
        "c": {s: 80 + s / 10 for s in range(5)},
    }
    design = Design(kind="one-factor", arms=ARMS)
    settings = {"objectives": {"val_accuracy": "max"}}
    assert effects(ablations(tmp_path / "all", values, design, study=settings)).best == "b"
    values["b"][4] = None
    assert effects(ablations(tmp_path / "one", values, design, study=settings)).best is None
