"""Build the network of a subject, and compute its cost.

Torch and timm are imported only when they are needed: the cost of an architecture needs neither.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.subject import Subject, TimmModel
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import MachineError, UserError
from partialnas.space.validation import suggest

if TYPE_CHECKING:
    from torch import nn


def check_subject(subject: Subject) -> None:
    """Check that the installed timm has the model of a subject; nothing is built.

    Raises:
        UserError: There is no such model; the message names the closest.
    """
    if isinstance(subject, Architecture):
        return
    import timm

    names = timm.list_models()
    if subject.timm not in names:
        hint = suggest(subject.timm, names)
        hint = hint if hint.endswith("?") else "see timm.list_models()"
        raise UserError(f"timm {timm.__version__} has no model {subject.timm!r}; {hint}")


def build_network(subject: Subject, task: Task, recipe: Recipe | None = None) -> "nn.Module":
    """Return a subject's network for a task, on the CPU.

    Its weights are drawn from torch's global generator.

    Args:
        subject: what to build.
        task: task with the channels and size of the images and the number of classes.
        recipe: recipe with the drop path rate and, for our architectures, the dropout rate of
            attention. Without it there is no drop path, and dropout has its default.

    Raises:
        UserError: The network cannot be built: unknown to timm, images too small for its strides,
            or a drop path rate that the model does not accept.
    """
    if isinstance(subject, TimmModel):
        return _build_timm(subject, task, recipe.drop_path if recipe else 0.0)
    from partialnas.space.nn.network import Network

    subject.map_sizes(task.resolution, task.resolution)
    rates = (recipe.drop_path, recipe.dropout) if recipe else ()
    return Network(subject, task.channels, task.classes, *rates)


def _build_timm(model: TimmModel, task: Task, drop_path: float) -> "nn.Module":
    import timm

    check_subject(model)
    config = timm.get_pretrained_cfg(model.timm)
    arguments: dict[str, Any] = {"in_chans": task.channels, "num_classes": task.classes}
    if config is not None and config.fixed_input_size:  # other models reject the argument
        arguments["img_size"] = task.resolution
    with _timm_errors("built", model, task):
        return _create_timm(model.timm, drop_path, arguments)


@contextmanager
def _timm_errors(action: str, model: TimmModel, task: Task) -> Iterator[None]:
    """Raise any error as one that names the model and the images: timm raises all kinds."""
    try:
        yield
    except (UserError, MachineError, MemoryError):
        raise
    except Exception as error:
        remedy = (
            "set recipe.drop_path to 0"
            if "drop_path" in str(error)
            else "choose another model or another task.resolution"
        )
        raise UserError(
            f"timm:{model.timm} cannot be {action} for {task.channels}-channel images of "
            f"{task.resolution} pixels ({type(error).__name__}: {error}); {remedy}"
        ) from error


def check_trainable(model: TimmModel, task: Task, recipe: Recipe) -> None:
    """Train a model of timm on two blank images, to check that it can be trained on a task.

    Raises:
        UserError: It cannot be built, run or trained, or does not return one logit per class.
    """
    import torch
    from torch.nn import functional

    with torch.random.fork_rng(devices=[]):
        network = build_network(model, task, recipe)
        with _timm_errors("trained", model, task):
            images = torch.zeros(2, task.channels, task.resolution, task.resolution)
            labels = torch.zeros(2, dtype=torch.int64)
            logits = network.train()(images)
            functional.cross_entropy(logits, labels).backward()
            if logits.shape != (2, task.classes):
                raise ValueError(f"{tuple(logits.shape)} is no batch of {task.classes} logits")
            with torch.inference_mode():
                network.eval()(images)


def _create_timm(name: str, drop_path: float, arguments: dict[str, Any]) -> "nn.Module":
    import timm

    network: nn.Module
    try:
        # Passed even if it is 0: some models have another default.
        network = timm.create_model(name, drop_path_rate=drop_path, **arguments)
    except TypeError as error:
        if drop_path or "drop_path_rate" not in str(error):
            raise
        network = timm.create_model(name, **arguments)
    return network


def subject_cost(subject: Subject, task: Task) -> dict[str, int]:
    """Return `params`, `macs`, `macs_core` and `activations` for one image of the task.

    Our architectures are counted by formula. Models of timm are run to be counted (see
    `partialnas.space.nn.op_counter`), once per process.

    Raises:
        UserError: The network cannot be built for the task, or cannot run on its images.
    """
    if isinstance(subject, TimmModel):
        return dict(_count_timm(subject, task))
    return _to_dict(compute_cost(subject, task.input_spec))


@cache
def _count_timm(model: TimmModel, task: Task) -> dict[str, int]:
    import torch

    from partialnas.space.nn.op_counter import count_ops

    with torch.random.fork_rng(devices=[]):
        network = build_network(model, task)
        with _timm_errors("run", model, task):
            return _to_dict(count_ops(network, task.input_spec))


def _to_dict(counts: Any) -> dict[str, int]:
    return {key: getattr(counts, key) for key in ("params", "macs", "macs_core", "activations")}
