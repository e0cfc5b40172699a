import pandas as pd
import pytest

from partialnas.analysis.figures.flops_ranks import flops_ranks
from partialnas.runs.datasets.task import Task
from partialnas.runs.measure.flops_audit import audit_flops, describe_mixers
from partialnas.runs.records.subject import parse_subject
from partialnas.space.arch.plan import Plan
from partialnas.space.errors import UserError

TASK = Task(data="random", resolution=28, channels=1, classes=10)
PLAN = {"stem_stride": 2, "width": 8, "depths": (1, 1, 1, 1), "head_width": 16}


def test_counters_agree_in_training_form_and_count_less_in_deploy_form() -> None:
    network = Plan.model_validate({**PLAN, "pat_sp": True}).architecture()
    audit = audit_flops(network, TASK)
    assert audit.formula_macs == audit.training.macs == audit.training.macs_raw
    assert audit.formula_params == audit.training.params
    assert audit.training.macs_core < audit.training.macs
    assert audit.deployed is not None
    assert audit.deployed.macs < audit.training.macs  # norms are folded away
    assert "aten::add" in audit.training.skipped


@pytest.mark.slow
def test_timm_models_have_no_closed_formula() -> None:
    audit = audit_flops(parse_subject("timm:resnet10t"), TASK)
    assert audit.formula_macs is None
    assert audit.deployed is not None
    assert audit.deployed.macs_core <= audit.training.macs_core


def test_mixers_are_described_by_their_operations() -> None:
    assert describe_mixers(Plan.model_validate({**PLAN, "attention": "none"}).architecture()) == (
        "conv + identity"
    )
    learned = {**PLAN, "ratio": {"learned": {"per": "layer", "budget": "1/4"}}}
    assert describe_mixers(Plan.model_validate(learned).architecture()).endswith(
        "learned per layer"
    )


def trials(macs: list[int], speed: list[float], width: float = 0.01) -> pd.DataFrame:
    number = range(len(macs))
    return pd.DataFrame(
        {
            "folder": "s", "arm": "", "trial": [i + 1 for i in number],
            "digest": [f"d{i}" for i in number],
            "macs": macs, "throughput_img_s": speed, "relative_throughput": 1.0,
            "relative_low": 1 - width, "relative_high": 1 + width,
        }
    )  # fmt: skip


def test_ranks_agree_if_fewer_macs_are_always_faster() -> None:
    ranks = flops_ranks(trials([1, 2, 3, 4, 5, 6], [60.0, 50.0, 40.0, 30.0, 20.0, 10.0]))
    assert ranks.tau.value == pytest.approx(1)
    assert (ranks.discordant_share, len(ranks.pairs)) == (0, 0)


def test_pairs_are_sorted_by_discordance_and_overlapping_intervals_do_not_count() -> None:
    frame = trials([1, 2, 3, 10], [50.0, 40.0, 40.5, 80.0], width=0.02)
    ranks = flops_ranks(frame)
    # the intervals of 40.0 and 40.5 overlap; the most expensive network is faster than three
    assert ranks.tau.value == pytest.approx((2 - 4) / 6)
    assert ranks.discordant_share == pytest.approx(3 / 5)
    first = ranks.pairs.iloc[0]
    assert (first["more"], first["fewer"]) == ("#4", "#2")
    assert (first["macs_ratio"], first["speed_ratio"]) == (5, 2)


def test_a_ranking_needs_two_networks() -> None:
    with pytest.raises(UserError, match="a ranking needs two"):
        flops_ranks(trials([1], [1.0]))
