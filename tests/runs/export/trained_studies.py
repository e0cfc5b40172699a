"""Studies with trained networks, as tests of exported models need them; without fixtures."""

import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import partialnas.space.timm  # noqa: F401
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.export import export_model as exporting
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.job import Job
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.records.subject import (
    Subject,
    subject_data,
    subject_digest,
    subject_name,
)
from partialnas.runs.system.files import TrialWeights, weights_path
from partialnas.runs.trials.build import subject_cost
from partialnas.runs.trials.checkpoint import load_weights, save_weights
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.cost.learned_blocks import learned_blocks
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.nn.network import Network

TASK = resolve_task("digits")
RECIPE = Recipe(epochs=2, keep_weights="all", ema=0.9)
FILES = [
    *("README.md", "architecture.json", "config.json", "model.safetensors", "proof.json"),
    "train.sh",
]
QUICK = 0.2

export_model = partial(exporting.export_model, onnx=False)  # which takes seconds


def planned(**changes: Any) -> Architecture:
    defaults = {"width": 8, "depths": (1, 1, 1, 1), "stem_stride": 1, "head_width": 16}
    return Plan.model_validate(defaults | changes).architecture()


def learned(**terms: Any) -> dict[str, Any]:
    return {"learned": {"grain": 1, "budget": "1/4", **terms}}


ATTENTION = {"channel": "stages 1-2", "self": "stage 3"}
TRAINED: dict[str, Architecture] = {
    "threshold": planned(ratio=learned(), attention=ATTENTION, pat_sp=True),
    "gates": planned(ratio=learned(method="gates"), attention={"channel": "stages 1-3"}),
    "static": planned(attention=ATTENTION),
}
NUMBERS = {name: number for number, name in enumerate(TRAINED, start=1)}


def create_ledger(folder: Path, **study: Any) -> Ledger:
    frozen = {"measure": {"batch_size": 4, "threads": 1}, "recipe": {"keep_weights": "all"}}
    meta = {"task": TASK.model_dump_json(), "frozen": json.dumps(frozen | study)}
    return Ledger.create(folder, meta)


def job_of(subject: Subject, seed: int = 0) -> Job:
    return Job(subject=subject, task=TASK, recipe=RECIPE, fidelity=2, seeds=(seed,))


def add_trial(ledger: Ledger, subject: Subject, record: Record | None = None, seed: int = 0) -> int:
    """Plan a trial, finish it if a record is given, and return its number."""
    digest = subject_digest(subject)
    proposal = ledger.add_proposal(None, digest, subject_data(subject), {})
    keys = job_of(subject, seed).trial_keys
    name = subject_name(subject)
    (row,) = ledger.plan(proposal, digest=digest, name=name, fidelity=2, keys=keys)
    if record is not None:
        ledger.finish(record)
    return row.number


def record_of(subject: Subject, seed: int = 0, **facts: Any) -> Record:
    name, digest = subject_name(subject), subject_digest(subject)
    key = job_of(subject, seed).trial_keys[seed]
    defaults = {"key": key, "digest": digest, "name": name, "seed": seed, "fidelity": 2}
    return Record.model_validate({**defaults, "state": "done", **facts})


def trained_logits(study: Path, name: str, images: Tensor) -> Tensor:
    """Return the logits of the trained network with its learned mixers."""
    network = Network(TRAINED[name], in_chans=1, num_classes=10)
    (key,) = job_of(TRAINED[name]).trial_keys.values()
    load_weights(trained_weights(study, key), network, load_splits(TASK))
    with torch.inference_mode():
        logits: Tensor = network.eval()(images)
    return logits


def is_close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max() / one.abs().max()) <= 1e-5


def save_trial_weights(folder: Path, subject: Architecture, network: Network) -> None:
    job = job_of(subject)
    (key,) = job.trial_keys.values()
    save_weights(weights_path(folder, key), network, job, key)


def trained_weights(folder: Path, key: str) -> TrialWeights:
    return TrialWeights(weights_path(folder, key), key, None, "cpu")


def create_trained_study(folder: Path, subject: Architecture, network: Network) -> int:
    """Create a study with one finished trial, its ratios those of the network's mixers."""
    mixers = learned_mixers(network)
    sizes = {index: [int(size) for size in mixer.sizes] for index, mixer in mixers.items()}
    frozen = subject.frozen(sizes)
    ratios = []
    if sizes:
        channels = {b.name: float(sizes[b[:2]][b.part]) for b in subject.boundaries}
        shares = {b.name: channels[b.name] / subject.widths[b.stage] for b in subject.boundaries}
        facts = {"used_macs": 1, "budget_macs": None, "frozen": frozen.digest}
        ratios = [RatioEpoch(epoch=1, channels=channels, ratios=shares, **facts)]
    save_trial_weights(folder, subject, network)
    record = record_of(subject, ratios=ratios, cost=subject_cost(frozen, TASK))
    with create_ledger(folder) as ledger:
        return add_trial(ledger, subject, record)


def randomize(subject: Architecture, seed: int) -> Network:
    """Return a network with random weights, norm statistics and legal ratios."""
    network = Network(subject, in_chans=1, num_classes=10)
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    options = {
        block.block_index: block.options for block in learned_blocks(subject, TASK.input_spec)
    }
    for index, mixer in learned_mixers(network).items():
        mixer.set_sizes(rng.choice(options[index]), ramp=0.0)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in tensors.items():
        if name.endswith("running_var"):
            tensor.data.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point() and not name.endswith("shares"):
            gain = tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.5
            tensor.data.normal_(float(name.endswith("norm.weight")), gain, generator=generator)
    return network
