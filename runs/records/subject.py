"""Subjects: what is trained and measured, one of our architectures or a model of timm.

Telling, comparing and storing subjects takes no torch; building and counting them does.
"""

import difflib
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import field_validator

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import cost
from partialnas.space.errors import UserError
from partialnas.space.values import Value, digest, validate_as

if TYPE_CHECKING:
    from torch import nn

_PREFIX = "timm:"


class TimmModel(Value):
    """A model of timm, trained from scratch, as a baseline or an arm.

    Attributes:
        timm: its name in timm's registry. Whether timm has it is for `check_subject` to say, which
            takes importing timm.
    """

    timm: str

    @field_validator("timm")
    @classmethod
    def _names_an_architecture(cls, name: str) -> str:
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ValueError(
                f"{name!r} is no name of an architecture such as resnet18 (without the tag of "
                "pretrained weights: networks are trained from scratch)"
            )
        return name


Subject: TypeAlias = Architecture | TimmModel


def parse_subject(data: Any) -> Subject:
    """The subject that `data` stand for.

    Args:
        data: `timm:NAME`, or plain data as `subject_data` gives them: `{"timm": NAME}` or those of
            an architecture; a subject stands for itself.

    Raises:
        UserError: `data` are none of these; names the path of every mistake.
    """
    if isinstance(data, Architecture | TimmModel):
        return data
    if isinstance(data, str) and data.startswith(_PREFIX):
        data = {"timm": data.removeprefix(_PREFIX)}
    if isinstance(data, dict) and "timm" in data:
        return validate_as(TimmModel, data, "not a timm model")
    if isinstance(data, dict):
        return Architecture.from_data(data)
    raise UserError(f"expected timm:NAME or an architecture, got {data!r}")


def subject_data(subject: Subject) -> dict[str, Any]:
    """Plain data that `parse_subject` reads back to an equal subject."""
    plain: dict[str, Any] = json.loads(subject.model_dump_json())
    return plain


def subject_digest(subject: Subject) -> str:
    """Identity of the network that is built, 16 hex digits."""
    return subject.digest if isinstance(subject, Architecture) else digest(subject_data(subject))


def subject_name(subject: Subject) -> str:
    """What people call it: the architecture's name (its digest if it has none), `timm:NAME`."""
    if isinstance(subject, TimmModel):
        return _PREFIX + subject.timm
    return subject.name or subject.digest


def check_subject(subject: Subject) -> None:
    """Refuses a timm model that the installed timm does not have. Builds nothing.

    Raises:
        UserError: there is no such model; names the closest.
    """
    if isinstance(subject, Architecture):
        return
    import timm

    names = timm.list_models()
    if subject.timm not in names:
        near = difflib.get_close_matches(subject.timm, names, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() names them all"
        raise UserError(f"timm {timm.__version__} has no model {subject.timm!r}; {hint}")


def build_network(subject: Subject, task: Task, recipe: Recipe | None = None) -> "nn.Module":
    """The subject's network for a task, on the CPU, its weights from torch's global generator.

    Args:
        subject: what to build.
        task: gives the input's channels and size and the number of classes.
        recipe: gives the rates of drop path and, for our architectures, of dropout in attention;
            without it there is no drop path, and dropout at the network's own default.

    Raises:
        UserError: the network cannot be had: unknown to timm, images too small for its strides,
            or a drop path that the model does not know.
    """
    if isinstance(subject, TimmModel):
        return _build_timm(subject, task, recipe.drop_path if recipe else 0.0)
    from partialnas.space.nn.network import Network

    subject.map_sizes(task.resolution, task.resolution)
    shape = (task.channels, task.classes)
    rates = (recipe.drop_path, recipe.dropout) if recipe else ()
    return Network(subject, *shape, *rates)


def _build_timm(model: TimmModel, task: Task, drop_path: float) -> "nn.Module":
    import timm

    check_subject(model)
    facts = timm.get_pretrained_cfg(model.timm)
    arguments: dict[str, Any] = {"in_chans": task.channels, "num_classes": task.classes}
    if facts is not None and facts.fixed_input_size:  # the others do not know the argument
        arguments["img_size"] = task.resolution
    try:
        return _create(model.timm, drop_path, arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        remedy = "; recipe.drop_path must be 0 for it" if "drop_path" in str(error) else ""
        raise UserError(
            f"timm cannot build {model.timm} for {task.channels}-channel images of "
            f"{task.resolution} pixels: {error}{remedy}"
        ) from error


def _create(name: str, drop_path: float, arguments: dict[str, Any]) -> "nn.Module":
    import timm

    network: nn.Module
    try:
        # stated even where it is 0: some models come with a rate of their own
        network = timm.create_model(name, drop_path_rate=drop_path, **arguments)
    except TypeError as error:
        if drop_path or "drop_path_rate" not in str(error):
            raise
        network = timm.create_model(name, **arguments)
    return network


def subject_cost(subject: Subject, task: Task) -> dict[str, int]:
    """`params`, `macs`, `macs_core` and `activations` for one image of the task.

    Ours by formula, timm's counted (see `partialnas.space.nn.op_counter`), once per process.

    Raises:
        UserError: the network cannot be built for the task.
    """
    if isinstance(subject, TimmModel):
        return dict(_counted(subject, task))
    whole = cost(subject, task.input_spec)
    return _figures(whole)


@cache
def _counted(model: TimmModel, task: Task) -> dict[str, int]:
    import torch

    from partialnas.space.nn.op_counter import count_ops

    with torch.random.fork_rng(devices=[]):
        return _figures(count_ops(build_network(model, task), task.input_spec))


def _figures(counted: Any) -> dict[str, int]:
    return {key: getattr(counted, key) for key in ("params", "macs", "macs_core", "activations")}
