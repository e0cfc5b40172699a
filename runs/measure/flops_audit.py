"""What counters make of a network: fvcore, torch's own, the closed formula; both forms."""

from dataclasses import dataclass

import torch
from torch import nn

from partialnas.runs.datasets.task import Task
from partialnas.runs.measure.fuse_timm import UnfusableError, fuse_model
from partialnas.runs.records.subject import Subject, TimmModel, subject_digest, subject_name
from partialnas.runs.training.build import build_network
from partialnas.space.arch.architecture import Architecture
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.mac_budget import uniform_sizes
from partialnas.space.deploy.fuse import deploy
from partialnas.space.nn.network import Network
from partialnas.space.nn.op_counter import OpCounts, count_ops


@dataclass(frozen=True, kw_only=True)
class FlopsAudit:
    """One network as different counters see it, for one image.

    Attributes:
        name: of the network.
        digest: of the network.
        kind: what it is made of, as `describe_mixers` tells it.
        formula_macs: multiply-accumulates by closed formula; None of a model of timm.
        formula_params: parameters likewise.
        training: counted in its training form (in evaluation mode).
        deployed: counted in its deploy form; None where it has none.
        no_deploy_form: why it has none; empty where it has one.
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
    """Counts a network in every way that there is.

    Learned ratios are counted as `cost` counts them: one ratio for all layers that spends the
    budget.

    Raises:
        UserError: it cannot be built for the task.
    """
    static = _static(subject, task)
    formula = None
    if isinstance(static, Architecture):
        formula = compute_cost(static, task.input_spec)
    with torch.random.fork_rng(devices=[]):
        network = build_network(static, task).eval().requires_grad_(False)
        training = count_ops(network, task.input_spec)
        deployed, reason = _deployed(network, task)
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
    """The operations that a network mixes channels with, such as `channel + conv + PAT_sp`."""
    if isinstance(subject, TimmModel):
        return f"timm:{subject.timm}"
    found = {
        part.op for stage in subject.realized for block in stage for part in block.parts
        if part.channels
    }  # fmt: skip
    sp = any(block.pat_sp for stage in subject.realized for block in stage)
    learned = f", learned per {subject.learned.per}" if subject.learned is not None else ""
    return " + ".join([*sorted(found), *(["PAT_sp"] if sp else [])]) + learned


def _static(subject: Subject, task: Task) -> Subject:
    if isinstance(subject, Architecture) and subject.learned is not None:
        sizes = uniform_sizes(subject, task.input_spec)
        return subject.frozen(sizes)
    return subject


def _deployed(network: nn.Module, task: Task) -> tuple[OpCounts | None, str]:
    try:
        module = _in_deploy_form(network, task)
    except UnfusableError as error:
        return None, str(error)
    return count_ops(module, task.input_spec), ""


def _in_deploy_form(network: nn.Module, task: Task) -> nn.Module:
    if isinstance(network, Network):
        return deploy(network)
    images = torch.randn(2, task.channels, task.resolution, task.resolution)
    return fuse_model(network, images)
