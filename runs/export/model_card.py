"""Model card of an exported network: origin, training, results, cost and limitations."""

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
_MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>|#"})
_RECIPE_SETTINGS = (
    *("optimizer", "lr", "weight_decay", "batch_size", "schedule", "warmup", "label_smoothing"),
    *("mixup", "cutmix", "drop_path", "dropout", "ema", "precision"),
)
"""Settings of the recipe on a card; those that are 0 are left out."""

_FREE_SIZES = {"none": "one image", "batch": "any batch size", "all": "any batch and image size"}


def model_card(
    trial: TrainedTrial, lineage: Lineage, verification: ExportVerification, *, license_name: str
) -> str:
    """Return `README.md` with the metadata that model hubs read.

    Args:
        trial: the exported trial.
        lineage: lineage of its network.
        verification: checks of the exported network.
        license_name: SPDX name of the license of network and weights.
    """
    parts = [
        _metadata(trial, lineage, license_name),
        f"# PartialNet {verification.digest[:8]}\n",
        _summary(trial, lineage, verification),
        "## How it was found\n",
        _origin(trial, lineage),
        "## Data and training\n",
        _training(trial, lineage),
        "## Results\n",
        _results(trial, lineage),
        "## Cost\n",
        _costs(trial, verification),
        "## Limitations\n",
        "".join(f"- {line}\n" for line in _limitations(trial, lineage)),
        "## Usage\n",
        _usage(verification),
        "## License\n",
        f"Network and weights: {_plain(license_name)}, as stated at export. The training data have "
        "their own terms.\n",
    ]
    return "\n".join(parts)


def _metadata(trial: TrainedTrial, lineage: Lineage, license_name: str) -> str:
    metadata: dict[str, Any] = {
        "library_name": "timm",
        "license": license_name,
        "tags": ["image-classification", "timm", "partialnet"],
        "datasets": [trial.task.kind],
    }
    metrics = {key: trial.row.metrics[key] for key in _METRICS if key in trial.row.metrics}
    if metrics:
        results = {
            "task": {"type": "image-classification"},
            "dataset": {"name": trial.task.kind, "type": trial.task.kind},
            "metrics": [{"type": key, "value": round(value, 4)} for key, value in metrics.items()],
        }
        metadata["model-index"] = [{"name": _one_line(lineage.study), "results": [results]}]
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n"


def _summary(trial: TrainedTrial, lineage: Lineage, verification: ExportVerification) -> str:
    learned = (
        f"Its ratios were learned and are frozen (trained as {verification.trained_digest}). "
        if trial.subject.learned
        else ""
    )
    return (
        f"A partial-channel network: {_plain(trial.architecture.summary())}. {learned}"
        f"Trial {trial.row.number} of the study `{_one_line(lineage.study)}`; "
        "`architecture.json` lists every block, width and ratio.\n"
    )


