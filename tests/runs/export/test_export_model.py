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
from partialnas.runs.export import verify_onnx
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
from partialnas.runs.system.files import TrialWeights, weights_path
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


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, few_digits: Splits) -> Iterator[Path]:
    """Return the folder of a study with a trained trial of each kind that can be exported."""
    folder = tmp_path_factory.mktemp("exports")
    (folder / "locks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder / "locks"))
        patch.setattr(exporting, "load_splits", cache(load_splits))
        context = Context(splits=few_digits, folder=folder / "study")
        with create_ledger(folder / "study") as ledger:
            for subject in TRAINED.values():
                (record,) = run_job(job_of(subject), context)
                assert record.state == "done", record.reason
                add_trial(ledger, subject, record)
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
    """Return the logits of the trained network with its learned mixers."""
    network = Network(TRAINED[name], in_chans=1, num_classes=10)
    (key,) = job_of(TRAINED[name]).trial_keys.values()
    load_weights(trained_weights(study, key), network, load_splits(TASK))
    with torch.inference_mode():
        logits: Tensor = network.eval()(images)
    return logits


def is_close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max() / one.abs().max()) <= 1e-5


@pytest.mark.parametrize("name", ["threshold", "gates"])
def test_kept_weights_restore_the_learned_ratios(name: str, study: Path) -> None:
    key = job_of(TRAINED[name]).trial_keys[0]
    network = Network(TRAINED[name], in_chans=1, num_classes=10)
    load_weights(trained_weights(study, key), network, load_splits(TASK))
    with Ledger.open(study) as ledger:
        last = ledger.ratios(key)[-1]
    mixers = learned_mixers(network)
    assert len(mixers) == len(last.channels) == 4
    for (stage, block), mixer in mixers.items():
        assert mixer.fixed
        assert mixer.sizes[0] == last.channels[f"stage {stage + 1}, block {block + 1}"]


