"""Limits of a study: only networks that satisfy them are on its front."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.analysis import front, load, load_trials, pareto_figure, pareto_table
from partialnas.analysis.audit.confirmation import select_networks
from partialnas.analysis.frames.feasibility import (
    UNDECIDED_NOTE,
    feasibility_sentence,
    infeasible_message,
)
from partialnas.analysis.frames.seed_means import aggregate
from partialnas.analysis.pareto.plot import draw_pareto
from partialnas.analysis.pareto.table import format_pareto_table, make_pareto_table
from partialnas.analysis.plotting.style import figure_style
from partialnas.analysis.report.front_section import front_figures, front_legend
from partialnas.analysis.report.network_section import NetworkDetails
from partialnas.analysis.report.points import detailed_points
from partialnas.commands.studies.status import front_table
from partialnas.runs.config.metric_limits import Limit, limit_excess, total_violation
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.space.errors import UserError

TWO: dict[str, Any] = {"val_nll": "min", "params": "min"}
SIMPLE = {"objectives": TWO, "arms": {}}


def records(points: list[tuple[float, int]]) -> list[dict[str, Any]]:
    return [
        {"state": "done", "digest": f"{i:016x}", "seed": seed,
         "metrics": {"val_nll": nll + seed / 10, "val_accuracy": 100 - 10 * nll},
         "cost": {"params": p, "macs": p, "macs_core": p, "activations": p}}
        for i, (nll, p) in enumerate(points)
        for seed in (0, 1)
    ]  # fmt: skip


bounds = st.floats(-1e6, 1e6)


@given(low=bounds, high=bounds, value=st.floats())
def test_limit_accepts_values_between_its_bounds(low: float, high: float, value: float) -> None:
    low, high = sorted((low, high))
    limits = {"both": Limit(min=low, max=high), "min": Limit(min=low), "max": Limit(max=high)}
    excess = limit_excess(limits, dict.fromkeys(limits, value))
    assert (excess["both"] <= 0) == (low <= value <= high)
    assert (excess["min"] <= 0) == (math.isfinite(value) and value >= low)
    assert (excess["max"] <= 0) == (math.isfinite(value) and value <= high)
    assert (total_violation(excess) == 0) == (low <= value <= high)
    assert limit_excess(limits, {}) == dict.fromkeys(limits, math.inf)


def test_excess_is_relative_to_the_bound() -> None:
    assert Limit(max=4.0).excess(5.0) == 0.25
    assert Limit(min=80.0).excess(60.0) == 0.25
    assert Limit(max=0.0).excess(3.0) == 3.0
    assert Limit(min=1.0, max=2.0).excess(1.5) == -0.25


@pytest.mark.parametrize("stated", [{}, {"min": 3.0, "max": 1.0}, {"max": float("inf")}])
def test_invalid_limit_is_rejected(stated: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected|finite"):
        Limit.model_validate(stated)


def test_infeasible_networks_are_marked_and_not_on_the_front(
    tmp_path: Path, ledgers: Callable[..., Path]
) -> None:
    # means over the seeds: 0.15, 0.35, 0.55, 0.95
    points = [(0.1, 40), (0.3, 30), (0.5, 20), (0.9, 10)]
    limits = {"val_nll": {"max": 0.5}}
    frame = load(ledgers(tmp_path / "s", records(points), study={**SIMPLE, "limits": limits}))
    rows = front(frame, TWO)
    assert rows["feasible"].tolist() == rows["on_front"].tolist() == [True, True, False, False]
    assert rows["rank"].isna().tolist() == [False, False, True, True]
    table = pareto_table(frame, "params", "val_nll")
    assert table.loc[table["on_front"], "params"].tolist() == [30, 40]
    assert len(table) == 4
    drawn = pareto_figure(frame, tmp_path / "f.pdf", x="params", y="val_nll")
    assert drawn.files[0].exists()
    assert "limits of the study (val_nll at most 0.5): 2 of 4 architectures;" in drawn.caption


def test_a_front_without_feasible_networks_is_empty(
    tmp_path: Path, ledgers: Callable[..., Path]
) -> None:
    limits = {"val_accuracy": {"min": 99.9}}
    frame = load(ledgers(tmp_path / "s", records([(0.5, 1)]), study={**SIMPLE, "limits": limits}))
    assert not front(frame, TWO)["on_front"].any()
    drawn = pareto_figure(frame, tmp_path / "f.pdf", x="params", y="val_nll")
    message = "No network is within the limits (val_accuracy at least 99.9); the closest is #1 with"
    assert message in drawn.caption


def test_closest_infeasible_network_is_named(tmp_path: Path, ledgers: Callable[..., Path]) -> None:
    limits = {"val_nll": {"max": 0.25}, "params": {"min": 20, "max": 30}}
    study = {**SIMPLE, "limits": limits}
    # means over the seeds: 0.55, 0.35, 1.05: beyond by 1.2 + 1/3, 0.4, 3.2 + 1/2
    folder = ledgers(tmp_path / "s", records([(0.5, 40), (0.3, 30), (1, 10)]), study=study)
    trials = load_trials(folder)
    bounds = "val_nll at most 0.25, params at least 20, at most 30"
    closest = f"#{trials.frame['trial'].tolist()[2]} with val_nll 0.3500, params 30"
    assert infeasible_message(front(trials, TWO), trials.limits) == (
        f"no network is within the limits ({bounds}); the closest is {closest}"
    )
    with pytest.raises(UserError, match="no network is within the limits"):
        select_networks(folder, "front")
    assert "the closest is" in str(front_table(trials).caption)
    met = load_trials(ledgers(tmp_path / "m", records([(0.1, 30), (1, 10)]), study=study))
    assert infeasible_message(front(met, TWO), met.limits) == ""
    assert front_table(met).caption is None


def test_the_best_networks_to_confirm_are_within_the_limits(
    tmp_path: Path, ledgers: Callable[..., Path]
) -> None:
    study = {**SIMPLE, "limits": {"params": {"max": 20}}}
    folder = ledgers(tmp_path / "s", records([(0.1, 40), (0.3, 20), (0.2, 10)]), study=study)
    assert [*select_networks(folder, "1").values()] == [f"{2:016x}"]
    assert [*select_networks(folder, "5").values()] == [f"{2:016x}", f"{1:016x}"]
    assert len(select_networks(folder, "all")) == 3


def test_limits_apply_only_to_networks_of_their_study(
    tmp_path: Path, ledgers: Callable[..., Path]
) -> None:
    limits = {"val_nll": {"max": 0.4}}
    limited = ledgers(tmp_path / "a", records([(0.5, 1)]), study={**SIMPLE, "limits": limits})
    free = ledgers(tmp_path / "b", records([(0.5, 1)]), study=SIMPLE)
    assert aggregate(load([limited, free]), TWO)["feasible"].tolist() == [False, True]
    assert "feasible" not in aggregate(load(free), TWO)


OBJECTIVES: dict[str, Any] = {"val_nll": "min", "latency_ms": "min"}


Ledgers = Callable[..., Path]
Measure = Callable[..., Measurement]


def timed_arms(ledgers: Ledgers, folder: Path, timings: list[Measurement], limits: Any) -> Path:
    """Write a study in which arm i has timing i."""
    arms = [
        {"arm": f"a{i}", "state": "done", "digest": m.digest, "metrics": {"val_nll": 0.3 + i / 10}}
        for i, m in enumerate(timings)
    ]
    study = {"objectives": OBJECTIVES, "search": None, "arms": {}, "limits": limits}
    return ledgers(folder, arms, timings, study)


def shown(folder: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Yield latency and word by arm, as status, table and the report's front show them."""
    trials = load_trials(folder)
    status = front_table(trials)
    columns = {
        str(column.header): [str(cell) for cell in column.cells] for column in status.columns
    }
    names = columns[""]
    yield (
        dict(zip(names, columns["latency_ms"], strict=True)),
        dict(zip(names, columns["feasible"], strict=True)),
    )
    table = make_pareto_table(trials)
    points = detailed_points(table, "p")
    with Ledger.open(folder) as ledger:
        networks = NetworkDetails(ledger, trials.frame).describe(replace(table, rows=points))
    facts = {n["label"]: dict([*n["values"], *n["facts"]]) for n in networks.values()}
    latency = "Latency (ms)"
    yield (
        {name: of[latency].split(" ")[0] for name, of in facts.items()},
        {name: of["Within limits"] for name, of in facts.items()},
    )
    text = format_pareto_table(replace(table, rows=table.rows.assign(family="-")))
    yield (
        dict(zip(text[""], text[latency], strict=True)),
        dict(zip(text[""], text["Within limits"], strict=True)),
    )


