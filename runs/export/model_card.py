"""The model card of an exported network: what it is, how it was found, and what it is not."""

import math
from collections.abc import Iterator, Mapping
from statistics import fmean, stdev
from typing import Any

import yaml

from partialnas.runs.export.lineage import Lineage, Metrics
from partialnas.runs.export.trained_trial import TrainedTrial
from partialnas.runs.export.verification import ExportVerification

_METRICS = {
    "val_accuracy": ("Validation accuracy, %", ".2f"),
    "val_nll": ("Validation NLL, nats", ".4f"),
    "test_accuracy": ("Test accuracy, %", ".2f"),
    "test_nll": ("Test NLL, nats", ".4f"),
}
_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>|#"})
_TOLD = (
    *("optimizer", "lr", "weight_decay", "batch_size", "schedule", "warmup", "label_smoothing"),
    *("mixup", "cutmix", "drop_path", "dropout", "ema", "precision"),
)
"""Settings of the recipe that a card tells; 0 is told as off by leaving it out."""


def model_card(
    trial: TrainedTrial, origin: Lineage, proof: ExportVerification, *, licence: str
) -> str:
    """`README.md`, with the metadata that model hubs read.

    Args:
        trial: that was exported.
        origin: where it comes from.
        proof: what was proved of it.
        licence: of network and weights, as an SPDX name.
    """
    name = f"PartialNet {proof.digest[:8]}"
    parts = [
        _metadata(trial, origin, licence),
        f"# {name}\n",
        _summary(trial, origin, proof),
        "## How it was found\n",
        _found(trial, origin),
        "## Data and training\n",
        _training(trial, origin),
        "## What it reaches\n",
        _reached(trial, origin),
        "## What it costs\n",
        _costs(trial, proof),
        "## Limits\n",
        _limits(trial, origin),
        "## Use\n",
        _use(proof),
        "## Licence\n",
        f"Network and weights: {_plain(licence)}, as stated when they were exported. The training "
        "data have terms of their own.\n",
    ]
    return "\n".join(parts)


def _metadata(trial: TrainedTrial, origin: Lineage, licence: str) -> str:
    facts: dict[str, Any] = {
        "library_name": "timm",
        "license": licence,
        "tags": ["image-classification", "timm", "partialnet"],
        "datasets": [trial.task.kind],
    }
    known = {key: trial.row.metrics[key] for key in _METRICS if key in trial.row.metrics}
    if known:
        results = {
            "task": {"type": "image-classification"},
            "dataset": {"name": trial.task.kind, "type": trial.task.kind},
            "metrics": [{"type": key, "value": round(value, 4)} for key, value in known.items()],
        }
        facts["model-index"] = [{"name": _one_line(origin.study), "results": [results]}]
    return f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n"


def _summary(trial: TrainedTrial, origin: Lineage, proof: ExportVerification) -> str:
    learned = (
        f"Its ratios were learned and are frozen (trained as {proof.trained_digest}). "
        if trial.subject.learned
        else ""
    )
    return (
        f"A partial-channel network: {_plain(trial.architecture.summary())}. {learned}"
        f"Trial {trial.row.number} of the study `{_one_line(origin.study)}`; every block, width "
        "and ratio is in `architecture.json`.\n"
    )


def _found(trial: TrainedTrial, origin: Lineage) -> str:
    question = f" It asks: {_plain(origin.question)}" if origin.question else ""
    arm = f" The network is its arm {_plain(origin.arm)}." if origin.arm else ""
    under = f" Condition: {_plain(origin.condition)}." if origin.condition else ""
    stage = origin.stage
    later = f" Trained in its stage {stage.name} ({_plain(stage.chosen)})." if stage else ""
    states = ", ".join(f"{count:,} {state}" for state, count in origin.trials.items())
    objectives = origin.frozen.get("objectives", {})
    decided = ", ".join(f"{key} ({better})" for key, better in objectives.items())
    return (
        f"{_method(origin.frozen)}: {origin.networks:,} networks, trials: {states}. "
        f"Objectives: {decided or 'none stated'}.{question}{arm}{under}{later}\n\n"
        f"Exported with `partialnas export-model {_one_line(trial.name)}`.\n"
    )


def _method(frozen: Mapping[str, Any]) -> str:
    search, ablation = frozen.get("search"), frozen.get("ablation")
    if search:
        rungs = f" in {len(search['rungs']) + 1} fidelities" if search.get("rungs") else ""
        return f"A search ({search.get('sampler', 'sampler not stated')}{rungs})"
    if ablation:
        return f"An ablation ({ablation.get('design', 'design not stated')})"
    return "A comparison of named networks"


