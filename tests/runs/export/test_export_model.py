import hashlib
import importlib.util
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from torch import Tensor, nn

import partialnas.space.timm  # noqa: F401
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.export import export_model as exporting
from partialnas.runs.export import verify_onnx as onnx_proof
from partialnas.runs.export.export_model import ExportResult
from partialnas.runs.export.verification import ExportVerification
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.job import Job
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import RatioEpoch, Record
from partialnas.runs.records.subject import (
    Subject,
    TimmModel,
    subject_data,
    subject_digest,
    subject_name,
)
from partialnas.runs.system.files import weights_path
from partialnas.runs.training.build import subject_cost
from partialnas.runs.training.checkpoint import load_weights, save_weights
from partialnas.runs.training.context import Context
from partialnas.runs.training.trial import run_job
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.ratio import LearnedRatio
from partialnas.space.cost.learned_blocks import learned_blocks
from partialnas.space.deploy.freeze import learned_mixers
from partialnas.space.deploy.fuse import deploy
from partialnas.space.errors import MachineError, UserError
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
    usual = {"width": 8, "depths": (1, 1, 1, 1), "stem_stride": 1, "head_width": 16}
    return Plan.model_validate(usual | changes).architecture()


def learned(**terms: Any) -> dict[str, Any]:
    return {"learned": {"grain": 1, "budget": "1/4", **terms}}


ATTENTION = {"channel": "stages 1-2", "self": "stage 3"}
TRAINED: dict[str, Architecture] = {
    "threshold": planned(ratio=learned(), attention=ATTENTION, pat_sp=True),
    "gates": planned(ratio=learned(method="gates"), attention={"channel": "stages 1-3"}),
    "static": planned(attention=ATTENTION),
}
NUMBERS = {name: number for number, name in enumerate(TRAINED, start=1)}


def begun(folder: Path, **study: Any) -> Ledger:
    frozen = {"measure": {"batch_size": 4, "threads": 1}, "recipe": {"keep_weights": "all"}}
    meta = {"task": TASK.model_dump_json(), "frozen": json.dumps(frozen | study)}
    return Ledger.create(folder, meta)


def job_of(subject: Subject, seed: int = 0) -> Job:
    return Job(subject=subject, task=TASK, recipe=RECIPE, fidelity=2, seeds=(seed,))


def noted(ledger: Ledger, subject: Subject, record: Record | None = None, seed: int = 0) -> int:
    """The number of the trial, planned, and finished where there is a record."""
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
    usual = {"key": key, "digest": digest, "name": name, "seed": seed, "fidelity": 2}
    return Record.model_validate({**usual, "state": "done", **facts})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, few_digits: Splits) -> Iterator[Path]:
    """A study's folder with a really trained trial of every kind that can be exported."""
    folder = tmp_path_factory.mktemp("exports")
    (folder / "locks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder / "locks"))
        patch.setattr(exporting, "load_splits", cache(load_splits))
        context = Context(splits=few_digits, folder=folder / "study")
        with begun(folder / "study") as ledger:
            for subject in TRAINED.values():
                (record,) = run_job(job_of(subject), context)
                assert record.state == "done", record.reason
                noted(ledger, subject, record)
        yield folder / "study"


@pytest.fixture(scope="module")
def exports(study: Path) -> dict[str, ExportResult]:
    return {
        name: export_model(study, number, study.parent / name, max_seconds=QUICK)
        for name, number in NUMBERS.items()
    }


@pytest.fixture(scope="module")
def images() -> Tensor:
    splits = load_splits(TASK)
    pool = DeviceSplit(splits.val_x, splits.val_y, splits, 0, torch.device("cpu"))
    return next(iter(pool.sequential_batches(len(pool))))[0]


def trained_logits(study: Path, name: str, images: Tensor) -> Tensor:
    """What the network computes that the trial left, its learned mixers still in it."""
    network = Network(TRAINED[name], in_chans=1, num_classes=10)
    load_weights(weights_path(study, job_of(TRAINED[name]).trial_keys[0]), network)
    with torch.inference_mode():
        logits: Tensor = network.eval()(images)
    return logits


def close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max() / one.abs().max()) <= 1e-5


