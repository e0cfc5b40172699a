"""Spaces: points, sampling, neighbors, encoding, Optuna, error messages."""

import json
import math
import pickle
import random
import re
import subprocess
import sys
import time
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import preset
from partialnas.space.axes.choices import Choice, ChoiceTree
from partialnas.space.axes.decoder import Assignment
from partialnas.space.cost.constraints import Constraints
from partialnas.space.cost.formulas import Cost
from partialnas.space.errors import UserError
from partialnas.space.search_space.space import Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

PAPER = """
base: {preset: partialnet_t0, stem_stride: 2, width: 16}
space:
  axes:
    width: [8, 12, 16]
    depths: [[1, 1, 2, 1], [1, 2, 4, 2]]
    parts: {values: [1, 2, 3], per: stage}
    ratio: {values: [1/8, 1/4, 1/2], per: stage}
    ratio_2: {values: [1/8, 1/4], per: stage}
    operation_2: {values: [channel, pool, attention], per: stage}
    attention:
      none: {}
      channel: {channel: stages 1-3}
      both: {channel: stages 1-3, self: stage 4}
    heads: {values: [1, 2, 4], when: {attention: [both]}}
    pat_sp: [false, true, stages 1-2]
    mlp_ratio: {values: [1, 2, 3], per: block}
    activation: [gelu, relu]
  constraints: {macs: {min: 0.2M, max: 1.5M}, params: {max: 0.5M}}
"""


def space_of(text: str, resolution: int = 28) -> Space:
    return Space.from_data(yaml.safe_load(text), InputSpec.square(resolution, 1, 10))


def of_axes(axes: str, base: str = "{width: 8, depths: [1, 1, 2, 1]}", rest: str = "") -> Space:
    return space_of(f"{{base: {base}, space: {{axes: {axes}{rest}}}}}", 32)


@pytest.fixture(scope="module")
def paper() -> Space:
    return space_of(PAPER)


@pytest.fixture(scope="module")
def points(paper: Space) -> list[Any]:
    rng = random.Random(0)
    return [paper.sample(rng) for _ in range(30)]


def test_samples_are_in_the_space(paper: Space, points: list[Any]) -> None:
    for point in points:
        architecture = paper.architecture(point)
        cost = paper.cost(architecture)
        assert 200_000 <= cost.macs <= 1_500_000
        assert cost.params <= 500_000
        assert paper.contains(point)
        assert architecture.name == ""
    assert len({paper.architecture(point).digest for point in points}) > 25


def test_points_round_trip_through_plain_data(paper: Space, points: list[Any]) -> None:
    for point in points:
        stored = json.loads(json.dumps(dict(point)))
        assert paper.point(stored) == point
        assert hash(paper.point(stored)) == hash(point)
        assert pickle.loads(pickle.dumps(point)) == point  # noqa: S301
        code = paper.encode(point)
        assert len(code) == len(paper.choices)
        assert sum(value >= 0 for value in code) == len(point)
        assert paper.decode(code) == point


def test_samples_are_located(paper: Space, points: list[Any]) -> None:
    for point in points[:5]:
        architecture = paper.architecture(point)
        located = paper.locate(architecture)
        assert located is not None
        assert paper.architecture(located).digest == architecture.digest
    assert paper.locate(preset("partialnet_t0")) is None


@pytest.mark.parametrize("make", [random.Random, np.random.default_rng])
def test_equal_seeds_give_equal_samples(paper: Space, make: Any) -> None:
    assert [paper.sample(make(3)) for _ in range(3)] == [paper.sample(make(3))] * 3
    rng = make(3)
    assert paper.sample(rng) != paper.sample(rng)


def test_levels_are_drawn_uniformly() -> None:
    space = of_axes("{activation: [gelu, relu, silu], mlp_ratio: {values: [1, 2], per: stage}}")
    rng = random.Random(1)
    drawn = [space.sample(rng) for _ in range(600)]
    for label in ("gelu", "relu", "silu"):
        assert 150 < sum(point["activation"] == label for point in drawn) < 250
    assert 240 < sum(point["mlp_ratio@stage3"] == 2 for point in drawn) < 360


