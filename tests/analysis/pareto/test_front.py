from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partialnas.analysis import front, hypervolume
from partialnas.analysis.frames.seed_means import aggregate
from partialnas.analysis.frames.trials import Trials
from partialnas.analysis.pareto.front import default_reference_point, reference_point
from partialnas.space.errors import UserError

Frames = Callable[..., pd.DataFrame]
KEYS = ("val_nll", "macs", "throughput_img_s")

numbers = st.one_of(
    st.sampled_from([0.0, 1.0, 1.5, -2.0, 1e9]), st.just(float("nan")), st.just(float("inf"))
)


def trials(points: list[tuple[float, ...]], **columns: Any) -> pd.DataFrame:
    """One done trial per point."""
    values = {key: [float(p[i]) for p in points] for i, key in enumerate(KEYS[: len(points[0])])}
    return pd.DataFrame(
        {
            "trial": range(1, len(points) + 1),
            "folder": "a",
            "digest": [str(i) for i in range(len(points))],
            "seed": 0,
            "fidelity": 4,
            "full_fidelity": 4,
            "state": "done",
            **values,
            **columns,
        }
    )


def dominates(a: tuple[float, ...], b: tuple[float, ...], directions: list[str]) -> bool:
    signed = [(x, y) if d == "min" else (-x, -y) for x, y, d in zip(a, b, directions, strict=True)]
    return all(x <= y for x, y in signed) and any(x < y for x, y in signed)


@settings(max_examples=60)
@given(data=st.data(), size=st.integers(1, 3))
def test_front_is_the_non_dominated_set(data: st.DataObject, size: int) -> None:
    points = data.draw(st.lists(st.tuples(*[numbers] * size), min_size=1, max_size=12))
    directions = data.draw(st.lists(st.sampled_from(["min", "max"]), min_size=size, max_size=size))
    rows = front(trials(points), dict(zip(KEYS, directions, strict=False)))
    whole = [p for p in points if np.isfinite(p).all()]
    expected = [
        bool(np.isfinite(p).all()) and not any(dominates(q, p, directions) for q in whole)
        for p in points
    ]
    assert rows["on_front"].tolist() == expected
    assert rows["rank"].eq(1).fillna(value=False).tolist() == expected
    assert rows["rank"].isna().sum() == len(points) - len(whole)


def test_ranks_count_successive_fronts() -> None:
    points = [(1.0, 1.0), (2.0, 2.0), (1.0, 3.0), (3.0, 3.0), (1.0, 1.0)]
    rows = front(trials(points), {"val_nll": "min", "macs": "min"})
    assert rows["rank"].tolist() == [1, 2, 2, 3, 1]


def test_seeds_are_averaged_before_the_front_is_decided() -> None:
    frame = trials([(0.1, 5.0), (0.9, 5.0), (0.4, 5.0), (0.42, 5.0)], digest=list("aabb"))
    rows = front(frame, {"val_nll": "min", "macs": "min"}).set_index("digest")
    assert rows["n"].tolist() == [2, 2]
    assert rows["val_nll"].tolist() == pytest.approx([0.5, 0.41])
    assert rows["val_nll_sd"].tolist() == pytest.approx([0.8 / 2**0.5, 0.02 / 2**0.5])
    assert rows["on_front"].to_dict() == {"a": False, "b": True}


def test_only_finished_trials_at_full_fidelity_count_and_only_early_ones_are_dropped() -> None:
    states = ["done", "failed", "done", "timeout", "early"]
    frame = trials(
        [(v, 1.0) for v in (0.5, 0.1, 0.2, 0.1, 0.1)], state=states, digest=list("aabcd")
    )
    frame.loc[2, "fidelity"] = 2
    rows = front(frame, {"val_nll": "min", "macs": "min"}).set_index("digest")
    assert rows["n"].to_dict() == {"a": 1, "b": 0, "c": 0}
    assert rows["failed"].to_dict() == {"a": 1, "b": 0, "c": 1}
    assert rows["val_nll"].dropna().to_dict() == {"a": 0.5}
    assert rows["rank"].isna().all()  # a failed seed, or none that is done


