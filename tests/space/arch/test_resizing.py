"""Narrowed architectures."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.resizing import narrow_architecture
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError


@given(
    width=st.integers(4, 64),
    share=st.fractions("1/8", "1", max_denominator=8),
    parts=st.integers(1, 3),
    attention=st.sampled_from(["none", "channel", "self"]),
)
def test_narrowing_changes_only_the_widths(
    width: int, share: Fraction, parts: int, attention: str
) -> None:
    settings = {"width": width, "parts": parts, "attention": attention, "depths": [1, 1, 1, 1]}
    try:
        whole = Plan.model_validate(settings).architecture()
    except UserError:  # cannot be built at this width
        return
    less = narrow_architecture(whole, share)
    compute_cost(less, InputSpec.square(32, 3, 10))  # can be built
    for stage, narrow in zip(whole.stages, less.stages, strict=True):
        assert narrow.blocks == stage.blocks
        assert 1 <= narrow.width <= stage.width
        # heads and parts need widths that they divide: the next one is never far
        assert abs(narrow.width - share * stage.width) <= 16
    assert (less.stem_stride, less.head_width) == (whole.stem_stride, whole.head_width)


def test_narrowing_is_exact_where_the_share_divides_the_widths() -> None:
    whole = Plan(width=16).architecture()
    assert narrow_architecture(whole, Fraction(1, 2)) == Plan(width=8).architecture()
    assert narrow_architecture(whole, Fraction(1)) is whole


def test_architectures_with_learned_ratios_are_not_narrowed() -> None:
    learned = Plan.model_validate({"width": 16, "ratio": [{"learned": {"budget": "1/4"}}]})
    architecture = learned.architecture()
    assert narrow_architecture(architecture, Fraction(1, 2)) is architecture
