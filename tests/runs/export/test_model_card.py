"""Model cards of exported networks, compared with their ledgers."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import yaml

from partialnas.runs.config.design import StudyStage
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.export.lineage import trace_lineage
from partialnas.runs.export.model_card import model_card
from partialnas.runs.export.trained_trial import TrainedTrial, load_trained_trial
from partialnas.runs.export.verification import (
    CostCheck,
    ExportVerification,
    OnnxCheck,
    OutputCheck,
)
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.measurement import Measurement
from partialnas.runs.records.record import Record
from partialnas.runs.system.files import weights_path
from partialnas.space.arch.plan import Plan

NETWORK = Plan(width=8, depths=(1, 1, 1, 1), stem_stride=1, head_width=16).architecture()
OTHER = Plan(width=12, depths=(1, 1, 1, 1), stem_stride=1, head_width=16).architecture()
SEARCH: dict[str, Any] = {
    "study": "mine",
    "question": "Do <b>wide</b> | networks\nwin?",
    "recipe": {"epochs": 4, "optimizer": "adamw", "lr": 0.01, "mixup": 0.0, "keep_weights": "all"},
    "search": {"sampler": "nsga2"},
    "objectives": {"val_nll": "min", "macs": "min"},
    "measure": {},
}
SEEDS = {0: 91.0, 1: 93.0, 2: 92.5}
FRESH = {10_000: 90.0, 10_001: 91.5}


class StudyLedger:
    def __init__(self, folder: Path, **study: Any) -> None:
        self.folder = folder
        meta = {
            "study": "mine",
            "frozen": json.dumps(SEARCH | study),
            "task": resolve_task("digits").model_dump_json(),
        }
        self.ledger = Ledger.create(folder, meta)

    def add_trials(self, values: Mapping[int, float], network: Any = NETWORK, **note: str) -> int:
        """Add trials with accuracies by seed, and return the number of the first."""
        data, arm = network.model_dump(mode="json"), note.pop("arm", None)
        proposal = self.ledger.add_proposal(arm, network.digest, data, note)
        numbers = []
        for seed, accuracy in values.items():
            key = f"{proposal:08x}{seed:08x}"
            facts = {"digest": network.digest, "name": "", "fidelity": 4}
            (row,) = self.ledger.plan(proposal, **facts, keys={seed: key})
            metrics = {"val_accuracy": accuracy, "test_accuracy": accuracy - 1}
            result = {"state": "done", "metrics": metrics, "seconds": 7200.0}
            self.ledger.finish(Record.model_validate({"key": key, **facts, "seed": seed, **result}))
            path = weights_path(self.folder, key)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
            numbers.append(row.number)
        return numbers[0]


@pytest.fixture
def ledger(tmp_path: Path) -> StudyLedger:
    return StudyLedger(tmp_path / "study")


def verification_of(trial: TrainedTrial, onnx: OnnxCheck | None = None) -> ExportVerification:
    digest = trial.architecture.digest
    speed = Measurement(
        digest=digest, name="", device="cpu", device_kind="cpu", threads=1, batch_size=32,
        resolution=8, in_chans=1, precision="float32", form="deploy", throughput_img_s=12345.6,
        latency_ms=2.5, relative_throughput=1, relative_low=1, relative_high=1,
        reference_digest=digest, reference_name="", reference_form="deploy",
        reference_throughput_img_s=12345.6, rounds=3, wall_cpu_gap=0, noisy=False, load=0,
        environment={"processor": "A Processor"}, taken="2026-01-01T00:00:00Z",
    )  # fmt: skip
    cost = dict.fromkeys(("macs", "macs_counted", "macs_recorded"), 1_234_567)
    cost |= dict.fromkeys(("params", "params_counted", "params_recorded"), 76_543)
    outputs = OutputCheck(
        images=180, difference=0, at_most=1e-5, val_accuracy=91, recorded_val_accuracy=91
    )
    return ExportVerification(
        trial=trial.name, key=trial.row.key, trained_digest=digest, digest=digest,
        weights_sha256="0" * 64, outputs=outputs, cost=CostCheck.model_validate(cost), speed=speed,
        onnx=onnx, environment={}, made="2026-01-01T00:00:00Z",
    )  # fmt: skip


def card_of(folder: Path, number: int, license_name: str = "mit", **facts: Any) -> str:
    trial = load_trained_trial(folder, number)
    return model_card(
        trial, trace_lineage(trial), verification_of(trial, **facts), license_name=license_name
    )


def spread(values: Mapping[int, float], less: float = 0) -> str:
    shifted = [value - less for value in values.values()]
    return f"{fmean(shifted):.2f} ± {stdev(shifted):.2f}"


def test_metrics_have_a_spread_over_seeds(ledger: StudyLedger) -> None:
    ledger.add_trials({0: 50.0, 1: 60.0}, OTHER)
    number = ledger.add_trials(SEEDS)
    card = card_of(ledger.folder, number)
    assert f"| Validation accuracy, % | 91.00 | {spread(SEEDS)} |" in card
    assert f"| Test accuracy, % | 90.00 | {spread(SEEDS, 1)} |" in card
    assert "mean ± SD of 3 seeds" in card
    assert "A search (nsga2): 2 networks, trials: 5 done" in card
    assert "`partialnas confirm` trains fresh seeds" in card


def test_fresh_seeds_have_their_own_column(ledger: StudyLedger) -> None:
    number = ledger.add_trials({0: 91.0})
    ledger.add_trials(FRESH, arm="#1", stage="confirm")
    ledger.add_trials({20_000: 99.0}, arm="#1", stage="audit")
    stage = StudyStage(
        name="confirm", recipe=SEARCH["recipe"], seeds=(10_000, 10_001), chosen="the front",
        origins={"#1": NETWORK.digest},
    )  # fmt: skip
    ledger.ledger.update_meta({"stages": json.dumps({"confirm": stage.model_dump(mode="json")})})
    card = card_of(ledger.folder, number)
    assert f"| Validation accuracy, % | 91.00 | 91.00 | {spread(FRESH)} |" in card
    assert "One seed: the spread is not known." in card
    assert "report their means" in card
    assert "1 network, trials: 1 done" in card  # stages do not count
    later = card_of(ledger.folder, number + 1)
    assert "Trained in its stage confirm (the front)" in later
    assert f"| Validation accuracy, % | 90.00 | {spread(FRESH)} |" in later


def test_the_metadata_follow_the_hub(ledger: StudyLedger) -> None:
    number = ledger.add_trials(SEEDS)
    _, head, _ = card_of(ledger.folder, number, license_name="apache-2.0").split("---\n", 2)
    facts = yaml.safe_load(head)
    assert (facts["license"], facts["library_name"]) == ("apache-2.0", "timm")
    assert facts["datasets"] == ["digits"]
    metrics = facts["model-index"][0]["results"][0]["metrics"]
    assert {"type": "val_accuracy", "value": 91.0} in metrics


def test_data_recipe_cost_and_limitations_are_stated(ledger: StudyLedger) -> None:
    card = card_of(ledger.folder, ledger.add_trials(SEEDS))
    for part in (
        "`digits`, 1x8x8 pixels, 10 classes, from random weights for 4 epochs: optimizer adamw, "
        "lr 0.01. Seed 0; 2 h on cpu.",
        "| Parameters | 76,543 |",
        "| Multiply–accumulates at 8x8 (fvcore) | 1,234,567 |",
        "batch 32 | 12,346 img/s |",
        "A Processor, float32, 1 thread.",
        "come from a proxy training (4 epochs on digits) for ranking networks",
        "Network and weights: mit,",
        "sh train.sh DATA",
    ):
        assert part in card
    assert "model.onnx" not in card


def test_the_onnx_file_is_described_if_there_is_one(ledger: StudyLedger) -> None:
    onnx = OnnxCheck(images=180, difference=2.5e-7, at_most=1e-4, opset=20, runtime="1")
    card = card_of(ledger.folder, ledger.add_trials(SEEDS), onnx=onnx)
    assert "differ from those of these weights by 2.5e-07 of the largest one" in card


def test_texts_of_users_are_escaped(ledger: StudyLedger) -> None:
    card = card_of(ledger.folder, ledger.add_trials(SEEDS), license_name="my | <own>")
    assert "<b>" not in card
    assert r"Do \<b\>wide\</b\> \| networks win?" in card
    assert r"my \| \<own\>" in card


@pytest.mark.parametrize(
    ("study", "method"),
    [
        ({"search": None, "ablation": {"design": "ladder"}}, "An ablation (ladder)"),
        ({"search": None}, "A comparison of named networks"),
        ({"search": {"sampler": "gp", "rungs": [{}, {}]}}, "A search (gp in 3 fidelities)"),
    ],
)
def test_the_method_is_stated(tmp_path: Path, study: dict[str, Any], method: str) -> None:
    ledger = StudyLedger(tmp_path / "study", **study)
    card = card_of(ledger.folder, ledger.add_trials(SEEDS, arm="wide"))
    assert method in card
    assert "The network is its arm wide." in card