def test_arm_with_one_network_per_seed_is_one_row(frames: Frames) -> None:
    frame = frames(architectures=2, seeds=2, failed=0)
    frame["arm"], frame["digest"] = "dynamic", [f"d{i}" for i in range(4)]
    frame["condition"] = ["small", "large", "small", "large"]
    frame["macs"] = pd.array([10, 20, 30, 40], dtype="Int64")
    frame["throughput_img_s"] = [1.0, 2.0, 3.0, 4.0]
    rows = aggregate(frame, {"val_nll": "min"}).set_index("condition")
    assert rows["n"].to_dict() == {"small": 2, "large": 2}
    assert rows["macs"].to_dict() == {"small": 20, "large": 30}
    assert rows["throughput_img_s"].to_dict() == {"small": 2.0, "large": 3.0}
    assert rows.loc["small", "val_nll"] == pytest.approx(frame["val_nll"].iloc[[0, 2]].mean())


def test_studies_are_aggregated_separately() -> None:
    frame = trials([(0.5, 1.0), (0.3, 1.0)], digest="same", folder=["a", "b"])
    assert front(frame, {"val_nll": "min"})["val_nll"].tolist() == [0.5, 0.3]


@settings(max_examples=60)
@given(
    points=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8),
    directions=st.tuples(*[st.sampled_from(["min", "max"])] * 2),
)
def test_hypervolume_counts_the_unit_squares_that_are_dominated(
    points: list[tuple[int, int]], directions: tuple[str, str]
) -> None:
    objectives = dict(zip(KEYS, directions, strict=False))
    corner = {key: 9.0 if d == "min" else 0.0 for key, d in objectives.items()}
    at = [(x if a == "min" else 9 - x, y if b == "min" else 9 - y)
          for (x, y), (a, b) in zip(points, [directions] * len(points), strict=True)]  # fmt: skip
    squares = {(i, j) for x, y in at for i in range(x, 9) for j in range(y, 9)}
    frame = trials([(float(x), float(y)) for x, y in points])
    assert hypervolume(frame, objectives, corner) == pytest.approx(len(squares))


def test_hypervolume_of_a_staircase_and_points_beyond_the_reference() -> None:
    frame = trials([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (9.0, 0.0), (0.0, 9.0)])
    assert hypervolume(frame, {"val_nll": "min", "macs": "min"}, {"val_nll": 4.0, "macs": 4.0}) == 6


def test_default_reference_is_the_worst_and_a_tenth_of_the_range() -> None:
    frame = trials([(1.0, 10.0), (2.0, 20.0), (float("nan"), 99.0)])
    objectives: Any = {"val_nll": "min", "macs": "max"}
    rows = front(frame, objectives)
    assert default_reference_point(rows, objectives) == pytest.approx({"val_nll": 2.1, "macs": 9.0})
    stored = Trials(frame=frame, reference_point={"val_nll": 3.0, "params": 1.0})
    corner = reference_point(stored, rows, objectives)
    assert corner == pytest.approx({"val_nll": 3.0, "macs": 9.0})
    assert hypervolume(frame, objectives) == pytest.approx(1.1 * 1.0 + 0.1 * 10.0)


def test_without_any_result_there_is_no_front_and_no_volume(frames: Frames) -> None:
    frame = frames(3, 1, failed=3)
    rows = front(frame, {"val_nll": "min", "macs": "min"})
    assert not rows["on_front"].any()
    assert rows["rank"].isna().all()
    assert hypervolume(frame, {"val_nll": "min", "macs": "min"}, {"val_nll": 1, "macs": 1}) == 0.0


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"val_nl": "min"}, "did you mean val_nll"),
        ({"val_nll": "best"}, "val_nll:min or val_nll:max"),
        ({}, "name at least one"),
    ],
)
def test_invalid_objectives_are_errors(frames: Frames, objectives: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        front(frames(3), objectives)


def test_no_trials_and_incomplete_reference_points_are_errors(frames: Frames) -> None:
    with pytest.raises(UserError, match="no trials"):
        front(frames(3).iloc[:0], {"val_nll": "min"})
    with pytest.raises(UserError, match="no value for macs"):
        hypervolume(frames(3), {"val_nll": "min", "macs": "min"}, {"val_nll": 1.0})