def _training(trial: TrainedTrial, origin: Lineage) -> str:
    task, recipe = trial.task, origin.recipe
    told = [f"{key} {recipe[key]}" for key in _TOLD if recipe.get(key) not in (None, 0, 0.0)]
    hours = trial.row.seconds / 3600
    took = f"{hours:.2g} h" if hours >= 1 else f"{trial.row.seconds:,.0f} s"
    share = recipe.get("data_share", 1)
    part = "" if str(share) == "1" else f" ({share} of its training images)"
    return (
        f"`{task.kind}`{part}, {task.channels}x{task.resolution}x{task.resolution} pixels, "
        f"{task.classes} classes, from random weights for {trial.row.fidelity} "
        f"epoch{'s' * (trial.row.fidelity != 1)}: {', '.join(told) or 'recipe not stated'}. "
        f"Seed {trial.row.seed}; {took} on {trial.row.device or 'an unknown device'}. Images are "
        "normalised as `config.json` says.\n"
    )


def _reached(trial: TrainedTrial, origin: Lineage) -> str:
    heads = ["", "these weights", f"mean ± SD of {_seeds(origin.seeds)}"]
    if origin.fresh:
        heads.append(f"mean ± SD of {_seeds(origin.fresh)}, fresh")
    rows = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for key, (words, spec) in _METRICS.items():
        own = trial.row.metrics.get(key)
        if own is None:
            continue
        spreads = [_spread(of, key, spec) for of in (origin.seeds, origin.fresh) if of]
        rows.append([words, format(own, spec), *spreads])
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{table}\n{_about_seeds(origin)}\n"


def _about_seeds(origin: Lineage) -> str:
    fresh = (
        "The fresh seeds are not those that the network was chosen by: their means are the figures "
        "to quote."
        if origin.fresh
        else "The network was chosen by these seeds, so that its figures look better than fresh "
        "seeds would; `partialnas confirm` trains these."
    )
    alone = "" if len(origin.seeds) > 1 else "One seed: the spread is not known. "
    return f"{alone}{fresh} SD is the standard deviation (n − 1) between seeds of training."


def _seeds(of: Mapping[int, Metrics]) -> str:
    return f"{len(of)} seed{'s' * (len(of) != 1)}"


def _spread(of: Mapping[int, Metrics], key: str, spec: str) -> str:
    values = [metrics[key] for metrics in of.values() if math.isfinite(metrics.get(key, math.nan))]
    if not values:
        return "not known"
    mean = format(fmean(values), spec)
    return f"{mean} ± {format(stdev(values), spec)}" if len(values) > 1 else mean


def _costs(trial: TrainedTrial, proof: ExportVerification) -> str:
    cost, speed, side = proof.cost, proof.speed, trial.task.resolution
    noisy = f" ({speed.marks_text})" if speed.num_marks else ""
    processor = speed.environment.get("processor", speed.device)
    where = processor if speed.device_kind == "cpu" else speed.device
    return (
        f"| | |\n| --- | ---: |\n"
        f"| Parameters | {cost.params:,} |\n"
        f"| Multiply–accumulates at {side}x{side} (fvcore) | {cost.macs:,} |\n"
        f"| Throughput, deploy form, batch {speed.batch_size}{noisy} | "
        f"{speed.throughput_img_s:,.0f} img/s |\n\n"
        f"Throughput on {_plain(str(where))}, {speed.precision}, {speed.threads} "
        f"thread{'s' * (speed.threads != 1)}. Parameters and multiply–accumulates are equal by "
        "formula, as counted by fvcore, and as recorded (`proof.json`).\n"
    )


def _limits(trial: TrainedTrial, origin: Lineage) -> str:
    return "".join(f"- {line}\n" for line in _warnings(trial, origin))


def _warnings(trial: TrainedTrial, origin: Lineage) -> Iterator[str]:
    epochs = trial.row.fidelity
    yield (
        f"The weights come from a proxy training ({epochs} epoch{'s' * (epochs != 1)} on "
        f"{trial.task.kind}), made to rank networks, not to be used: train in full (`train.sh`) "
        "before you use the network or compare it with published ones."
    )
    yield (
        "How well such trainings rank networks as longer ones do is a question of its own: "
        "`partialnas audit` answers it for the study."
    )
    if not origin.fresh:
        yield "No fresh seeds were trained: see above."
    yield (
        f"Nothing is known of images other than {trial.task.kind}'s at {trial.task.resolution} "
        "pixels, of shifts, noise, or fairness between groups."
    )


def _use(proof: ExportVerification) -> str:
    difference = f"{proof.onnx.difference:.1e}" if proof.onnx else ""
    onnx = (
        f"`model.onnx` is its deploy form (norms folded; `image` in, `logits` out, any batch); its "
        f"logits differ from these weights' by {difference} of the largest one.\n"
        if proof.onnx
        else ""
    )
    return (
        "```python\nimport timm\nimport partialnas.space.timm\n\n"
        'model = timm.create_model("local-dir:FOLDER", pretrained=True)\n```\n\n'
        f"FOLDER is this folder. {onnx}\n"
        "`sh train.sh DATA` trains it in full with timm's script by the published recipe, the rate "
        "scaled to the images of a step.\n"
    )


def _plain(text: str) -> str:
    """A text that Markdown prints as it is."""
    return _one_line(text).translate(_SPECIAL)


def _one_line(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