def test_a_limit_applies_to_the_speed_that_tables_show(
    tmp_path: Path, ledgers: Ledgers, measure: Measure
) -> None:
    # the first network is timed while the machine is fast: 4.0 ms as timed, 5.308 ms on the scale
    speeds = [4.0 / 5.308, 1.0, 1.0]
    latencies = [5.308, 4.4, 4.6]
    timings = [
        measure(f"{i:016x}", 32 / ms, 1000 / speed)
        for i, (speed, ms) in enumerate(zip(speeds, latencies, strict=True))
    ]
    assert timings[0].latency_ms == pytest.approx(4.0)
    folder = timed_arms(ledgers, tmp_path, timings, {"latency_ms": {"max": 4.5}})
    rows = aggregate(load(folder), OBJECTIVES)
    assert rows["latency_ms"].tolist() == pytest.approx(latencies)
    assert rows["feasible"].tolist() == [False, True, False]
    for values, words in shown(folder):
        assert values == {"a0": "5.308", "a1": "4.4", "a2": "4.6"}
        assert words == {"a0": "no", "a1": "yes", "a2": "no"}
    assert "1 of 3 architectures" in feasibility_sentence(rows, load_trials(folder).limits)


relatives = st.lists(
    st.tuples(
        st.floats(0.25, 4.0), st.floats(0.5, 2.0), st.sampled_from([0.0, 1e-7, 0.05]), st.booleans()
    ),
    min_size=1,
    max_size=5,
)
"""Of each network: relative throughput, speed of the machine, half an interval, noise."""


