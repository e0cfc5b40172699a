"""The text of a new study file with comments, from a few choices."""

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, NamedTuple, get_args

from partialnas.runs.config.quantities import QUANTITIES, Direction, is_measured
from partialnas.search.study.study_fields import OBJECTIVES
from partialnas.search.study.yaml_data import flow_yaml
from partialnas.space.errors import UserError
from partialnas.space.validation import quote, suggest

Kind = Literal["search", "ablation", "function"]
"""A search for the best networks, a comparison of settings, or a search with a user function."""

KINDS: tuple[Kind, ...] = get_args(Kind)

DEFAULT_OBJECTIVES: dict[Kind, str] = {
    "search": "val_nll,throughput_img_s",
    "ablation": "val_nll,macs",
    "function": "val_nll,macs",
}
DEFAULT_SEEDS: dict[Kind, int] = {"search": 1, "ablation": 5, "function": 1}
DEFAULT_TRIALS = 40

_FUNCTION_METRICS = ("val_nll", "val_accuracy")
_QUICK_TRIALS = 6


@dataclass(frozen=True)
class StudyChoices:
    """What a new study is about.

    Attributes:
        name: name of the study.
        kind: kind of the study.
        data: data set, as `task.data` names it.
        resolution: side of the images in pixels.
        epochs: passes over the training images.
        trials: number of trainings of a search.
        seeds: seeds of each network.
        objectives: quantities with their directions.
        question: the question that the study answers; empty for a general one.
        remark: comment on the resolution; empty for none.
    """

    name: str
    kind: Kind
    data: str
    resolution: int
    epochs: int
    trials: int
    seeds: int
    objectives: dict[str, Direction]
    question: str = ""
    remark: str = ""

    @property
    def module(self) -> str:
        """Name of the module with the function of a study of the kind `function`."""
        name = re.sub(r"\W", "_", self.name)
        return f"{'study_' if name[0].isdigit() else ''}{name}_training"


class _Size(NamedTuple):
    """Networks that suit a resolution, as they are written in YAML."""

    base: str
    widths: str
    depths: str


def _size(resolution: int) -> _Size:
    small = "[8, 12, 16, 24]", "[[1, 1, 1, 1], [1, 1, 2, 1], [1, 2, 3, 1]]"
    stem = 1 if resolution < 16 else 2
    if resolution < 64:
        settings = f"stem_stride: {stem}, width: 16, depths: [1, 1, 2, 1], head_width: 256"
        return _Size(f"{{preset: partialnet_t0, {settings}}}", *small)
    return _Size("{preset: partialnet_t0}", "[16, 24, 32, 48]", "[[1, 2, 4, 2], [1, 2, 8, 2]]")


