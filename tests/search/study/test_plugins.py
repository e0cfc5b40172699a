"""A plug-in beside a study: an operation, a data set and a sampler from outside the package."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from forked import run_verb

from partialnas.cli import main

PLUGIN = '''
"""A toy plug-in."""

import numpy as np
import torch
from torch import nn

from partialnas.runs.datasets.carving import LabeledImages, carve_all
from partialnas.runs.datasets.registry import DataSetFacts, register_dataset
from partialnas.search.samplers.registry import register_sampler
from partialnas.space.arch.operation_registry import register_operation
from partialnas.space.cost.formulas import Cost
from partialnas.space.nn.operations import PartOperation


class ChannelScale(PartOperation):
    """Multiply each channel by a weight."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return x * self.scale


def scale_cost(part, places):
    count = part.channels * places
    return Cost(part.channels, count, 0, count)


def load_stripes(task):
    labels = np.arange(120, dtype=np.int64) % task.classes
    images = np.zeros((120, 1, 8, 8), np.uint8)
    images[labels == 1, :, ::2] = 255
    return carve_all(LabeledImages(images, labels), val=20, test=20)


class FirstPoints:
    """Propose points in the order of a random generator with a fixed seed."""

    def __init__(self, space, settings, objectives):
        self.space = space

    def ask(self, number):
        import random

        from partialnas.search.samplers.base import Proposal

        point = self.space.sample(random.Random(number))
        return Proposal(self.space.architecture(point), {"point": dict(point)})

    def explore(self, number, known):
        return self.ask(number)

    def tell(self, number, values):
        pass

    def rebuild(self, history):
        pass


register_operation("scale", module=ChannelScale, cost=scale_cost)
register_dataset("stripes", facts=DataSetFacts(8, 1, 2), load=load_stripes)
register_sampler("first-points", FirstPoints, uses_results=False)
'''

STUDY = {
    "schema": 1,
    "study": "plugged",
    "plugins": ["toy_plugin"],
    "task": {"data": "stripes"},
    "base": {"width": 8, "depths": [1, 1, 1, 1], "stem_stride": 1, "head_width": 16},
    "space": {"axes": {"operations": [["conv", "scale"], ["conv", "identity"]]}},
    "recipe": {"epochs": 1, "batch_size": 20},
    "measure": {"max_seconds": 0.2},
    "objectives": {"val_nll": "min", "macs": "min"},
    "search": {"sampler": "first-points"},
    "budget": {"trials": 2},
    "executor": {"kind": "in-process", "pilot": 0},
}

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Write the study and its plug-in; return a function that runs the command line elsewhere."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "studies" / "toy_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "studies" / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")

    def command(*arguments: str, path: str = "") -> CompletedProcess[str]:
        return run_verb(arguments, tmp_path / "elsewhere", os.environ | {"PYTHONPATH": path})

    return command


@pytest.mark.slow
def test_a_study_uses_what_a_plugin_registers(run: Run, tmp_path: Path) -> None:
    study, folder = str(tmp_path / "studies" / "study.yaml"), str(tmp_path / "results")
    done = run("run", study, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "2 done" in run("status", folder).stdout

    again = run("run", study, "--out", folder)
    assert again.returncode == 0, again.stderr

    beside = run("status", folder)
    assert "2 done" in beside.stdout
    assert "toy_plugin" not in beside.stderr  # found where the study file is

    plugin = tmp_path / "studies" / "toy_plugin.py"
    plugin.rename(tmp_path / "toy_plugin.py")
    without = run("status", folder)
    assert "2 done" in without.stdout  # the rows are shown
    assert "plug-in toy_plugin is neither installed here nor beside the study" in without.stderr
    elsewhere = run("status", folder, path=str(tmp_path))
    assert "toy_plugin" not in elsewhere.stderr
    (tmp_path / "toy_plugin.py").rename(plugin)

    plugin.write_text(plugin.read_text().replace("torch.ones(", "torch.zeros("))
    changed = run("run", study, "--out", folder)
    assert changed.returncode == 2
    assert "plugins.toy_plugin" in changed.stderr
    differs = run("status", folder, path=str(tmp_path / "studies"))
    assert "plug-in toy_plugin has changed since the study ran" in differs.stderr


@pytest.mark.slow
def test_workers_of_ray_import_the_plugins_of_their_study(run: Run, tmp_path: Path) -> None:
    study, folder = str(tmp_path / "studies" / "study.yaml"), str(tmp_path / "results")
    executor = ("--set", "executor.kind=ray", "--set", "executor.workers=2")
    done = run("run", study, "--out", folder, *executor)
    assert done.returncode == 0, done.stderr
    assert "2 done" in run("status", folder).stdout


def test_a_missing_plugin_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    with pytest.raises(SystemExit) as exit_info:
        main(["check", str(tmp_path / "study.yaml")])
    assert exit_info.value.code == 2
    assert "no Python module 'toy_plugin'" in capsys.readouterr().err


@pytest.mark.slow
def test_networks_of_a_plugin_are_described_when_it_is_named(run: Run, tmp_path: Path) -> None:
    stage = {"width": 8, "blocks": [{"parts": [{"op": "conv", "ratio": "1/4"}, {"op": "scale"}]}]}
    plain = {"stages": [stage | {"width": width} for width in (8, 16, 32, 64)]}
    (tmp_path / "elsewhere" / "net.json").write_text(json.dumps(plain), encoding="utf-8")
    missing = run("describe", "net.json")
    assert missing.returncode == 2
    assert "scale" in missing.stderr
    done = run("describe", "net.json", "--plugin", "toy_plugin", path=str(tmp_path / "studies"))
    assert done.returncode == 0, done.stderr
    assert "scale" in done.stdout
