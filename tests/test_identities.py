"""Identities that never change: digests, trial keys, frozen studies, costs, first weights.

`identities.json.gz` holds inputs and values that an earlier version computed. Values may be added;
a stored one changes only if old ledgers are meant not to be resumed.
"""

import gzip
import hashlib
import json
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from partialnas.runs.config.protocol import Protocol
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task, resolve_task
from partialnas.runs.records.job import Job, trial_key
from partialnas.runs.records.subject import (
    Subject,
    parse_subject,
    subject_data,
    subject_digest,
    subject_name,
)
from partialnas.runs.records.timing_choice import TimingSetup
from partialnas.runs.system.seeding import derive_seed
from partialnas.runs.trials.build import build_network
from partialnas.search.resolve.reference_point import reference_point
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import ResolvedStudy
from partialnas.search.study.sections import SearchSpec, TaskSpec
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import load_study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.presets import PRESETS, preset
from partialnas.space.arch.resizing import narrow_architecture
from partialnas.space.cost.cost import compute_cost
from partialnas.space.cost.ratio_controls import control_sizes
from partialnas.space.errors import UserError
from partialnas.space.nn.init import initialize
from partialnas.space.search_space.space import Space

Plain = dict[str, Any]

ENTRIES: list[Plain] = json.loads(
    gzip.decompress(Path(__file__).with_name("identities.json.gz").read_bytes())
)

REFUSED = "refused"


