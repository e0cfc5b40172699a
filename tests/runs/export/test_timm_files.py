"""Files for timm: its configuration, and the script for training in full."""

import argparse
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from timm.utils.misc import ParseKwargs

from partialnas.runs.export.timm_files import nearest_preset, train_script
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import DROP_PATH_RATES, preset

SHARED: dict[str, Any] = {
    "model": "partialnet",
    "num_classes": 1000,
    "img_size": 224,
    "crop_pct": 0.9,
    "opt": "adamw",
    "lr_base_scale": "linear",
    "sched": "cosine",
    "epochs": 300,
    "warmup_epochs": 20,
    "warmup_lr": 1e-6,
    "min_lr": 1e-5,
    "smoothing": 0.1,
    "cutmix": 1.0,
    "color_jitter": 0.0,
    "train_interpolation": "bicubic",
    "amp": True,
    "channels_last": True,
}
"""Settings of all sizes in the configurations of the released code."""

SIZED = ["lr_base", "lr_base_size", "weight_decay", "clip_grad", "drop_path", "mixup", "aa"]
PUBLISHED = {
    "partialnet_t0": (0.004, 4096, 0.005, None, 0.0, 0.05, None),
    "partialnet_t1": (0.004, 4096, 0.01, None, 0.02, 0.1, "rand-m3-mstd0.5-inc1"),
    "partialnet_t2": (0.004, 4096, 0.02, None, 0.05, 0.1, "rand-m5-mstd0.5-inc1"),
    "partialnet_s": (0.004, 4096, 0.03, None, 0.1, 0.3, "rand-m7-mstd0.5-inc1"),
    "partialnet_m": (0.002, 2048, 0.05, 1.0, 0.2, 0.5, "rand-m7-mstd0.5-inc1"),
    "partialnet_l": (0.002, 2048, 0.05, 0.01, 0.3, 0.7, "rand-m7-mstd0.5-inc1"),
}
"""Settings of each size there."""

FLAGS = ("amp", "channels_last")
INTEGERS = (
    *("epochs", "warmup_epochs", "batch_size", "grad_accum_steps", "num_classes", "img_size"),
    "lr_base_size",
)
FLOATS = (
    *("lr_base", "weight_decay", "clip_grad", "drop_path", "mixup", "cutmix", "smoothing"),
    *("warmup_lr", "min_lr", "crop_pct", "color_jitter"),
)
TEXTS = (
    *("model", "opt", "sched", "lr_base_scale", "data_dir", "output", "train_interpolation"),
    "aa",
)


