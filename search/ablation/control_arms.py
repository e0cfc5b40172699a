"""Arms that follow from what others have learned: static networks with the ratios of a DPConv."""

from collections.abc import Mapping
from typing import Any

from partialnas.runs.records.frozen_model import frozen_sizes
from partialnas.runs.records.subject import Subject, subject_name
from partialnas.search.study.condition import Condition
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.ratio_controls import ControlKind, control_sizes
from partialnas.space.errors import UserError
from partialnas.space.values import Value, validate_as


class ControlArm(Value):
    """An arm whose ratios come from the trial of another arm with the same seed.

    Attributes:
        origin: the arm that learns ratios; written `from`.
        ratios: what becomes of them.
    """

    origin: str
    ratios: ControlKind = "learned"


def is_control(arm: object) -> bool:
    """Whether an arm of a study follows from another one."""
    return isinstance(arm, Mapping) and "from" in arm


def parse_control_arm(arm: Mapping[str, Any], arms: Mapping[str, Subject]) -> ControlArm:
    """The control that an arm of a study describes.

    Args:
        arm: as the study has it.
        arms: those that are no controls, by name.

    Raises:
        UserError: it names no arm that learns one ratio per layer, or no such control.
    """
    data = {"origin" if key == "from" else key: value for key, value in arm.items()}
    control = validate_as(ControlArm, data, "no control")
    origin = arms.get(control.origin)
    learned = origin.learned if isinstance(origin, Architecture) else None
    if learned is None or learned.per != "layer":
        able = [
            name
            for name, other in arms.items()
            if isinstance(other, Architecture) and other.learned and other.learned.per == "layer"
        ]
        there = f"; there are {', '.join(able)}" if able else ""
        raise UserError(
            f"from: expected an arm that learns a ratio per layer, got {control.origin!r}{there}"
        )
    return control


def control_network(
    name: str,
    control: ControlArm,
    origin: Subject,
    channels: Mapping[str, float],
    condition: Condition,
    seed: int,
) -> Architecture:
    """The static network of a control.

    Args:
        name: of its arm.
        control: what becomes of the ratios.
        origin: the network that has learned them.
        channels: of each learned part, by boundary, as its record tells them.
        condition: that it was trained under.
        seed: that it was trained with.
    """
    assert isinstance(origin, Architecture), subject_name(
        origin
    )  # `parse_control_arm` refuses others
    task = condition.task
    sizes = frozen_sizes(origin, channels)
    chosen = control_sizes(control.ratios, origin, sizes, task.input_spec, seed)
    return origin.frozen(chosen).model_copy(update={"name": name})
