"""Comparison of MAC counters on a network: closed formula, fvcore and torch, in both forms."""

from dataclasses import dataclass

import torch
from torch import nn

from partialnas.runs.datasets.task import Task
from partialnas.runs.measure.fuse_timm import UnfusableError, fuse_model
from partialnas.runs.records.subject import Subject, TimmModel, subject_digest, subject_name
from partialnas.runs.trials.build import build_network
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.mac_budget import uniform_sizes
from partialnas.space.deploy.fuse import deploy
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import OpCounts, count_ops


@dataclass(frozen=True, kw_only=True)
class FlopsAudit:
    """Counts of one network for one image.

    Attributes:
        name: name of the network.
        digest: digest of the network.
        kind: operations that mix channels, as returned by `describe_mixers`.
        formula_macs: multiply-accumulates by closed formula, or None for a timm model.
        formula_params: parameters by closed formula, or None for a timm model.
        training: counts of the training form in evaluation mode.
        deployed: counts of the deploy form, or None if there is none.
        no_deploy_form: reason why there is no deploy form, or empty.
    """

    name: str
    digest: str
    kind: str
    formula_macs: int | None
    formula_params: int | None
    training: OpCounts
    deployed: OpCounts | None
    no_deploy_form: str = ""


def audit_flops(subject: Subject, task: Task) -> FlopsAudit:
    """Count a network with all available counters.

    Learned ratios are counted as `compute_cost` counts them: at one ratio for all layers that meets
    the budget.

    Raises:
        UserError: the network cannot be built for the task.
    """
    static = _static_subject(subject, task)
    formula = None
    if isinstance(static, Architecture):
        formula = compute_cost(static, task.input_spec)
    with torch.random.fork_rng(devices=[]):
        network = build_network(static, task).eval().requires_grad_(False)
        training = count_ops(network, task.input_spec)
        deployed, reason = _count_deployed(network, task)
    return FlopsAudit(
        name=subject_name(subject),
        digest=subject_digest(subject),
        kind=describe_mixers(subject),
        formula_macs=formula.macs if formula else None,
        formula_params=formula.params if formula else None,
        training=training,
        deployed=deployed,
        no_deploy_form=reason,
    )


def describe_mixers(subject: Subject) -> str:
    """Return the operations that mix channels, such as `channel + conv + PAT_sp`."""
    if isinstance(subject, TimmModel):
        return f"timm:{subject.timm}"
    operations = {
        part.op for stage in subject.realized for block in stage for part in block.parts
        if part.channels
    }  # fmt: skip
    sp = any(block.pat_sp for stage in subject.realized for block in stage)
    learned = f", learned per {subject.learned.per}" if subject.learned is not None else ""
    return " + ".join([*sorted(operations), *(["PAT_sp"] if sp else [])]) + learned


def _static_subject(subject: Subject, task: Task) -> Subject:
    if isinstance(subject, Architecture) and subject.learned is not None:
        return subject.frozen(uniform_sizes(subject, task.input_spec))
    return subject


def _count_deployed(network: nn.Module, task: Task) -> tuple[OpCounts | None, str]:
    try:
        module = _to_deploy_form(network, task)
    except UnfusableError as error:
        return None, str(error)
    return count_ops(module, task.input_spec), ""


def _to_deploy_form(network: nn.Module, task: Task) -> nn.Module:
    if isinstance(network, Network):
        return deploy(network)
    images = torch.randn(2, task.channels, task.resolution, task.resolution)
    return fuse_model(network, images)