def short_hash(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


def or_refused(compute: Callable[[], Any]) -> Any:
    """Return a result, or `refused`: the words of messages may change."""
    try:
        return compute()
    except (UserError, ValueError):
        return REFUSED


def task_of(data: Plain) -> Task:
    return resolve_task(*data["resolve"]) if "resolve" in data else Task.model_validate(data)


def job_values(subject: Subject, data: Plain) -> Plain:
    job = Job(
        subject=subject,
        task=task_of(data["task"]),
        recipe=Recipe.model_validate(data["recipe"]),
        fidelity=data["fidelity"],
        seeds=tuple(data["seeds"]),
        **data.get("rung", {}),
    )
    first = data["seeds"][0]
    assert job.trial_keys[first] == trial_key(
        subject, job.task, job.recipe, data["fidelity"], first
    )
    return {"keys": job.trial_keys, "trunk": job.trunk_epochs, "trunk_key": job.trunk_key(first)}


def architecture_values(entry: Plain) -> Plain:
    network = Architecture.from_json(entry["json"])
    assert network.to_json() == entry["json"]
    assert json.loads(entry["json"]) == subject_data(network)
    spec = InputSpec.square(*entry["shape"])

    def counts() -> list[int]:
        whole = compute_cost(network, spec)
        return [whole.params, whole.macs, whole.macs_core, whole.activations]

    values = {
        "digest": network.digest,
        "name": subject_name(network),
        "smallest": network.smallest_resolution,
        "cost": or_refused(counts),
        "jobs": [job_values(network, job) for job in entry["jobs"]],
    }
    if network.learned is None:
        share = Recipe.model_validate({"width_share": "1/2"}).width_share
        return values | {
            "half": or_refused(lambda: narrow_architecture(network, share).digest),
        }
    return values | {
        "boundaries": short_hash(json.dumps([boundary.name for boundary in network.boundaries])),
        "frozen": or_refused(lambda: network.frozen(initial_sizes(network)).digest),
        "controls": or_refused(lambda: control_digests(network, spec)),
    }


def initial_sizes(network: Architecture) -> Any:
    return {
        (b.stage, b.block): tuple(p.channels for p in network.realized[b.stage][b.block].parts)
        for b in network.boundaries
    }


def control_digests(network: Architecture, spec: InputSpec) -> list[str] | None:
    if network.learned is None or network.learned.per == "input":
        return None
    sizes = initial_sizes(network)
    return [
        network.frozen(control_sizes(kind, network, sizes, spec, 3)).digest
        for kind in ("learned", "uniform", "reversed", "shuffled")
    ]


def subject_values(entry: Plain) -> Plain:
    subject = parse_subject(entry["data"])
    return {
        "digest": subject_digest(subject),
        "name": subject_name(subject),
        "data": subject_data(subject),
        "jobs": [job_values(subject, job) for job in entry["jobs"]],
    }


def task_values(entry: Plain) -> Plain:
    task = task_of(entry["data"])
    return {
        "identity": task.identity(),
        "plain": task.model_dump(mode="json"),
        "kind": task.kind,
    }


def recipe_values(entry: Plain) -> Plain:
    recipe = Recipe.model_validate(entry["data"])
    return {
        "plain": recipe.identity_data(),  # as a study stores it
        "static": recipe.identity(has_learned_ratios=False),
        "learns": recipe.identity(has_learned_ratios=True),
        "trunks": [recipe.trunk_epochs(epochs) for epochs in (1, 3, 8, 30)],
        "shifts": [recipe.shift_at(side) for side in (8, 14, 28, 224)],
    }


def protocol_values(entry: Plain) -> Plain:
    protocol = Protocol.model_validate(entry["data"])
    setup = TimingSetup.from_protocol(protocol)
    return {"plain": protocol.model_dump(mode="json"), "way": vars(setup)}


def space_values(entry: Plain) -> Plain:
    shape = entry["shape"]
    spec = InputSpec.square(shape["resolution"], shape["in_chans"], shape["num_classes"])
    space = Space.from_data(entry["data"], spec)
    rng = random.Random(entry["seed"])
    points = [space.sample(rng) for _ in range(entry["count"])]
    near = [space.architecture(p).digest for p in space.neighbors(points[0], random.Random(1))]
    return {
        "choices": [choice.name for choice in space.choices],
        "points": [dict(point) for point in points],
        "codes": [space.encode(point) for point in points],
        "digests": [space.architecture(point).digest for point in points],
        "near": short_hash(json.dumps(near)),
        "size": re.findall(r"\d[\d,.]*", str(space.size())),
    }


def study_values(entry: Plain) -> Plain:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(entry["yaml"], encoding="utf-8")
        try:
            study = load_study(path, quick=entry["quick"], overrides=entry["set"])
            resolved = resolve_study(study, Path(folder))
        except UserError:
            return {REFUSED: True}
    values = {
        "study_digest": study.digest,
        "frozen": json.dumps(study.frozen(), sort_keys=True),
        "file": short_hash(yaml.safe_dump(study.frozen(), sort_keys=False, allow_unicode=True)),
        "tasks": {c.name: c.task.model_dump(mode="json") for c in resolved.conditions},
        "reference": subject_digest(resolved.reference),
        "reference_data": short_hash(json.dumps(subject_data(resolved.reference))),
        "reference_point": reference_point(resolved),
        "design": resolved.design.model_dump_json() if resolved.design else None,
        "contrasts": resolved.contrasts,
        "arms": {
            name: [subject_digest(subject), arm_keys(resolved, name, subject)]
            for name, subject in resolved.arms.items()
        },
        "controls": {
            name: short_hash(c.model_dump_json()) for name, c in resolved.controls.items()
        },
    }
    return values if study.search is None else values | {"searched": search_keys(resolved)}


def arm_keys(resolved: ResolvedStudy, name: str, subject: Subject) -> list[list[str]]:
    """Return the trial keys of an arm's first three seeds, by condition."""
    conditions = [resolved.arm_condition(name, condition) for condition in resolved.conditions]
    seeds = range(min(3, resolved.study.first_seeds))
    return [
        [trial_key(subject, how.task, how.recipe, how.recipe.epochs, seed) for seed in seeds]
        for how in conditions
    ]


def search_keys(resolved: ResolvedStudy) -> list[Any]:
    """Return the keys of five random networks on every rung."""
    rng = random.Random(7)
    assert resolved.space is not None
    networks = [resolved.space.architecture(resolved.space.sample(rng)) for _ in range(5)]
    return [
        [network.digest, [_rung_keys(network, condition) for condition in resolved.all_rungs]]
        for network in networks
    ]


def _rung_keys(network: Architecture, how: Any) -> list[Any]:
    job = Job(
        subject=network,
        task=how.task,
        recipe=how.recipe,
        fidelity=how.recipe.epochs,
        seeds=(0,),
        rung=how.rung,
        branches=how.branches,
    )
    return [job.trial_keys[0], job.trunk_epochs, job.trunk_key(0)]


def seed_values(entry: Plain) -> list[int]:
    return [derive_seed(*arguments) for arguments in entry["arguments"]]


def weight_values(entry: Plain) -> Plain:
    network = build_network(Architecture.from_json(entry["json"]), task_of(entry["task"]), Recipe())
    initialize(network, 5)
    state = network.state_dict()
    content = hashlib.sha256()
    for value in state.values():
        content.update(value.detach().contiguous().numpy().tobytes())
    names = json.dumps([[name, list(value.shape)] for name, value in state.items()])
    weights = content.hexdigest()[:16]
    return {"names": short_hash(names), "weights": weights, "modules": len(state)}


KINDS: dict[str, Callable[[Plain], Any]] = {
    "architecture": architecture_values,
    "subject": subject_values,
    "task": task_values,
    "recipe": recipe_values,
    "protocol": protocol_values,
    "space": space_values,
    "study": study_values,
    "chance": seed_values,
    "weights": weight_values,
}


def entries_of(kind: str) -> Iterator[Plain]:
    return (entry for entry in ENTRIES if entry["kind"] == kind)


def check(entry: Plain) -> None:
    values = json.loads(json.dumps(KINDS[entry["kind"]](entry)))
    assert values == entry["values"], entry.get("name", entry.get("json", entry))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("study", "weights")])