@pytest.mark.parametrize("name", ["threshold", "gates"])
def test_kept_weights_bring_the_learned_ratios_back(name: str, study: Path) -> None:
    key = job_of(TRAINED[name]).trial_keys[0]
    network = Network(TRAINED[name], in_chans=1, num_classes=10)
    load_weights(weights_path(study, key), network)
    with Ledger.open(study) as ledger:
        last = ledger.ratios(key)[-1]
    mixers = learned_mixers(network)
    assert len(mixers) == len(last.channels) == 4
    for (stage, block), mixer in mixers.items():
        assert mixer.fixed
        assert mixer.sizes[0] == last.channels[f"stage {stage + 1}, block {block + 1}"]


@pytest.mark.parametrize("name", TRAINED)
def test_the_folder_holds_a_static_network_that_computes_the_same(
    name: str, study: Path, exports: dict[str, ExportResult], images: Tensor
) -> None:
    folder = study.parent / name
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert sorted(exports[name].files) == [folder / file for file in FILES]
    architecture = Architecture.from_file(folder / "architecture.json")
    assert architecture.learned is None
    network = Network(architecture, in_chans=1, num_classes=10)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.inference_mode():
        logits = network.eval()(images)
    assert close(trained_logits(study, name, images), logits)
    with Ledger.open(study) as ledger:
        row, ratios = ledger.trial(NUMBERS[name]), ledger.ratios(job_of(TRAINED[name]).trial_keys[0])
    assert architecture.digest == (ratios[-1].frozen if ratios else TRAINED[name].digest)
    with torch.no_grad():
        flops = FlopCountAnalysis(network, torch.zeros(1, 1, 8, 8))
        assert flops.unsupported_ops_warnings(False).total() == row.cost["macs"]


@pytest.mark.parametrize("name", TRAINED)
def test_timm_builds_it_and_loads_its_weights(
    name: str, study: Path, exports: dict[str, ExportResult], images: Tensor
) -> None:
    folder = exports[name].files[0].parent
    expected = trained_logits(study, name, images)
    by_folder = timm.create_model(f"local-dir:{folder}", pretrained=True)
    by_file = timm.create_model(
        "partialnet",
        architecture=folder / "architecture.json",
        checkpoint_path=folder / "model.safetensors",
        in_chans=1,
        num_classes=10,
    )
    with torch.inference_mode():
        assert all(close(expected, model.eval()(images)) for model in (by_folder, by_file))


