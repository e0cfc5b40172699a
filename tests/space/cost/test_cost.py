"""Costs against the published counts and the closed form of the parameters."""

import pytest

from partialnas.space.arch import architecture
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import PRESETS, preset, preset_plan
from partialnas.space.cost import formulas
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.formulas import sum_costs
from partialnas.space.errors import UserError

# Parameters and MACs at 224 pixels without and with PAT_sp, counted by fvcore elsewhere.
COUNTED = {
    "partialnet_t0": ((3_486_160, 235_405_552), (3_558_240, 246_908_400)),
    "partialnet_t1": ((5_985_552, 520_726_472), (6_144_552, 545_808_200)),
    "partialnet_t2": ((12_269_816, 1_039_113_024), (12_650_424, 1_086_579_520)),
    "partialnet_s": ((28_013_304, 2_715_590_048), (28_975_704, 2_842_748_576)),
    "partialnet_m": ((59_179_000, 6_692_529_664), (61_366_776, 7_021_684_224)),
    "partialnet_l": ((100_641_336, 11_908_912_000), (104_465_336, 12_502_243_200)),
}


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("pat_sp", [False, True])
def test_partialnets_cost_what_was_counted(name: str, pat_sp: bool) -> None:
    plan = Plan.model_validate({**preset_plan(name).model_dump(), "pat_sp": pat_sp})
    counted = compute_cost(plan.architecture(), InputSpec.square(224))
    assert (counted.params, counted.macs) == COUNTED[name][pat_sp]


def test_equal_blocks_are_built_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []
    counted: list[object] = []
    realize, mixer_cost = architecture.realize, formulas.mixer_cost
    architecture._realized.cache_clear()
    formulas.block_cost.cache_clear()
    monkeypatch.setattr(architecture, "realize", lambda *a: (built.append(a), realize(*a))[1])
    monkeypatch.setattr(formulas, "mixer_cost", lambda *a: (counted.append(a), mixer_cost(*a))[1])
    for _ in range(2):
        read = Architecture.from_json(preset("partialnet_l").to_json())
        assert sum(read.depths) == 29
        assert compute_cost(read, InputSpec.square(224)).params == COUNTED["partialnet_l"][0][0]
    assert len(built) == len(counted) == len(read.stages) == 4


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_follow_the_closed_form(name: str) -> None:
    plan = preset_plan(name)
    e, heads = plan.widths[0], plan.heads
    expected = 50 * e + 8 * e * 1280 + 1280 * 1000 + 1000
    for stage, (width, depth) in enumerate(zip(plan.widths, plan.depths, strict=True)):
        c1, c2 = width // 4, width - width // 4
        block = 4 * width**2 + 4 * width + 9 * c1**2
        block += 4 * c2**2 + c2 + 81 * heads + 2 * c2 if stage == 3 else 2 * c2**2 + 4 * c2
        if plan.pat_sp[stage]:
            block += width**2 // 4 + width // 2 + 2 * width
        expected += depth * block
        expected += 4 * plan.widths[stage - 1] * width + 2 * width if stage else 0
    assert compute_cost(plan.architecture(), InputSpec.square(224)).params == expected


@pytest.mark.parametrize("name", PRESETS)
def test_rows_add_up_to_the_whole(name: str) -> None:
    counted = compute_cost(preset(name), InputSpec.square(224))
    assert len(counted.rows) == sum(preset(name).depths) + 5
    whole = sum_costs(counted.rows)
    assert (whole.params, whole.macs) == (counted.params, counted.macs)
    assert (whole.macs_core, whole.activations) == (counted.macs_core, counted.activations)
    assert counted.macs_core < counted.macs < 1.05 * counted.macs_core


def test_too_small_an_input_is_refused() -> None:
    with pytest.raises(UserError, match="the smallest valid input is 32x32"):
        compute_cost(preset("partialnet_t0"), InputSpec.square(28))