def test_identities_are_as_stored(kind: str) -> None:
    for entry in entries_of(kind):
        check(entry)


@pytest.mark.parametrize("entry", [*entries_of("weights")])
def test_first_weights_are_as_stored(entry: Plain) -> None:
    check(entry)


@pytest.mark.parametrize("entry", [*entries_of("study")], ids=lambda entry: entry["name"])
def test_studies_are_as_stored(entry: Plain) -> None:
    check(entry)


def test_the_table_covers_every_shipped_study_and_preset() -> None:
    studies = (Path(__file__).parents[1] / "search" / "studies").glob("*.yaml")
    stored = {entry["name"] for entry in entries_of("study")}
    assert {path.stem for path in studies} <= stored
    texts = {entry["json"] for entry in entries_of("architecture")}
    assert len(texts) >= 500
    assert {preset(name).to_json() for name in PRESETS} & texts


# Fields that are added later.


class LaterRecipe(Recipe):
    momentum: float = 0.9


class LaterTask(Task):
    modality: str = "image"


class LaterProtocol(Protocol):
    warm_up: int = 3


class LaterTaskSpec(TaskSpec):
    modality: str = "image"


class LaterSearchSpec(SearchSpec):
    restarts: int = 0


class LaterStudy(Study):
    task: LaterTaskSpec = LaterTaskSpec()
    recipe: LaterRecipe = LaterRecipe()
    measure: LaterProtocol = LaterProtocol()
    search: LaterSearchSpec | None = None
    tags: tuple[str, ...] = ()
    shorthands: ClassVar[tuple[str, ...]] = ()


def test_an_added_field_changes_no_trial_key_while_it_has_its_default() -> None:
    network, task = preset("partialnet_t0"), resolve_task("mnist5k")
    key = trial_key(network, task, Recipe(), 4, 0)
    plain = task.model_dump()
    assert trial_key(network, LaterTask(**plain), LaterRecipe(), 4, 0) == key
    assert trial_key(network, LaterTask(**plain, modality="audio"), Recipe(), 4, 0) != key
    assert trial_key(network, task, LaterRecipe(momentum=0.5), 4, 0) != key
    assert "momentum" not in LaterRecipe().identity(has_learned_ratios=True)
    # fields of today are always written
    assert LaterRecipe().identity(has_learned_ratios=True)["lr"] == 1e-2


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("task", {"modality": "audio"}),
        ("recipe", {"momentum": 0.5}),
        ("measure", {"warm_up": 5}),
        ("search", {"restarts": 1}),
        ("tags", ["a"]),
    ],
)
def test_an_added_field_changes_no_study_while_it_has_its_default(
    section: str, changes: Any
) -> None:
    data: Plain = {
        "schema": 1,
        "study": "later",
        "space": {"axes": {"width": [8, 16]}},
        "search": {"sampler": "random"},
        "budget": {"trials": 4},
    }
    today, later = Study.model_validate(data), LaterStudy.model_validate(data)
    assert later.frozen() == today.frozen()
    assert later.digest == today.digest
    assert LaterStudy.model_validate(today.frozen()).frozen() == later.frozen()
    changed = changes if section == "tags" else {**data.get(section, {}), **changes}
    other = LaterStudy.model_validate({**data, section: changed})
    assert other.digest != today.digest
    assert LaterStudy.model_validate(other.frozen()).frozen() == other.frozen()
