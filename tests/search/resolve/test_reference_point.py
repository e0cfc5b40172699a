"""The reference point of a study's hypervolume."""

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from partialnas.analysis import hypervolume, load_trials
from partialnas.search.resolve.reference_point import reference_point
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.space.arch.input_spec import InputSpec

HERE = Path(__file__).parents[1]

PLAIN: dict[str, Any] = {
    "study": "plain",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16, 20, 24]}},
    "search": {"sampler": "random"},
    "objectives": {"val_nll": "min", "macs": "min", "latency_ms": "min"},
    "budget": {"trials": 4},
    "executor": {"kind": "in-process"},
}


def point(**changes: Any) -> dict[str, float]:
    return reference_point(resolve_study(Study.model_validate({**PLAIN, **changes}), HERE))


def test_defaults_are_guessing_and_a_tenth_above_the_most_expensive_network() -> None:
    from partialnas.space.arch.plan import Plan
    from partialnas.space.cost.cost import compute_cost

    most_expensive = compute_cost(
        Plan(**PLAIN["base"] | {"width": 24}).architecture(), InputSpec.square(8, 1, 10)
    ).macs
    assert point() == {"val_nll": math.log(10), "macs": pytest.approx(1.1 * most_expensive)}
    accuracy = {"val_accuracy": "max", "throughput_img_s": "max"}
    assert point(objectives=accuracy) == {"val_accuracy": 0, "throughput_img_s": 0}


def test_stated_values_take_precedence() -> None:
    assert point(reference_point={"val_nll": 1.5, "latency_ms": 9})["val_nll"] == 1.5
    with pytest.raises(ValidationError, match="params is not an objective"):
        point(reference_point={"params": 1})
    with pytest.raises(ValidationError, match="expected a finite number"):
        point(reference_point={"val_nll": math.inf})


def test_an_amended_study_keeps_its_reference_point(tmp_path: Path) -> None:
    changes = {
        "trial": "simulated:plain",
        "objectives": {"val_nll": "min", "throughput_img_s": "max"},
    }
    for number in (3, 5):
        study = Study.model_validate({**PLAIN, **changes, "budget": {"trials": number}})
        run_study(study, tmp_path, base_dir=HERE)
        trials = load_trials(tmp_path)
        assert trials.reference_point == {"val_nll": math.log(10), "throughput_img_s": 0}
        points = trials.frame[["val_nll", "throughput_img_s"]].to_numpy(float)
        covered, least = 0.0, math.log(10)
        for nll, speed in sorted(points.tolist(), key=lambda point: -point[1]):
            covered += max(least - nll, 0) * speed
            least = min(least, nll)
        area = hypervolume(trials, trials.objectives)
        assert area == pytest.approx(covered)
