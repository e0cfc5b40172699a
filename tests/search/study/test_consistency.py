"""Mistakes of a study are reported together; a study may measure nothing."""

from typing import Any

import pytest

import partialnas
from partialnas.runs.config.protocol import Protocol
from partialnas.search.study.study import Study
from partialnas.search.study.study_fields import SHORT_TIMING_S
from partialnas.search.study.study_file import load_source, load_study
from partialnas.space.errors import UserError

ARMS = {"one": "partialnet_t0", "two": "fasternet_t0"}


def mistakes(**sections: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_study({"study": "bad", **sections})
    head, *lines = str(caught.value).splitlines()
    assert head.startswith("invalid study")
    return [line.strip() for line in lines]


@pytest.mark.parametrize("task", ["mnist5", {"data": "mnist5"}])
def test_an_unknown_data_set_is_reported_with_the_other_mistakes(task: Any) -> None:
    lines = mistakes(task=task, space={"axes": {"ratios": ["1/4"]}}, budget={"trials": 3})
    assert [line.partition(":")[0] for line in lines] == ["space.axes.ratios", "task.data"]
    assert "mnist5k" in lines[-1]
    with pytest.raises(UserError, match=r"data sets|mnist5k"):
        partialnas.check({"study": "bad", "task": task, "arms": ARMS})


def test_names_in_all_sections_and_the_structure_are_checked_in_one_round() -> None:
    assert mistakes(
        base={"preset": "partialnet_t9"},
        recipe={"use": "shrt"},
        space={"axes": {"ratios": ["1/4"], "activation": ["gelu", "rleu"]}},
        search={"sampler": "tpee", "populaton": 3},
        objectives={"accuracy": "max", "macs": "min"},
        limits={"latency": {"max": 3}},
        reference_point={"params": 3},
        budgett={"trials": 20},
    ) == [
        "base: unknown preset 'partialnet_t9'; did you mean partialnet_t0, partialnet_t1 or "
        "partialnet_t2?",
        "space.axes.ratios: unknown axis; did you mean ratio?",
        "space.axes.activation[1]: expected one of gelu, relu, silu, hardswish, got 'rleu'; did "
        "you mean relu?",
        "recipe: use: unknown recipe 'shrt'; did you mean short?",
        "search.sampler: expected 'hybrid', 'random', 'quasi-random', 'tpe', 'nsga2', 'gp', "
        "'evolution' or 'front-evolution', got 'tpee'; did you mean tpe?",
        "search.populaton: unknown key; did you mean population?",
        "budgett: unknown key; did you mean budget?",
        "objectives: unknown quantity 'accuracy'; did you mean val_accuracy?",
        "limits: unknown quantity 'latency'; did you mean latency_ms?",
        "reference_point: params is not an objective; choose accuracy or macs",
    ]


def test_a_valid_section_is_not_blamed_for_an_invalid_one() -> None:
    search = {"sampler": "random"}
    assert mistakes(search=search, space={"axes": {"widht": [8]}}) == [
        "space.axes.widht: unknown axis; did you mean width?"
    ]
    assert mistakes(arms={"one": "partialnet_t00"}) == [
        "arms: one: unknown preset 'partialnet_t00'; did you mean partialnet_t0, partialnet_t1 or "
        "partialnet_t2?"
    ]


def test_limits_and_constraints_point_to_each_other_at_once() -> None:
    assert mistakes(
        arms=ARMS,
        limits={"macs": {"max": "300k"}, "latency": {"max": "x"}},
        space={"axes": {"width": [8]}, "constraints": {"latency_ms": {"max": 5}}},
    ) == [
        "space: constraints: latency_ms is measured, not computed; use `limits` of the study",
        "limits: macs is computed, not measured; use space.constraints",
    ]
    assert mistakes(arms=ARMS, limits={"activations": {"max": "1M"}}) == [
        "limits: activations is computed, not measured; use space.constraints for params or macs"
    ]
    (line,) = mistakes(arms=ARMS, limits={"flops": {"max": 3}})
    assert line.endswith("; space.constraints bounds params and macs")
    assert mistakes(arms=ARMS, objectives={"flops": "min"}) == [
        "objectives: unknown quantity 'flops'; did you mean macs?"
    ]
    ablation = {"design": "one-factor", "factors": {"parts": [2]}, "match": "flops"}
    assert mistakes(ablation=ablation) == [
        "ablation.match: expected 'macs', 'params', 'latency' or 'none', got 'flops'; did you mean "
        "macs?"
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [("300k", 3e5), ("1.5G", 1.5e9), ("20e6", 2e7), ("0.1", 0.1), ("1e-2", 0.01), ("-2", -2.0)],
)
def test_limits_take_the_suffixes_of_constraints(text: str, number: float) -> None:
    study = {"study": "plain", "arms": ARMS}
    stated = load_study({**study, "limits": {"throughput_img_s": {"min": text}}})
    plain = load_study({**study, "limits": {"throughput_img_s": {"min": number}}})
    assert stated == plain
    assert stated.digest == plain.digest
    assert stated.frozen()["limits"]["throughput_img_s"]["min"] == number


@pytest.mark.parametrize("value", ["k", "5 kg", True, "nan", [5]])
def test_limits_that_are_no_numbers_are_rejected(value: object) -> None:
    (line,) = mistakes(arms=ARMS, limits={"latency_ms": {"max": value}})
    assert line.startswith("limits.latency_ms.max: ")


def test_a_study_that_measures_nothing_selects_by_no_speed() -> None:
    study = load_study({"study": "plain", "measure": "none", "arms": ARMS})
    assert not study.times_networks
    assert study.objectives == {"val_nll": "min", "macs": "min"}
    assert Study.model_validate(study.frozen()) == study
    selects = {"val_nll": "min", "throughput_img_s": "max"}
    limits = {"latency_ms": {"max": 5}}
    ends = "is measured, but the study measures nothing; remove it, or `measure: none`"
    assert mistakes(measure="none", arms=ARMS, objectives=selects, limits=limits) == [
        f"objectives: throughput_img_s {ends}",
        f"limits: latency_ms {ends}",
    ]
    ablation: dict[str, Any] = {"baseline": "partialnet_t0", "factors": {"mlp_ratio": [1]}}
    ablation |= {"design": "one-factor", "match": "latency"}
    assert mistakes(measure="none", ablation=ablation) == [
        "ablation.match: latency is measured, but the study measures nothing"
    ]


@pytest.mark.parametrize(
    ("sections", "seconds"),
    [
        ({}, 20.0),  # the default objectives have a speed
        ({"objectives": {"val_nll": "min"}}, SHORT_TIMING_S),
        ({"objectives": {"val_nll": "min"}, "measure": {"max_seconds": 30}}, 30.0),
        ({"objectives": {"val_nll": "min"}, "measure": {"max_seconds": 1}}, 1.0),
        ({"objectives": {"val_nll": "min"}, "limits": {"latency_ms": {"max": 5}}}, 20.0),
    ],
)
def test_timing_is_shorter_where_no_speed_decides_but_recorded_as_stated(
    sections: dict[str, Any], seconds: float
) -> None:
    study = load_study({"study": "plain", "arms": ARMS, **sections})
    assert study.protocol.max_seconds == seconds
    stated = sections.get("measure", {}).get("max_seconds", Protocol().max_seconds)
    assert study.frozen()["measure"]["max_seconds"] == stated


SHORT = {"study": "plain", "arms": ARMS, "objectives": {"val_nll": "min"}}
"""A study in which no speed decides."""


def test_a_stated_time_limit_is_kept_even_if_it_is_the_default() -> None:
    default = Protocol().max_seconds
    stated = load_study({**SHORT, "measure": {"max_seconds": default}})
    assert stated.protocol.max_seconds == default
    assert stated.digest == load_study(SHORT).digest  # as recorded before there was a difference


@pytest.mark.parametrize("stated", [True, False])
def test_a_study_read_again_times_networks_as_long_as_before(stated: bool) -> None:
    measure = {"max_seconds": 20} if stated else {}
    changed = {"small": {"recipe.batch_size": 32}}
    study = load_study({**SHORT, "measure": measure, "conditions": changed})
    seconds = 20.0 if stated else SHORT_TIMING_S
    overrides = {"seeds": 2}, {"measure.retries": 0}
    copies = [study.under("small"), *(load_source(study, overrides=o) for o in overrides)]
    assert [copy.protocol.max_seconds for copy in copies] == [seconds] * 3