@settings(max_examples=6, deadline=None)
@given(drawn=relatives, place=st.integers(0, 4), nudge=st.sampled_from([0.0, 1e-12, -1e-9, 1e-5]))
def test_the_value_that_is_shown_decides_the_word_that_is_shown(
    ledgers: Ledgers,
    measure: Measure,
    drawn: list[tuple[float, float, float, bool]],
    place: int,
    nudge: float,
) -> None:
    timings = [
        measure(
            f"{i:016x}", relative, 1000 * speed, noisy=noisy,
            relative_low=relative * (1 - half), relative_high=relative * (1 + half),
        )
        for i, (relative, speed, half, noisy) in enumerate(drawn)
    ]  # fmt: skip
    scale = median(1000 * speed for _, speed, _, _ in drawn)
    # the bound is at or beside the latency of one of the networks
    bound = 32_000 / (drawn[place % len(drawn)][0] * scale) * (1 + nudge)
    with TemporaryDirectory() as folder:
        timed_arms(ledgers, Path(folder), timings, {"latency_ms": {"max": bound}})
        tables = [*shown(Path(folder))]
    for values, words in tables:
        assert len(words) == len(drawn)
        for i, (relative, _, half, noisy) in enumerate(drawn):
            low, high = (32_000 / (relative * scale * (1 + s * half)) for s in (1, -1))
            value = values[f"a{i}"]
            assert value.startswith("~") == noisy
            expected = "yes" if float(value.strip("~").replace(",", "")) <= bound else "no"
            undecided = noisy or (half and low <= bound * (1 + 1e-12) and bound <= high)
            if not undecided or words[f"a{i}"] != "?":
                assert words[f"a{i}"] == expected
                assert not noisy


def test_missing_values_are_undecided(tmp_path: Path, ledgers: Ledgers, measure: Measure) -> None:
    folder = timed_arms(
        ledgers, tmp_path, [measure("0" * 16, 1.0, 1000)], {"latency_ms": {"max": 40}}
    )
    with Ledger.open(folder, write=True) as ledger:
        number = ledger.add_proposal("late", "f" * 16, {}, {})
        facts = {"digest": "f" * 16, "name": "", "fidelity": 4}
        ledger.plan(number, **facts, keys={0: "late"})
        ledger.start("late")
        record = {"key": "late", "seed": 0, "state": "done", "metrics": {"val_nll": 0.1}}
        ledger.finish(Record(**record, **facts))
    trials = load_trials(folder)
    rows = aggregate(trials, OBJECTIVES)
    assert rows["within_limits"].tolist() == ["yes", "?"]
    assert rows["feasible"].tolist() == [True, False]
    assert feasibility_sentence(rows, trials.limits).endswith(UNDECIDED_NOTE)
    unmeasured = rows[rows["within_limits"].eq("?")]
    message = "no network has values for all limits yet (latency_ms at most 40)"
    assert infeasible_message(unmeasured, trials.limits) == message


def test_limits_on_measured_values_hold_for_the_studys_own_setup(
    tmp_path: Path, ledgers: Ledgers, measure: Measure
) -> None:
    limits = {
        "peak_memory_bytes": {"max": 9},
        "relative_throughput": {"min": 1},
        "params": {"max": 1},
    }
    folder = timed_arms(ledgers, tmp_path, [measure("0" * 16, 1.0, 1000)], limits)
    assert load_trials(folder).limits == {str(folder): limits}
    assert load_trials(folder, timing="batch_size=1").limits == {
        str(folder): {"params": {"max": 1}}
    }


def test_figures_mark_limits_and_networks_outside(
    tmp_path: Path, ledgers: Ledgers, measure: Measure
) -> None:
    timings = [measure(f"{i:016x}", 1 / (i + 1), 1000) for i in range(4)]
    limits = {"latency_ms": {"max": 80.0}, "val_nll": {"max": 1e6}}
    trials = load_trials(timed_arms(ledgers, tmp_path / "s", timings, limits))
    table = make_pareto_table(trials)
    assert (table.bounds(table.x), table.bounds(table.y)) == ([80.0], [])
    with figure_style("cvpr") as style:
        figure = draw_pareto(table, style)
    labels = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert {"outside the limits (2)", "limit"} <= labels
    (axes,) = figure.axes
    lines = [line for line in axes.lines if [*line.get_xdata()] == [80.0, 80.0]]
    assert len(lines) == 1
    assert lines[0].is_dashed()
    caption = pareto_figure(trials, tmp_path / "f.pdf").caption
    assert (
        "Crosses: 2 architectures outside the limits. Dashed line: limit of the study." in caption
    )
    points = detailed_points(table, "p")
    legend = {entry["text"] for entry in front_legend(table, points)}
    assert {"limit"} <= legend
    wide, _ = front_figures(table, points)
    assert wide["limits"].count("M") == 1
