"""Samples of random spaces: they build, train and satisfy the constraints."""

import random
from typing import Any

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.spec import SpaceSpec
from partialnas.space.errors import UserError
from partialnas.space.nn.network import Network
from partialnas.space.search_space.dynamic_programming import count_points
from partialnas.space.search_space.space import Space

OPERATIONS = ["conv", "channel", "spatial", "self", "pool", "identity", "attention"]
KINDS = ["none", "channel", "spatial", "self"]
LEVELS: dict[str, list[Any]] = {
    "activation": ["gelu", "relu", "silu", "hardswish"],
    "stem_stride": [1, 2, 4],
    "head_width": [8, 16],
    "width": [4, 5, 6, 8],
    "depth": [1, 2, 3],
    "parts": [1, 2, 3, 4, 5],
    "ratio": ["1/8", "1/4", "2/5", "1/2"],
    **{f"ratio_{number}": ["1/8", "1/6", "1/3"] for number in range(2, 5)},
    **{f"operation_{number}": OPERATIONS for number in range(1, 6)},
    "attention": KINDS,
    "heads": [1, 2, 3],
    "mlp_ratio": ["1/2", 1, "5/3", 3],
    "pat_sp": [False, True],
}
GRAINS = {"activation": 1, "stem_stride": 1, "head_width": 1, "width": 2, "depth": 2}


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Draw a space with any axes at any granularity."""
    names = draw(st.lists(st.sampled_from(sorted(LEVELS)), min_size=1, unique=True))
    axes: dict[str, Any] = {}
    for name in names:
        values = draw(st.lists(st.sampled_from(LEVELS[name]), min_size=1, max_size=3, unique=True))
        per = draw(st.sampled_from(["network", "stage", "block"][: GRAINS.get(name, 3)]))
        axes[name] = {"values": values, "per": per}
    for name in [f"ratio_{number}" for number in range(2, 5)]:
        if name in axes:
            axes.setdefault("ratio_2", {"values": ["1/8"]})
            axes.setdefault("ratio_3", {"values": ["1/8"]})
    base = Plan(width=6, depths=(1, 1, 2, 1), stem_stride=2, head_width=8, heads=2,
                parts=draw(st.integers(1, 3)), attention=draw(st.sampled_from(KINDS)))  # fmt: skip
    return Space(base, SpaceSpec(axes=axes), InputSpec.square(32, 1, 3))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(spaces(), st.integers(0, 2**32))
def test_samples_build_and_train(free: Space, seed: int) -> None:
    rng = random.Random(seed)
    try:
        macs = sorted(free.cost(free.architecture(free.sample(rng))).macs for _ in range(5))
    except UserError:
        counted = count_points(free.decoder, 10_000)
        assert counted is None or not counted[0]
        assume(False)
    constraints = {"macs": {"min": macs[1], "max": macs[3]}}
    spec = SpaceSpec(axes=free.spec.axes, constraints=constraints)
    space = Space(free.base, spec, InputSpec.square(32, 1, 3))
    point = space.sample(rng)
    architecture = space.architecture(point)
    cost = space.cost(architecture)
    assert macs[1] <= cost.macs <= macs[3]
    assert space.contains(point)
    network = Network(architecture, in_chans=1, num_classes=3)
    assert sum(weight.numel() for weight in network.parameters()) == cost.params
    logits = network(torch.randn(2, 1, 32, 32))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