def parse(arguments: list[str]) -> dict[str, Any]:
    """Parse arguments as timm's train.py does; settings that are not given are None."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for names, kind in ((FLOATS, float), (INTEGERS, int), (TEXTS, str)):
        for name in names:
            parser.add_argument("--" + name.replace("_", "-"), type=kind)
    for name in FLAGS:
        parser.add_argument("--" + name.replace("_", "-"), action="store_true", default=None)
    parser.add_argument("--model-kwargs", nargs="*", action=ParseKwargs)
    return vars(parser.parse_args(arguments))


def torchrun_arguments(
    export: Path, script: str, *arguments: str, shell: str = "sh", **settings: str
) -> list[str]:
    """Write the script to a folder, run it there, and return the arguments of torchrun."""
    export.mkdir(parents=True)
    (export / "train.sh").write_text(script)
    stub = export / "bin" / "torchrun"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {"PATH": f"{stub.parent}:{os.environ['PATH']}"} | settings
    result = subprocess.run(
        [shell, str(export / "train.sh"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.removesuffix("\0").split("\0")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_script_uses_the_published_recipe_and_nothing_else(name: str, tmp_path: Path) -> None:
    script = train_script(preset(name))
    words = torchrun_arguments(
        tmp_path / "export", script, "data", GPUS="8", BATCH="128", STEPS="4", TIMM="there"
    )
    launcher = ["--standalone", "--nproc_per_node", "8", "-m", "partialnas.space.timm"]
    assert words[:6] == [*launcher, "there/train.py"]
    export = tmp_path / "export"
    sizes = {"batch_size": 128, "grad_accum_steps": 4}
    paths = {
        "data_dir": "data",
        "model_kwargs": {"architecture": str(export / "architecture.json")},
        "output": str(export / "training"),
    }
    sized = dict(zip(SIZED, PUBLISHED[name], strict=True))
    assert parse(words[6:]) == SHARED | sized | sizes | paths


PATHS = [
    "it's two words",
    "both ' and \"",
    "$HOME `pwd` $(pwd) back\\slash\nline break * name=value {brace} per%cent \u00e9t\u00e9",
    "-dash",
]


@pytest.mark.parametrize("shell", [name for name in ("sh", "bash") if shutil.which(name)])
@pytest.mark.parametrize("name", PATHS)
def test_paths_reach_timm_unchanged(name: str, shell: str, tmp_path: Path) -> None:
    export = tmp_path / name / "export"
    script = train_script(preset("partialnet_t0"))
    words = torchrun_arguments(export, script, name, shell=shell, TIMM=name)
    options = parse(words[6:])
    assert words[5] == f"{name}/train.py"
    assert options["data_dir"] == name
    assert options["model_kwargs"] == {"architecture": str(export / "architecture.json")}
    assert options["output"] == str(export / "training")


def test_further_arguments_override(tmp_path: Path) -> None:
    script = train_script(preset("partialnet_l"))
    more = ("--epochs", "3", "--num-classes", "10", "--clip-grad", "5", "--aa", "it's")
    options = parse(torchrun_arguments(tmp_path / "export", script, "data", *more)[6:])
    assert (options["epochs"], options["num_classes"]) == (3, 10)
    assert (options["clip_grad"], options["aa"]) == (5, "it's")


def test_the_script_requires_data(tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text(train_script(preset("partialnet_t0")))
    result = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "the folder of the images" in result.stderr


def test_gpus_and_batch_size_set_the_learning_rate(tmp_path: Path) -> None:
    script = train_script(preset("partialnet_m"), gpus=4, batch_size=96)
    rate = 0.002 * 4 * 96 / 2048
    assert f"{rate:g} for 4 x 96 x 1 = 384 images.\n" in script
    words = torchrun_arguments(tmp_path / "export", script, "data")
    assert words[words.index("--nproc_per_node") + 1] == "4"
    assert words[5] == "pytorch-image-models/train.py"
    options = parse(words[6:])
    settings = [options[name] for name in ("batch_size", "lr_base", "lr_base_size")]
    assert settings == [96, 0.002, 2048]


@pytest.mark.parametrize("name", DROP_PATH_RATES)
def test_a_published_network_is_nearest_to_itself(name: str) -> None:
    assert nearest_preset(preset(name)) == name


def test_networks_outside_the_published_range_use_the_nearest_end() -> None:
    tiny = Plan(width=8, depths=(1, 1, 1, 1), head_width=16).architecture()
    huge = Plan(width=256, depths=(2, 3, 20, 4)).architecture()
    assert [nearest_preset(a) for a in (tiny, huge)] == ["partialnet_t0", "partialnet_l"]


@pytest.mark.slow
def test_torchrun_builds_the_network(tmp_path: Path) -> None:
    folder = tmp_path / "an export's $folder = here"
    folder.mkdir()
    architecture = Plan(width=8, depths=(1, 1, 1, 1), head_width=16).architecture()
    (folder / "architecture.json").write_text(architecture.to_json())
    (folder / "train.sh").write_text(train_script(architecture))
    (tmp_path / "train.py").write_text(
        "import argparse, timm\n"
        "from timm.utils.misc import ParseKwargs\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--model')\n"
        "parser.add_argument('--num-classes', type=int)\n"
        "parser.add_argument('--model-kwargs', nargs='*', action=ParseKwargs)\n"
        "a, _ = parser.parse_known_args()\n"
        "model = timm.create_model(a.model, num_classes=a.num_classes, **a.model_kwargs)\n"
        "print('built', model.architecture.digest, model.num_classes)\n"
    )
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TIMM": str(tmp_path)}
    result = subprocess.run(
        ["sh", str(folder / "train.sh"), "data"],
        env=os.environ | path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert f"built {architecture.digest} 1000" in result.stdout