def _origin(trial: TrainedTrial, lineage: Lineage) -> str:
    question = f" Question: {_plain(lineage.question)}" if lineage.question else ""
    arm = f" The network is its arm {_plain(lineage.arm)}." if lineage.arm else ""
    condition = f" Condition: {_plain(lineage.condition)}." if lineage.condition else ""
    stage = lineage.stage
    later = f" Trained in its stage {stage.name} ({_plain(stage.chosen)})." if stage else ""
    states = ", ".join(f"{count:,} {state}" for state, count in lineage.trials.items())
    directions = lineage.frozen.get("objectives", {})
    objectives = ", ".join(f"{key} ({direction})" for key, direction in directions.items())
    return (
        f"{_method(lineage.frozen)}: {_count(lineage.networks, 'network')}, trials: {states}. "
        f"Objectives: {objectives or 'none stated'}.{question}{arm}{condition}{later}\n\n"
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


def _training(trial: TrainedTrial, lineage: Lineage) -> str:
    task, recipe = trial.task, lineage.recipe
    settings = [
        f"{key} {recipe[key]}" for key in _RECIPE_SETTINGS if recipe.get(key) not in (None, 0, 0.0)
    ]
    hours = trial.row.seconds / 3600
    duration = f"{hours:.2g} h" if hours >= 1 else f"{trial.row.seconds:,.0f} s"
    data_share = recipe.get("data_share", 1)
    share = "" if str(data_share) == "1" else f" ({data_share} of its training images)"
    return (
        f"`{task.kind}`{share}, {task.channels}x{task.resolution}x{task.resolution} pixels, "
        f"{task.classes} classes, from random weights for {_count(trial.row.fidelity, 'epoch')}: "
        f"{', '.join(settings) or 'recipe not stated'}. "
        f"Seed {trial.row.seed}; {duration} on {trial.row.device or 'an unknown device'}. Images "
        "are normalized with the mean and standard deviation in `config.json`.\n"
    )


def _results(trial: TrainedTrial, lineage: Lineage) -> str:
    heads = ["", "these weights", f"mean ± SD of {_count(len(lineage.seeds), 'seed')}"]
    if lineage.fresh:
        heads.append(f"mean ± SD of {_count(len(lineage.fresh), 'fresh seed')}")
    rows = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for key, (label, spec) in _METRICS.items():
        value = trial.row.metrics.get(key)
        if value is None:
            continue
        groups = (lineage.seeds, lineage.fresh)
        spreads = [_spread(metrics, key, spec) for metrics in groups if metrics]
        rows.append([label, format(value, spec), *spreads])
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{table}\n{_note_on_seeds(lineage)}\n"


def _note_on_seeds(lineage: Lineage) -> str:
    fresh = (
        "The fresh seeds were not used to select the network: report their means."
        if lineage.fresh
        else "The network was selected by these seeds, so its results are optimistic; "
        "`partialnas confirm` trains fresh seeds."
    )
    single = "" if len(lineage.seeds) > 1 else "One seed: the spread is not known. "
    return f"{single}{fresh} SD is the standard deviation (n − 1) between training seeds."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _spread(by_seed: Mapping[int, Metrics], key: str, spec: str) -> str:
    values = [m[key] for m in by_seed.values() if math.isfinite(m.get(key, math.nan))]
    if not values:
        return "not known"
    mean = format(fmean(values), spec)
    return f"{mean} ± {format(stdev(values), spec)}" if len(values) > 1 else mean


def _costs(trial: TrainedTrial, verification: ExportVerification) -> str:
    cost, speed, side = verification.cost, verification.speed, trial.task.resolution
    marks = f" ({speed.marks_text})" if speed.marks_text else ""
    processor = speed.environment.get("processor", speed.device)
    device = processor if speed.device_kind == "cpu" else speed.device
    return (
        f"| | |\n| --- | ---: |\n"
        f"| Parameters | {cost.params:,} |\n"
        f"| Multiply–accumulates at {side}x{side} (fvcore) | {cost.macs:,} |\n"
        f"| Throughput, deploy form, batch {speed.batch_size}{marks} | "
        f"{speed.throughput_img_s:,.0f} img/s |\n\n"
        f"Throughput on {_plain(str(device))}, {speed.precision}, "
        f"{_count(speed.threads, 'thread')}. Closed formula, fvcore and the record agree on "
        "parameters and multiply–accumulates (`proof.json`).\n"
    )


def _limitations(trial: TrainedTrial, lineage: Lineage) -> Iterator[str]:
    epochs = _count(trial.row.fidelity, "epoch")
    yield (
        f"The weights come from a proxy training ({epochs} on {trial.task.kind}) for ranking "
        "networks: train in full (`train.sh`) before you use the network or compare it with "
        "published ones."
    )
    yield (
        "Proxy training may rank networks differently from full training: `partialnas audit` "
        "measures the rank agreement for the study."
    )
    if not lineage.fresh:
        yield "No fresh seeds were trained: see Results."
    yield (
        f"Not evaluated: images other than those of {trial.task.kind} at {trial.task.resolution} "
        "pixels, distribution shifts, noise, and fairness between groups."
    )


def _usage(verification: ExportVerification) -> str:
    onnx = (
        "`model.onnx` is its deploy form (norms folded; input `image`, output `logits`, "
        f"{_FREE_SIZES[check.dynamic]}); its logits differ from those of these weights by "
        f"{check.difference:.1e} of the largest one.\n"
        if (check := verification.onnx)
        else ""
    )
    return (
        "```python\nimport timm\nimport partialnas.space.timm\n\n"
        'model = timm.create_model("local-dir:FOLDER", pretrained=True)\n```\n\n'
        f"FOLDER is this folder. {onnx}\n"
        "`sh train.sh DATA` trains it in full with timm's script and the published recipe; the "
        "learning rate is scaled to the total batch size.\n"
    )


def _plain(text: str) -> str:
    """Return a text escaped for Markdown."""
    return _one_line(text).translate(_MARKDOWN)


def _one_line(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
