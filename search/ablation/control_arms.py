"""Control arms: static networks with the ratios that another arm's DPConv layers learned."""

from collections.abc import Mapping
from typing import Any

from partialnas.runs.records.frozen_model import frozen_sizes
from partialnas.runs.records.subject import Subject, subject_name
from partialnas.search.study.fidelity import Condition
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.ratio_controls import ControlKind, control_sizes
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest
from partialnas.space.values import Value, validate_as


class ControlArm(Value):
    """An arm with the ratios that another arm learned with the same seed.

    Attributes:
        origin: name of the arm that learns ratios; written `from`.
        ratios: how the learned ratios are used.
    """

    origin: str
    ratios: ControlKind = "learned"


def is_control(arm: object) -> bool:
    """Return whether an arm of a study is a control arm."""
    return isinstance(arm, Mapping) and "from" in arm


def parse_control_arm(arm: Mapping[str, Any], arms: Mapping[str, Subject]) -> ControlArm:
    """Parse a control arm of a study.

    Args:
        arm: the arm as written in the study.
        arms: the arms that are not controls, by name.

    Raises:
        UserError: `from` is not an arm that learns one ratio per layer, or a key is invalid.
    """
    data = {"origin" if key == "from" else key: value for key, value in arm.items()}
    control = validate_as(ControlArm, data, "invalid control arm")
    eligible = [name for name, other in arms.items() if _learns_per_layer(other)]
    if control.origin not in eligible:
        choice = suggest(control.origin, eligible) or "the study has none"
        raise UserError(
            f"from: {quote(control.origin)} is not an arm that learns one ratio per layer; {choice}"
        )
    return control


def _learns_per_layer(subject: Subject) -> bool:
    learned = subject.learned if isinstance(subject, Architecture) else None
    return learned is not None and learned.per == "layer"


def control_network(
    name: str,
    control: ControlArm,
    origin: Subject,
    channels: Mapping[str, float],
    condition: Condition,
    seed: int,
) -> Architecture:
    """Return the static network of a control arm.

    Args:
        name: name of the control arm.
        control: how the learned ratios are used.
        origin: the network that learned them.
        channels: learned channels of each part, by boundary, as recorded.
        condition: the condition that `origin` was trained under.
        seed: the seed that `origin` was trained with.
    """
    assert isinstance(origin, Architecture), subject_name(origin)  # see `parse_control_arm`
    task = condition.task
    learned = frozen_sizes(origin, channels)
    sizes = control_sizes(control.ratios, origin, learned, task.input_spec, seed)
    return origin.frozen(sizes).model_copy(update={"name": name})