def test_blocks_that_are_rarely_valid_are_sampled() -> None:
    base = "{width: 8, depths: [4, 4, 4, 4], parts: 3}"
    space = of_axes("{ratio: {values: [1/4, 1/2, 3/4], per: block},"
                    " ratio_2: {values: [1/4, 1/2, 3/4], per: block}}", base)  # fmt: skip
    size = space.size()
    assert (size.points, size.combinations) == (3**16, 9**16)  # a third of the 9 shares leave room
    rng = random.Random(0)
    assert all(space.contains(space.sample(rng)) for _ in range(5))


def test_a_point_takes_missing_settings_from_the_base() -> None:
    space = of_axes(
        "{parts: {values: [1, 2, 3], per: stage}, ratio: {values: [1/4, 1/2], per: stage},"
        " attention: [none, {channel: stages 1-3}], activation: [gelu, relu]}"
    )
    assert dict(space.point({"parts": 2, "parts@stage1": 1, "ratio": 0.5})) == {
        "activation": "gelu",
        "parts@stage1": 1,
        "parts@stage2": 2,
        "parts@stage3": 2,
        "parts@stage4": 2,
        "attention": "none",
        "ratio@stage2": "1/2",
        "ratio@stage3": "1/2",
        "ratio@stage4": "1/2",
    }
    placed = space.point({"attention": {"channel": "stages 1-3"}})
    assert placed["attention"] == "channel: stages 1-3"
    one_part = space.point({"parts": 1})
    assert set(one_part) == {"activation", *(f"parts@stage{s}" for s in range(1, 5))}
    mixers = [blocks[0].parts[0].op for blocks in space.architecture(one_part).realized]
    assert mixers == ["conv"] * 4


def test_conditions() -> None:
    space = of_axes(
        "{attention: [none, self], heads: {values: [1, 2], when: {attention: self}},"
        " mlp_ratio: {values: [1, 3], per: block, when: {attention: [none]}}}"
    )
    inactive = space.point({"attention": "self", "heads": 2})
    assert dict(inactive) == {"attention": "self", "heads": 2}
    blocks = [block for stage in space.architecture(inactive).realized for block in stage]
    assert {block.hidden // block.width for block in blocks} == {2}  # the base's
    with pytest.raises(UserError, match=r"mlp_ratio@stage1\.block1: missing"):
        space.architecture({"attention": "none"})
    assert space.size().points == 2 + 2**5


def test_neighbors_are_one_change_away(paper: Space, points: list[Any]) -> None:
    for point in points[:3]:
        near = list(paper.neighbors(point))
        digests = [paper.architecture(other).digest for other in near]
        assert len(set(digests)) == len(near) > 5
        assert paper.architecture(point).digest not in digests
        for other in near:
            assert paper.contains(other)
            shared = point.keys() & other.keys()
            assert sum(point[name] != other[name] for name in shared) == 1
        shuffled = list(paper.neighbors(point, random.Random(0)))
        assert {paper.architecture(other).digest for other in shuffled} == set(digests)


def test_a_new_block_takes_the_levels_of_the_previous_one() -> None:
    axes = "{depth: {values: [1, 2], per: stage}, mlp_ratio: {values: [1, 2], per: block}}"
    space = of_axes(axes, "{width: 8, depths: [1, 1, 1, 1]}")
    point = space.point({"mlp_ratio": 1})
    (deeper,) = (other for other in space.neighbors(point) if other["depth@stage2"] == 2)
    assert deeper["mlp_ratio@stage2.block2"] == 1
    assert point in list(space.neighbors(deeper))


def test_infeasible_changes_are_no_neighbors() -> None:
    space = of_axes("{ratio: [1/8, 1/4], parts: [2, 3], ratio_2: [1/2, 7/8]}")
    point = space.point({"ratio": "1/4", "parts": 3, "ratio_2": "1/2"})
    changed = [(other["ratio"], other.get("ratio_2")) for other in space.neighbors(point)]
    assert ("1/8", "1/2") in changed
    assert ("1/4", "7/8") not in changed  # the ratios of three parts must leave a rest


def test_infeasibility_reasons(paper: Space, points: list[Any]) -> None:
    point = dict(points[0])
    assert paper.infeasibility_reason(point) is None
    assert (
        paper.infeasibility_reason({**point, "widht": 8}) == "the space has no choice named widht"
    )
    assert "width: expected one of 8, 12, 16, got 9" in str(
        paper.infeasibility_reason({**point, "width": 9})
    )
    no_depths = {name: label for name, label in point.items() if name != "depths"}
    assert "depths: missing" in str(paper.infeasibility_reason(no_depths))
    space = of_axes("{parts: [1, 2], ratio: [1/16, 1/4]}", rest=", constraints: {params: {max: 1}}")
    assert "gets none of the 8 channels" in str(
        space.infeasibility_reason({"parts": 2, "ratio": "1/16"})
    )
    assert "inactive choices: ratio" in str(
        space.infeasibility_reason({"parts": 1, "ratio": "1/4"})
    )
    assert "expected at most 1" in str(space.infeasibility_reason({"parts": 1}))


def test_optuna_suggests_active_choices_only(paper: Space) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        point = paper.suggest(trial)
        assert trial.params == dict(point) == paper.optuna_params(point)
        study.tell(trial, 0.0)
    wanted = paper.sample(random.Random(5))
    study.enqueue_trial(paper.optuna_params(paper.architecture(wanted)))
    proposed = paper.architecture(paper.suggest(study.ask()))
    assert proposed.digest == paper.architecture(wanted).digest
    with pytest.raises(UserError, match="not in the space"):
        paper.optuna_params(preset("fasternet_t0"))


def test_optuna_tpe_learns_over_a_space() -> None:
    space = of_axes(
        "{mlp_ratio: {values: [1, 2, 3, 4], per: stage}, pat_sp: [false, true, stage 1]}"
    )
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5))
    for _ in range(25):
        trial = study.ask()
        study.tell(trial, space.cost(space.architecture(space.suggest(trial))).macs)
    least = min(space.cost(space.architecture(point)).macs for point in space.enumerate())
    assert study.best_value < 1.5 * least


