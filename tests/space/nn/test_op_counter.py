"""Closed formulas against fvcore and torch's counter, and both against the published figures."""

import csv
import warnings
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import PRESETS, preset, preset_plan
from partialnas.space.cost.cost import compute_cost
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import OpCounts, count_ops

with (Path(__file__).parents[1] / "published.csv").open() as file:
    PUBLISHED = list(csv.DictReader(file))

# Operators that count as nothing, by the convention of published tables.
FREE = {
    *("add", "avg_pool2d", "div", "gelu", "hardsigmoid", "hardswish", "linalg_vector_norm"),
    *("mean", "mul", "silu", "softmax", "sub", "unflatten", "view_as"),
    *("le", "log", "pow", "round", "sqrt", "square", "where"),  # position buckets
}


def row_id(row: dict[str, str]) -> str:
    return f"{row['network']}-{row['pat_sp']}"


def plan_of(row: dict[str, str]) -> Plan:
    plan = preset_plan(row["network"])
    return Plan.model_validate({**plan.model_dump(), "pat_sp": row["pat_sp"] == "on"})


def assert_formula(architecture: Architecture, counted: OpCounts, input_spec: InputSpec) -> None:
    formula = compute_cost(architecture, input_spec)
    for figure in ("params", "macs", "macs_core", "activations"):
        assert getattr(formula, figure) == getattr(counted, figure), figure
    assert {name.removeprefix("aten::") for name in counted.skipped} <= FREE


@pytest.mark.parametrize("row", PUBLISHED, ids=row_id)
def test_golden_counts(row: dict[str, str]) -> None:
    formula = compute_cost(plan_of(row).architecture(), InputSpec.square(224))
    assert (formula.params, formula.macs) == (int(row["params"]), int(row["macs"]))
    assert formula.macs_core == int(row["macs_core"])


@pytest.mark.parametrize("row", PUBLISHED, ids=row_id)
def test_golden_counts_match_the_published_ones(row: dict[str, str]) -> None:
    if row["network"].startswith("partialnet"):
        assert row["params"] == row["published_params"]
        assert row["macs"] == row["published_macs"]
    else:  # published rounded, without norms and pooling
        assert f"{int(row['macs_core']) / 1e9:.2f}G" == row["published_macs"]
        published = float(row["published_params"].removesuffix("M"))
        assert abs(int(row["params"]) / 1e6 - published) < 0.1


@pytest.mark.parametrize("name", ["partialnet_t0", "partialnet_t2", "fasternet_t0"])
def test_costs_of_presets_match_counts(name: str) -> None:
    assert_formula(
        preset(name), count_ops(Network(preset(name)), InputSpec.square(224)), InputSpec.square(224)
    )


@pytest.mark.slow
@pytest.mark.parametrize("row", PUBLISHED, ids=row_id)
def test_costs_of_published_networks_match_counts(row: dict[str, str]) -> None:
    architecture = plan_of(row).architecture()
    assert_formula(
        architecture, count_ops(Network(architecture), InputSpec.square(224)), InputSpec.square(224)
    )


def _random(architecture: Architecture, extra: tuple[int, int], in_chans: int) -> None:
    smallest = architecture.smallest_resolution
    spec = InputSpec(in_chans, smallest + extra[0], 2 * smallest + extra[1], 10)
    counted = count_ops(Network(architecture, in_chans, num_classes=10), spec)
    assert_formula(architecture, counted, spec)


RANDOM = (
    st.from_type(Architecture),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.sampled_from([1, 3]),
)


@settings(max_examples=8, deadline=None)
@given(*RANDOM)
def test_costs_of_random_architectures_match_counts(
    architecture: Architecture, extra: tuple[int, int], in_chans: int
) -> None:
    _random(architecture, extra, in_chans)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(*RANDOM)
def test_costs_of_50_random_architectures_match_counts(
    architecture: Architecture, extra: tuple[int, int], in_chans: int
) -> None:
    _random(architecture, extra, in_chans)


@pytest.mark.parametrize(
    "name",
    [n if n.endswith("t0") else pytest.param(n, marks=pytest.mark.slow) for n in PRESETS[6:]],
)
def test_counts_of_our_fasternets_match_those_of_timm(name: str) -> None:
    assert_formula(
        preset(name),
        count_ops(timm.create_model(name), InputSpec.square(224)),
        InputSpec.square(224),
    )


class Attention(nn.Module):
    """Attention over 16 tokens of 8 channels in one of three implementations."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.multihead = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT
        if self.kind == "multihead":
            out: Tensor = self.multihead(tokens, tokens, tokens, need_weights=False)[0]
            return out
        heads = tokens.unflatten(2, (2, 4)).transpose(1, 2)
        if self.kind == "fused":
            return nn.functional.scaled_dot_product_attention(heads, heads, heads)
        return (heads @ heads.mT).softmax(-1) @ heads


def test_fused_attention_counts_as_two_matrix_products() -> None:
    explicit, fused, multihead = (
        count_ops(Attention(kind), InputSpec.square(4, channels=8))
        for kind in ("explicit", "fused", "multihead")
    )
    products = 2 * 16 * 16 * 8
    assert explicit.macs == explicit.macs_raw == explicit.macs_core == products
    assert fused.macs == fused.macs_core == products
    assert fused.macs_raw == 0
    assert multihead.macs == multihead.macs_core == products + 16 * 8 * 24 + 16 * 8 * 8


def test_counting_does_not_change_the_network_and_prints_nothing() -> None:
    network = Network(preset("fasternet_t0"))
    network.stem.eval()
    modes = [module.training for module in network.modules()]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count_ops(network, InputSpec.square(64))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, before[n]) for n, tensor in network.state_dict().items())
