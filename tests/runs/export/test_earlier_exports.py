"""Files of a model exported by an earlier version are read and written as before."""

import json
from pathlib import Path

import timm
import torch

import partialnas.space.timm  # noqa: F401
from partialnas.runs.datasets.loaders import load_splits
from partialnas.runs.datasets.task import resolve_task
from partialnas.runs.export import export_model
from partialnas.runs.export.timm_files import timm_config
from partialnas.runs.export.verification import ExportVerification
from partialnas.space.arch.architecture import Architecture

DATA = Path(__file__).parent / "data"
ARCHITECTURE = Architecture.from_file(DATA / "architecture.json")


def test_the_proof_file_has_the_same_keys_and_values() -> None:
    text = (DATA / "proof.json").read_text()
    verification = ExportVerification.model_validate_json(text)
    data = verification.model_dump(mode="json")
    assert data["onnx"].pop("dynamic") == "batch"  # not recorded then, as the next
    later = {"inputs": 1, "reference_runtime": None, "sm_clock_mhz": None, "power_w": None}
    later |= {"throttle_reasons": ""}
    assert {name: data["speed"].pop(name) for name in later} == later
    assert list(data) == list(json.loads(text))
    assert data == json.loads(text)
    assert verification.digest == ARCHITECTURE.digest
    assert verification.speed.reference_digest == ARCHITECTURE.digest
    export_model._check_output(DATA)  # an earlier export, which may be replaced


def test_architecture_and_configuration_have_the_same_bytes() -> None:
    task = resolve_task("digits", resolution=16)
    config = (DATA / "config.json").read_text()
    assert ARCHITECTURE.to_json(indent=2) + "\n" == (DATA / "architecture.json").read_text()
    assert timm_config(ARCHITECTURE, task, load_splits(task)) == config


def test_timm_builds_the_network_from_the_configuration() -> None:
    config = json.loads((DATA / "config.json").read_text())
    arguments = config["model_args"] | {"num_classes": config["num_classes"], "in_chans": 1}
    network = timm.create_model(config["architecture"], **arguments).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, *config["pretrained_cfg"]["input_size"])).shape == (2, 10)
    assert network.architecture == ARCHITECTURE