def test_errors_of_base_and_space_are_reported_together() -> None:
    with pytest.raises(UserError) as caught:
        space_of("{base: {width: 0}, space: {axes: {width: [a]}, constraint: 1}}")
    text = str(caught.value)
    for line in (
        "base",
        "space.axes.width[0]: expected a whole number",
        "space.constraint: unknown",
    ):
        assert line in text
    with pytest.raises(UserError) as caught:
        space_of("{base: {parts: 4}, space: {axes: {stem_stride: [2, 4], ratio_3: [1/4]}}}")
    text = str(caught.value)
    assert (
        "space.axes.stem_stride: an input of 28x28 pixels is too small for a stem of stride 4"
        in text
    )
    assert "the smallest valid input is 32x32" in text
    assert "space.axes.ratio_3: requires ratio_2, as an axis or in base.ratio" in text
    with pytest.raises(UserError, match=r"base\.stem_stride: an input of 28x28"):
        space_of("{base: {width: 8}, space: {axes: {}}}")


def nearest_told(space: Space) -> str:
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        space.sample(random.Random(0))
    assert time.process_time() - started < 1
    return str(caught.value)


def test_unsatisfiable_constraints_report_the_nearest_network() -> None:
    axes = "{width: [8, 12], mlp_ratio: {values: [1, 2], per: stage}}"
    free = of_axes(axes)
    costs = [free.cost(free.architecture(point)) for point in free.enumerate()]
    least, most = min(c.macs for c in costs), max(c.params for c in costs)
    text = nearest_told(of_axes(axes, rest=", constraints: {macs: {max: 1000}}"))
    assert "no network of this space satisfies" in text
    assert f"the nearest has macs {least / 1e3:.4g}k, expected at most 1k" in text
    text = nearest_told(of_axes(axes, rest=", constraints: {params: {min: 1G}}"))
    assert f"the nearest has params {most / 1e3:.4g}k, expected at least 1G" in text