@pytest.mark.parametrize("name", TRAINED)
def test_the_exported_static_network_computes_the_same(
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
    assert is_close(trained_logits(study, name, images), logits)
    with Ledger.open(study) as ledger:
        row, ratios = (
            ledger.trial(NUMBERS[name]),
            ledger.ratios(job_of(TRAINED[name]).trial_keys[0]),
        )
    assert architecture.digest == (ratios[-1].frozen if ratios else TRAINED[name].digest)
    with torch.no_grad():
        flops = FlopCountAnalysis(network, torch.zeros(1, 1, 8, 8))
        assert flops.unsupported_ops_warnings(False).total() == row.cost["macs"]


@pytest.mark.parametrize("name", TRAINED)
def test_timm_builds_the_network_and_loads_its_weights(
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
        assert all(is_close(expected, model.eval()(images)) for model in (by_folder, by_file))


def test_the_exported_network_is_a_feature_extractor_of_timm(
    exports: dict[str, ExportResult], images: Tensor
) -> None:
    folder = f"local-dir:{exports['threshold'].files[0].parent}"
    whole = timm.create_model(folder, pretrained=True).eval()
    with torch.inference_mode():
        expected = whole.forward_intermediates(images, intermediates_only=True)
        for feature_class in ("list", "getter"):
            extractor = timm.create_model(
                folder, pretrained=True, features_only=True, feature_cls=feature_class
            )
            torch.testing.assert_close(extractor.eval()(images), expected)


def test_timm_reads_the_data_config_and_adapts_to_another_task(
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


def test_the_model_can_be_saved_for_the_hub(
    exports: dict[str, ExportResult], tmp_path: Path, images: Tensor
) -> None:
    folder = exports["threshold"].files[0].parent
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    timm.models.save_for_hf(model, tmp_path / "hub", safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    with torch.inference_mode():
        assert torch.equal(model(images), again(images))


@pytest.mark.parametrize("name", TRAINED)
def test_the_proof_file_holds_the_verification(
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
def test_the_trained_network_is_timed_relative_to_the_exported_one(
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
        assert interval[1] != 1  # two different networks were timed
        assert speed.digest == TRAINED[name].digest != speed.reference_digest


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
def test_any_frozen_network_is_exported_and_verified(
    parts: dict[str, Any], seed: int, width: int
) -> None:
    ratios = [learned(budget=None)] * len(parts.get("ratio", ()))
    subject = planned(width=width, **parts | {"ratio": ratios or learned(budget=None)})
    assert isinstance(subject.learned, LearnedRatio)
    network = randomize(subject, seed)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        number = create_trained_study(folder / "study", subject, network)
        export_model(folder / "study", number, folder / "out", max_seconds=0.1)
        model = timm.create_model(f"local-dir:{folder / 'out'}", pretrained=True).eval()
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        assert is_close(network.eval()(x), model(x)), sizes_of(network)


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
    difference = float((expected - logits).abs().max() / expected.abs().max())
    assert difference <= 1e-4
    assert export.verification.onnx is not None
    assert export.verification.onnx.difference == pytest.approx(difference, abs=2e-6)
    assert export.verification.onnx.images == 180
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`model.onnx` is its deploy form" in card
    export_model(study, NUMBERS[name], tmp_path / "out", max_seconds=0.1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES


@pytest.mark.slow
def test_the_sizes_of_the_onnx_file_are_free_on_request(study: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    x = torch.randn(3, 1, 27, 18, generator=torch.Generator().manual_seed(0))
    expected = trained_logits(study, "threshold", x)
    for dynamic, shape, text in (
        ("all", ["batch", 1, "height", "width"], "any batch and image size"),
        ("none", [1, 1, 8, 8], "one image"),
    ):
        out, number = tmp_path / dynamic, NUMBERS["threshold"]
        export = exporting.export_model(study, number, out, max_seconds=0.1, dynamic=dynamic)
        assert export.verification.onnx is not None
        assert export.verification.onnx.dynamic == dynamic
        session = onnxruntime.InferenceSession(out / "model.onnx")
        assert session.get_inputs()[0].shape == shape
        assert text in (out / "README.md").read_text()
        if dynamic == "all":
            logits = torch.from_numpy(session.run(["logits"], {"image": x.numpy()})[0])
            assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_unknown_free_sizes_are_rejected(study: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dynamic": "width"}
    with pytest.raises(UserError, match="invalid dynamic 'width': choose none, batch or all"):
        export_model(study, NUMBERS["static"], tmp_path / "out", **settings)


@pytest.mark.slow
def test_an_onnx_file_with_other_outputs_is_never_written(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")

    def change_weights(network: Network) -> nn.Module:
        changed = deploy(network)
        changed.get_submodule("classifier").get_parameter("weight").data.mul_(1.01)
        return changed

    monkeypatch.setattr(verify_onnx, "deploy", change_weights)
    with pytest.raises(MachineError, match=r"differ by 0\.0[\s\S]*Nothing was written"):
        exporting.export_model(study, NUMBERS["static"], tmp_path / "out", max_seconds=0.1)
    assert not (tmp_path / "out").exists()


def test_no_onnx_file_is_written_without_its_packages(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    export = exporting.export_model(study, NUMBERS["static"], tmp_path / "out", max_seconds=0.1)
    assert export.verification.onnx is None
    assert sorted(path.name for path in export.files) == FILES


@pytest.fixture
def trained_study(tmp_path: Path, study: Path) -> tuple[Path, Network]:
    """Return a folder with one trial of random weights and learned ratios, and its network."""
    assert study  # its lock folder is used
    subject = TRAINED["threshold"]
    network = randomize(subject, 0)
    create_trained_study(tmp_path / "study", subject, network)
    return tmp_path / "study", network


def refusal(folder: Path, number: int, kind: type[Exception] = UserError) -> str:
    """Return the message of a refused export, which must write nothing."""
    with pytest.raises(kind) as error:
        export_model(folder, number, folder / "out", max_seconds=QUICK)
    assert not (folder / "out").exists()
    return str(error.value)


def test_ratios_that_depend_on_the_image_are_refused(tmp_path: Path) -> None:
    dynamic = planned(ratio=learned(per="input"))
    with create_ledger(tmp_path / "study") as ledger:
        number = add_trial(ledger, dynamic, record_of(dynamic))
    message = refusal(tmp_path / "study", number)
    assert "depend on the image" in message
    assert "learn the ratios per layer" in message


def test_a_missing_trial_is_refused(study: Path) -> None:
    assert "has no trial 99" in refusal(study, 99)
    assert "no ledger here" in refusal(study.parent / "locks", 1)


def test_only_finished_architectures_can_be_exported(tmp_path: Path) -> None:
    static = TRAINED["static"]
    bad = record_of(static, seed=1, state="failed", reason="loss became NaN in epoch 1")
    other = TimmModel(timm="resnet18")
    with create_ledger(tmp_path / "study") as ledger:
        planned_trial = add_trial(ledger, static)
        failed = add_trial(ledger, static, bad, seed=1)
        timm_trial = add_trial(ledger, other, record_of(other))
    assert "is planned: it can be exported once it is done" in refusal(
        tmp_path / "study", planned_trial
    )
    message = refusal(tmp_path / "study", failed)
    assert "failed (loss became NaN in epoch 1)" in message
    assert "partialnas status" in message
    assert "is resnet18, a model of timm" in refusal(tmp_path / "study", timm_trial)


@pytest.mark.parametrize(
    ("frozen", "remedy"),
    [
        ({"recipe": {"keep_weights": "none"}}, "recipe.keep_weights: all"),
        ({"recipe": {"keep_weights": "front"}}, "choose a trial on the front"),
        ({"trial": "mine:evaluate"}, "the study calls mine:evaluate instead of training"),
    ],
)
def test_without_weights_the_message_suggests_a_remedy(
    frozen: dict[str, Any], remedy: str, tmp_path: Path
) -> None:
    static = TRAINED["static"]
    with create_ledger(tmp_path / "study", **frozen) as ledger:
        number = add_trial(ledger, static, record_of(static))
    message = refusal(tmp_path / "study", number)
    assert "its weights were not kept" in message
    assert remedy in message


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_damaged_weights_are_a_machine_error(
    share: float, trained_study: tuple[Path, Network]
) -> None:
    folder, _ = trained_study
    (path,) = (folder / "weights").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = refusal(folder, 1, MachineError)
    assert str(path) in message
    assert "damaged" in message


def test_weights_of_another_network_are_refused(
    trained_study: tuple[Path, Network], study: Path
) -> None:
    folder, network = trained_study
    (path,) = (folder / "weights").iterdir()
    path.write_bytes(weights_path(study, job_of(TRAINED["static"]).trial_keys[0]).read_bytes())
    assert "belongs to another network" in refusal(folder, 1)
    mixer = learned_mixers(network)[3, 0]
    first, *rest = mixer.sizes
    mixer.set_sizes([first + 1, rest[0] - 1] if rest[0] > 1 else [first - 1, 2.0], ramp=0.0)
    save_trial_weights(folder, TRAINED["threshold"], network)
    assert "its ratios differ from" in refusal(folder, 1)


def test_ratios_that_are_still_learned_are_refused(trained_study: tuple[Path, Network]) -> None:
    folder, network = trained_study
    mixer = learned_mixers(network)[0, 0]
    mixer.set_sizes(mixer.sizes, ramp=2.0)
    save_trial_weights(folder, TRAINED["threshold"], network)
    assert "still being learned" in refusal(folder, 1)


@pytest.mark.parametrize(("change", "difference"), [(1.01, r"differ by \d"), (float("nan"), "nan")])
def test_a_network_with_other_outputs_is_never_written(
    change: float,
    difference: str,
    trained_study: tuple[Path, Network],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = trained_study
    freeze = exporting.freeze

    def change_weights(network: Network) -> Network:
        frozen = freeze(network)
        frozen.classifier.get_parameter("weight").data.mul_(change)
        return frozen

    monkeypatch.setattr(exporting, "freeze", change_weights)
    with pytest.raises(MachineError, match=rf"{difference}[\s\S]*Nothing was written"):
        export_model(folder, 1, folder / "out", max_seconds=QUICK)
    assert not (folder / "out").exists()


def test_a_cost_other_than_the_recorded_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = dict(subject_cost(TRAINED["static"], TASK))
    cost["macs"] += 1
    monkeypatch.setitem(create_trained_study.__globals__, "subject_cost", lambda *_: cost)
    create_trained_study(tmp_path / "study", TRAINED["static"], randomize(TRAINED["static"], 0))
    message = refusal(tmp_path / "study", 1, MachineError)
    assert f"macs differ: formula {cost['macs'] - 1}" in message
    assert f"recorded {cost['macs']}" in message


def test_a_folder_with_other_files_is_refused(trained_study: tuple[Path, Network]) -> None:
    folder, _ = trained_study
    out = folder / "out"
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "proof.json").write_text('{"of": "a theorem"}')
    with pytest.raises(UserError, match=r"holds config.json and is not an earlier export"):
        export_model(folder, 1, out, max_seconds=QUICK)
    assert (out / "config.json").read_text() == "{}"
    with pytest.raises(UserError, match=r"config.json is a file, not a folder"):
        export_model(folder, 1, out / "config.json", max_seconds=QUICK)


def test_an_earlier_or_unfinished_export_is_replaced(
    trained_study: tuple[Path, Network],
    exports: dict[str, ExportResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = trained_study
    speed = exports["threshold"].verification.speed
    monkeypatch.setattr(exporting, "time_exported", lambda *_: speed)
    write: Callable[[Path, bytes | str], Path] = exporting.write_file

    def fail_on_config(path: Path, content: bytes | str) -> Path:
        if path.name == "config.json":
            raise MachineError("the disk is full")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "write_file", fail_on_config)
        with pytest.raises(MachineError, match="disk is full"):
            export_model(folder, 1, folder / "out", max_seconds=QUICK)
    (folder / "out" / "notes.txt").write_text("mine")
    export_model(folder, 1, folder / "out", max_seconds=QUICK)
    assert sorted(p.name for p in (folder / "out").iterdir()) == sorted([*FILES, "notes.txt"])
    assert (folder / "out" / "notes.txt").read_text() == "mine"


def test_the_weights_file_holds_the_architecture(exports: dict[str, ExportResult]) -> None:
    folder = exports["threshold"].files[0].parent
    with safe_open(folder / "model.safetensors", "pt") as stored:
        architecture = Architecture.from_json(stored.metadata()["architecture"])
    assert architecture == Architecture.from_file(folder / "architecture.json")


def test_an_invalid_device_is_refused(trained_study: tuple[Path, Network]) -> None:
    folder, _ = trained_study
    with pytest.raises(UserError, match="device"):
        export_model(folder, 1, folder / "out", device="tpu")
    assert not (folder / "out").exists()