def test_timm_knows_how_to_feed_it_and_to_fit_another_task(
    exports: dict[str, ExportResult],
) -> None:
    folder = exports["threshold"].files[0].parent
    splits = load_splits(TASK)
    data = resolve_model_data_config(timm.create_model(f"local-dir:{folder}"))
    assert tuple(data["input_size"]) == (1, 8, 8)
    assert data["mean"] == pytest.approx(splits.mean.tolist(), abs=1e-6)
    assert data["std"] == pytest.approx(splits.std.tolist(), abs=1e-6)
    other = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=3, in_chans=3)
    assert other(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
    weight = load_file(folder / "model.safetensors")["head_conv.weight"]
    assert torch.equal(other.head_conv.weight, weight)


def test_the_hub_can_take_it(
    exports: dict[str, ExportResult], tmp_path: Path, images: Tensor
) -> None:
    folder = exports["threshold"].files[0].parent
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    timm.models.save_for_hf(model, tmp_path / "hub", safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    with torch.inference_mode():
        assert torch.equal(model(images), again(images))


@pytest.mark.parametrize("name", TRAINED)
def test_the_proof_says_what_was_found(
    name: str, study: Path, exports: dict[str, ExportResult], images: Tensor
) -> None:
    text = (study.parent / name / "proof.json").read_text()
    proof = ExportVerification.model_validate_json(text)
    assert proof == exports[name].verification
    with Ledger.open(study) as ledger:
        row = ledger.trial(NUMBERS[name])
    assert proof.outputs.images == len(images) == 180
    assert proof.outputs.difference <= proof.outputs.at_most == 1e-5
    assert proof.outputs.val_accuracy == pytest.approx(row.metrics["val_accuracy"])
    assert (proof.trial, proof.key) == (f"{study}:{row.number}", row.key)
    assert proof.cost.macs == proof.cost.macs_counted == proof.cost.macs_recorded
    assert proof.cost.params == proof.cost.params_counted == row.cost["params"]
    weights = (study.parent / name / "model.safetensors").read_bytes()
    assert proof.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert proof.environment["torch"] == torch.__version__.partition("+")[0]


@pytest.mark.parametrize("name", TRAINED)
def test_frozen_and_hand_specified_are_timed_in_turns(
    name: str, exports: dict[str, ExportResult]
) -> None:
    speed: Measurement = exports[name].verification.speed
    assert speed.reference_digest == exports[name].verification.digest
    assert speed.form == speed.reference_form == "deploy"
    assert (speed.batch_size, speed.resolution, speed.device) == (4, 8, "cpu")
    assert speed.relative_throughput is not None
    interval = (speed.relative_low, speed.relative_throughput, speed.relative_high)
    if name == "static":
        assert interval == (1, 1, 1)
    else:
        assert interval[1] != 1  # two that were timed, not one beside itself
        assert speed.digest == TRAINED[name].digest != speed.reference_digest


def kept_by_hand(folder: Path, subject: Architecture, network: Network) -> int:
    """A study with one trial that is done, its ratios where the network's mixers are."""
    mixers = learned_mixers(network)
    sizes = {place: [int(size) for size in mixer.sizes] for place, mixer in mixers.items()}
    frozen = subject.frozen(sizes)
    ratios = []
    if sizes:
        channels = {b.name: float(sizes[b[:2]][b.part]) for b in subject.boundaries}
        shares = {b.name: channels[b.name] / subject.widths[b.stage] for b in subject.boundaries}
        told = {"used_macs": 1, "budget_macs": None, "frozen": frozen.digest}
        ratios = [RatioEpoch(epoch=1, channels=channels, ratios=shares, **told)]
    save_weights(weights_path(folder, job_of(subject).trial_keys[0]), network, job_of(subject))
    record = record_of(subject, ratios=ratios, cost=subject_cost(frozen, TASK))
    with begun(folder) as ledger:
        return noted(ledger, subject, record)


def shaken(subject: Architecture, seed: int) -> Network:
    """A network with random weights, statistics, and ratios among those that are legal."""
    network = Network(subject, in_chans=1, num_classes=10)
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    options = {slot.block_index: slot.options for slot in learned_blocks(subject, TASK.input_spec)}
    for place, mixer in learned_mixers(network).items():
        mixer.place(rng.choice(options[place]), ramp=0.0)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in tensors.items():
        if name.endswith("running_var"):
            tensor.data.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point() and not name.endswith("shares"):
            gain = tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.5
            tensor.data.normal_(float(name.endswith("norm.weight")), gain, generator=generator)
    return network


def sizes_of(network: nn.Module) -> list[list[float]]:
    return [list(mixer.sizes) for mixer in learned_mixers(network).values()]


PARTS = st.sampled_from(
    [
        {"attention": {"channel": "stages 1-2", "self": "stage 3"}},
        {"attention": "none", "pat_sp": True},
        {"operations": ["conv", "spatial"]},
        {"operations": ["conv", "pool"]},
        {"operations": ["channel", "conv"]},
        {"parts": 3, "operations": ["conv", "channel", "identity"], "ratio": ["1/4", "1/4"]},
    ]
)


@pytest.mark.slow
@given(parts=PARTS, seed=st.integers(0, 9999), width=st.sampled_from([8, 12, 16]))
@settings(max_examples=12, deadline=None, suppress_health_check=[*HealthCheck])
def test_any_frozen_network_is_exported_and_proved(
    parts: dict[str, Any], seed: int, width: int
) -> None:
    several = [learned(budget=None)] * len(parts.get("ratio", ()))
    subject = planned(width=width, **parts | {"ratio": several or learned(budget=None)})
    assert isinstance(subject.learned, LearnedRatio)
    network = shaken(subject, seed)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        number = kept_by_hand(folder / "study", subject, network)
        export_model(folder / "study", number, folder / "out", max_seconds=0.1)
        model = timm.create_model(f"local-dir:{folder / 'out'}", pretrained=True).eval()
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        assert close(network.eval()(x), model(x)), sizes_of(network)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_onnx_file_computes_the_same(
    name: str, study: Path, tmp_path: Path, images: Tensor
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export = exporting.export_model(study, NUMBERS[name], tmp_path / "out", max_seconds=0.1)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    logits = torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0])
    expected = trained_logits(study, name, images)
    apart = float((expected - logits).abs().max() / expected.abs().max())
    assert apart <= 1e-4
    assert export.verification.onnx is not None
    assert export.verification.onnx.difference == pytest.approx(apart, abs=2e-6)
    assert export.verification.onnx.images == 180
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`model.onnx` is its deploy form" in card
    export_model(study, NUMBERS[name], tmp_path / "out", max_seconds=0.1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES


@pytest.mark.slow
def test_an_onnx_file_that_computes_something_else_is_never_written(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")

    def wrong(network: Network) -> nn.Module:
        changed = deploy(network)
        changed.get_submodule("classifier").get_parameter("weight").data.mul_(1.01)
        return changed

    monkeypatch.setattr(onnx_proof, "deploy", wrong)
    with pytest.raises(MachineError, match=r"differ by 0\.0[\s\S]*Nothing was written"):
        exporting.export_model(study, NUMBERS["static"], tmp_path / "out", max_seconds=0.1)
    assert not (tmp_path / "out").exists()


def test_without_the_packages_there_is_no_onnx_file(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    export = exporting.export_model(study, NUMBERS["static"], tmp_path / "out", max_seconds=0.1)
    assert export.verification.onnx is None
    assert sorted(path.name for path in export.files) == FILES


@pytest.fixture
def by_hand(tmp_path: Path, study: Path) -> tuple[Path, Network]:
    """A folder with one trial of random weights and learned ratios, and its network."""
    assert study  # whose locks are used
    subject = TRAINED["threshold"]
    network = shaken(subject, 0)
    kept_by_hand(tmp_path / "hand", subject, network)
    return tmp_path / "hand", network


def refused(folder: Path, number: int, kind: type[Exception] = UserError) -> str:
    """The message of a refusal, which leaves nothing behind."""
    with pytest.raises(kind) as error:
        export_model(folder, number, folder / "out", max_seconds=QUICK)
    assert not (folder / "out").exists()
    return str(error.value)


def test_ratios_that_depend_on_the_image_cannot_be_frozen(tmp_path: Path) -> None:
    image = planned(ratio=learned(per="input"))
    with begun(tmp_path / "study") as ledger:
        number = noted(ledger, image, record_of(image))
    told = refused(tmp_path / "study", number)
    assert "depend on the image" in told
    assert "learn them per layer" in told


def test_a_trial_that_is_not_there_is_told(study: Path) -> None:
    assert "has no trial 99" in refused(study, 99)
    assert "no ledger here" in refused(study.parent / "locks", 1)


def test_only_a_finished_network_of_ours_can_be_exported(tmp_path: Path) -> None:
    static = TRAINED["static"]
    bad = record_of(static, seed=1, state="failed", reason="loss became NaN in epoch 1")
    other = TimmModel(timm="resnet18")
    with begun(tmp_path / "study") as ledger:
        waiting = noted(ledger, static)
        failed = noted(ledger, static, bad, seed=1)
        foreign = noted(ledger, other, record_of(other))
    assert "is planned: it can be exported once it is done" in refused(tmp_path / "study", waiting)
    told = refused(tmp_path / "study", failed)
    assert "failed (loss became NaN in epoch 1)" in told
    assert "partialnas status" in told
    assert "is resnet18, a model of timm" in refused(tmp_path / "study", foreign)


@pytest.mark.parametrize(
    ("frozen", "told"),
    [
        ({"recipe": {"keep_weights": "none"}}, "recipe.keep_weights: all"),
        ({"recipe": {"keep_weights": "front"}}, "choose a trial on it"),
        ({"trial": "mine:told"}, "mine:told stood in for its training"),
    ],
)
def test_without_weights_the_remedy_is_told(
    frozen: dict[str, Any], told: str, tmp_path: Path
) -> None:
    static = TRAINED["static"]
    with begun(tmp_path / "study", **frozen) as ledger:
        number = noted(ledger, static, record_of(static))
    message = refused(tmp_path / "study", number)
    assert "its weights were not kept" in message
    assert told in message


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_damaged_weights_are_a_failure_of_the_machine(
    share: float, by_hand: tuple[Path, Network]
) -> None:
    folder, _ = by_hand
    (path,) = (folder / "weights").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    told = refused(folder, 1, MachineError)
    assert str(path) in told
    assert "damaged" in told


def test_weights_of_another_network_are_refused(by_hand: tuple[Path, Network], study: Path) -> None:
    folder, network = by_hand
    (path,) = (folder / "weights").iterdir()
    path.write_bytes(weights_path(study, job_of(TRAINED["static"]).trial_keys[0]).read_bytes())
    assert "belongs to another network" in refused(folder, 1)
    mixer = learned_mixers(network)[3, 0]
    first, *rest = mixer.sizes
    mixer.place([first + 1, rest[0] - 1] if rest[0] > 1 else [first - 1, 2.0], ramp=0.0)
    save_weights(path, network, job_of(TRAINED["threshold"]))
    assert "holds other ratios than" in refused(folder, 1)


def test_ratios_that_still_move_are_refused(by_hand: tuple[Path, Network]) -> None:
    folder, network = by_hand
    mixer = learned_mixers(network)[0, 0]
    mixer.place(mixer.sizes, ramp=2.0)
    (path,) = (folder / "weights").iterdir()
    save_weights(path, network, job_of(TRAINED["threshold"]))
    assert "still being learned" in refused(folder, 1)


@pytest.mark.parametrize(("change", "figure"), [(1.01, r"differ by \d"), (float("nan"), "nan")])
def test_a_network_that_computes_something_else_is_never_written(
    change: float, figure: str, by_hand: tuple[Path, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = by_hand
    freeze = exporting.freeze

    def wrong(network: Network) -> Network:
        frozen = freeze(network)
        frozen.classifier.get_parameter("weight").data.mul_(change)
        return frozen

    monkeypatch.setattr(exporting, "freeze", wrong)
    with pytest.raises(MachineError, match=rf"{figure}[\s\S]*Nothing was written"):
        export_model(folder, 1, folder / "out", max_seconds=QUICK)
    assert not (folder / "out").exists()


def test_a_cost_that_is_not_the_recorded_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costly = dict(subject_cost(TRAINED["static"], TASK))
    costly["macs"] += 1
    monkeypatch.setitem(kept_by_hand.__globals__, "subject_cost", lambda *_: costly)
    kept_by_hand(tmp_path / "study", TRAINED["static"], shaken(TRAINED["static"], 0))
    told = refused(tmp_path / "study", 1, MachineError)
    assert f"macs differ: formula {costly['macs'] - 1}" in told
    assert f"recorded {costly['macs']}" in told


def test_a_folder_of_something_else_is_left_alone(by_hand: tuple[Path, Network]) -> None:
    folder, _ = by_hand
    out = folder / "out"
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "proof.json").write_text('{"of": "a theorem"}')
    with pytest.raises(UserError, match=r"holds config.json and is no earlier export"):
        export_model(folder, 1, out, max_seconds=QUICK)
    assert (out / "config.json").read_text() == "{}"
    with pytest.raises(UserError, match=r"config.json is a file, not a folder"):
        export_model(folder, 1, out / "config.json", max_seconds=QUICK)


def test_an_earlier_export_is_replaced_even_an_unfinished_one(
    by_hand: tuple[Path, Network], exports: dict[str, ExportResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = by_hand
    speed = exports["threshold"].verification.speed
    monkeypatch.setattr(exporting, "prove_speed", lambda *_: speed)
    write: Callable[[Path, bytes | str], Path] = exporting.write_file

    def full(path: Path, content: bytes | str) -> Path:
        if path.name == "config.json":
            raise MachineError("the disk is full")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "write_file", full)
        with pytest.raises(MachineError, match="disk is full"):
            export_model(folder, 1, folder / "out", max_seconds=QUICK)
    (folder / "out" / "notes.txt").write_text("mine")
    export_model(folder, 1, folder / "out", max_seconds=QUICK)
    assert sorted(p.name for p in (folder / "out").iterdir()) == sorted([*FILES, "notes.txt"])
    assert (folder / "out" / "notes.txt").read_text() == "mine"


def test_the_weights_say_what_they_belong_to(exports: dict[str, ExportResult]) -> None:
    folder = exports["threshold"].files[0].parent
    with safe_open(folder / "model.safetensors", "pt") as stored:
        told = Architecture.from_json(stored.metadata()["architecture"])
    assert told == Architecture.from_file(folder / "architecture.json")


def test_a_device_that_is_not_there_is_told(by_hand: tuple[Path, Network]) -> None:
    folder, _ = by_hand
    with pytest.raises(UserError, match="device"):
        export_model(folder, 1, folder / "out", device="tpu")
    assert not (folder / "out").exists()