def parse_objectives(text: str, kind: Kind) -> dict[str, Direction]:
    """Return the directions of comma-separated quantities.

    Raises:
        UserError: A quantity is unknown, or the function of a new study does not return it.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("--objectives: expected quantities such as val_nll,macs")
    for name in names:
        if name not in OBJECTIVES:
            hint = suggest(name, OBJECTIVES)
            raise UserError(f"--objectives: unknown quantity {quote(name)}; {hint}")
    if kind == "function" and not {*names} & {*_FUNCTION_METRICS}:
        raise UserError(f"--objectives: expected {' or '.join(_FUNCTION_METRICS)} among them")
    return {name: QUANTITIES[name].better for name in names}


def study_files(choices: StudyChoices) -> dict[str, str]:
    """Return the texts of the files of a new study by name: its YAML file, and its function."""
    body = {"search": _search, "ablation": _ablation, "function": _function}[choices.kind]
    study_file = f"{choices.name}.yaml"
    texts = {study_file: "\n".join([*_head(choices), *body(choices), ""])}
    if choices.kind == "function":
        source = files("partialnas.search") / "studies" / "own_function.py"
        code = source.read_text(encoding="utf-8").replace("own-function.yaml", study_file)
        texts[f"{choices.module}.py"] = code
    return texts


def _head(choices: StudyChoices) -> list[str]:
    name = choices.name
    return [
        f"# partialnas check {name}.yaml        shows what this study will do, and its time",
        f"# partialnas run {name}.yaml --quick  tries it out with the settings under `quick`",
        f"# partialnas run {name}.yaml          runs it; the same command resumes it",
        "schema: 1",
        f"study: {flow_yaml(name)}  # also the folder of its results: results/{name}",
    ]


def _task(choices: StudyChoices) -> list[str]:
    remark = f"  # {choices.remark}" if choices.remark else ""
    task = flow_yaml({"data": choices.data, "resolution": choices.resolution})
    return [
        "# What is learned. `partialnas data` shows the images, their splits and their sizes.",
        f"task: {task}{remark}",
        "# The network that everything else starts from: a preset, with settings replaced.",
        f"base: {_size(choices.resolution).base}",
    ]


def _recipe(choices: StudyChoices) -> list[str]:
    return [
        "# How each network is trained. `flip: true` mirrors images at random, which suits photos",
        "# and not digits; `use: standard` trains for longer, with further regularization.",
        f"recipe: {{use: short, epochs: {choices.epochs}, flip: false}}",
    ]


def _space(choices: StudyChoices) -> list[str]:
    size = _size(choices.resolution)
    return [
        "# What the search may vary: each axis with its values. Remove or add any of them.",
        "space:",
        "  axes:",
        f"    width: {size.widths}  # channels of the first stage",
        f"    depths: {size.depths}  # blocks of each stage",
        "    parts: [1, 2, 3]  # parts of a block's channels, each with its own operation",
        "    ratio: [1/8, 1/4, 1/2]  # share of the channels that is convolved",
        "    attention: [none, {channel: stages 1-3}, {channel: stages 1-3, self: stage 4}]",
        "    pat_sp: [false, true]  # spatial attention over the output of the MLPs",
    ]


def _search(choices: StudyChoices) -> list[str]:
    question = choices.question or "Which networks trade accuracy for cost best?"
    return [
        f"question: {flow_yaml(question)}",
        *_task(choices),
        *_space(choices),
        *_recipe(choices),
        f"seeds: {choices.seeds}  # trainings of each network",
        "# Networks that are always trained, as baselines.",
        "arms:",
        "  fasternet: {attention: none, pat_sp: false}",
        "search: {sampler: hybrid}",
        *_objectives(choices),
        *_measure(choices),
        f"budget: {{trials: {choices.trials}}}  # or hours: 8",
        f"quick: {{recipe.epochs: 1, seeds: 1, budget.trials: {_quick_trials(choices)}}}",
    ]


def _ablation(choices: StudyChoices) -> list[str]:
    question = choices.question or "What do PAT_ch and PAT_sp add, alone and together?"
    quick_seeds = min(choices.seeds, 2)
    return [
        f"question: {flow_yaml(question)}",
        *_task(choices),
        *_recipe(choices),
        f"seeds: {choices.seeds}  # of every arm; `check` shows which differences they detect",
        "# The arms: all combinations of the factors. With `match`, the widths of each arm are",
        "# adjusted until it has the cost of the baseline. Other designs: one-factor, ladder, ...",
        "ablation:",
        "  design: factorial",
        "  baseline: {attention: none, pat_sp: false}",
        "  match: macs",
        "  factors:",
        "    PAT_ch: {stages 1-3.attention: channel}",
        "    PAT_sp: {stages 1-3.pat_sp: true}",
        *_objectives(choices),
        *_measure(choices),
        f"quick: {{recipe.epochs: 1, seeds: {quick_seeds}}}",
    ]


def _function(choices: StudyChoices) -> list[str]:
    question = choices.question or "Which networks trade accuracy for cost best, by my training?"
    return [
        f"question: {flow_yaml(question)}",
        f"# The function that trains each network: `train` in {choices.module}.py. Edit it there.",
        f"trial: {choices.module}:train",
        "# The shape of the images, for the costs of networks; the function loads its own.",
        f"task: {flow_yaml({'data': choices.data, 'resolution': choices.resolution})}",
        f"base: {_size(choices.resolution).base}",
        *_space(choices),
        f"recipe: {{epochs: {choices.epochs}}}  # the function's `epochs`; it gets nothing else",
        f"seeds: {choices.seeds}  # calls for each network",
        "search: {sampler: hybrid}",
        *_objectives(choices),
        *_measure(choices),
        f"budget: {{trials: {choices.trials}}}  # or hours: 8",
        f"quick: {{recipe.epochs: 1, seeds: 1, budget.trials: {_quick_trials(choices)}}}",
    ]


def _objectives(choices: StudyChoices) -> list[str]:
    return [
        "# What is traded off, each with the direction in which it is better.",
        f"objectives: {flow_yaml(choices.objectives)}",
    ]


def _measure(choices: StudyChoices) -> list[str]:
    """Return how speed is measured, if the study needs it."""
    timed = any(map(is_measured, choices.objectives))
    if choices.kind == "function" and not timed:
        return []
    during = "when: during, " if choices.kind == "function" else ""
    return [
        "# How speed is measured, relative to a reference network.",
        f"measure: {{{during}device: cpu, threads: 1, batch_size: 32, max_seconds: 3}}",
    ]


def _quick_trials(choices: StudyChoices) -> int:
    return min(_QUICK_TRIALS, choices.trials)