def test_unsatisfiable_constraints_are_reported_in_large_spaces() -> None:
    axes = (
        "{mlp_ratio: {values: [1, 2, 3], per: block}, pat_sp: {values: [false, true], per: block}}"
    )
    base = "{preset: partialnet_t0, width: 8}"
    smallest = Plan(width=8, mlp_ratio=1, attention={"channel": "stages 1-3", "self": "stage 4"})
    free = of_axes(axes, base)
    least = free.cost(smallest.architecture()).macs
    text = nearest_told(of_axes(axes, base, ", constraints: {macs: {max: 1k}}"))
    assert f"the nearest has macs {least / 1e3:.4g}k, expected at most 1k" in text
    only = of_axes(axes, base, f", constraints: {{macs: {{max: {least}}}}}")
    assert only.architecture(only.sample(random.Random(0))).digest == smallest.architecture().digest


@given(st.integers(1, 10**12), st.integers(0, 10**6), st.integers(1, 10**6))
def test_counts_in_messages_are_distinguishable(low: int, more: int, beyond: int) -> None:
    high, reached = low + more, low + more + beyond
    (line,) = Constraints.model_validate({"macs": {"min": low, "max": high}}).violations(
        Cost(macs=reached)
    )
    match = re.fullmatch(r"macs (\S+), expected at least (\S+) and at most (\S+)", line)
    assert match is not None
    assert len({*match.groups()}) == len({reached, low, high})
    for text, number in zip(match.groups(), (reached, low, high), strict=True):
        value = float(text.rstrip("kMG")) * {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1)
        assert value == pytest.approx(number, rel=1e-3)


def test_only_axes_that_affect_activity_walk_the_tree(
    monkeypatch: pytest.MonkeyPatch, paper: Space
) -> None:
    point = paper.sample(random.Random(0))
    ratio = next(name for name in point if name.startswith("mlp_ratio"))
    parts = next(name for name in point if name.startswith("parts"))
    chosen = paper._chosen(point)
    visited: list[str] = []
    active = ChoiceTree.is_active

    def noting(self: ChoiceTree, choice: Choice, so_far: Assignment) -> bool:
        visited.append(choice.name)
        return active(self, choice, so_far)

    monkeypatch.setattr(ChoiceTree, "is_active", noting)
    for name, walks in ((ratio, False), (parts, True)):
        choice = next(c for c in paper.choices if c.name == name)
        (level, *_) = [other for other in choice.axis.levels if other.label != point[name]]
        near = next(paper.choice_tree.variations(chosen, choice, level))
        assert near[choice.key] == level
        assert bool(visited) == walks


def test_a_space_without_valid_networks_is_an_error() -> None:
    space = of_axes("{parts: [7, 8], activation: [gelu, relu]}", "{width: 4}")
    with pytest.raises(
        UserError, match=r"no network of this space could be built.*gets none of the 4"
    ):
        space.sample(random.Random(0))


def test_a_space_without_axes_is_its_base() -> None:
    space = of_axes("{}")
    point = space.sample(random.Random(0))
    assert dict(point) == {}
    assert space.size().points == space.size().networks == 1
    assert space.locate(space.architecture(point)) == point
    assert list(space.neighbors(point)) == []


def test_sampling_building_and_costing_is_fast(paper: Space) -> None:
    space = of_axes("{width: [8, 16], mlp_ratio: {values: [1, 2, 3], per: block},"
                    " parts: {values: [1, 2, 3], per: block}}",
                    "{preset: partialnet_t0, width: 16}")  # fmt: skip
    rng, started = random.Random(0), time.process_time()
    for _ in range(50):
        space.cost(space.architecture(space.sample(rng)))
    assert (time.process_time() - started) / 50 < 0.005
    assert math.isfinite(paper.size().error)


def test_spaces_do_not_import_torch() -> None:
    code = (
        "import sys, partialnas.space.search_space.space, partialnas.space.search_space.advice;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'optuna', 'numpy', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
