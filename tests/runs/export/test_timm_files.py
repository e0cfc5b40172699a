import argparse
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from timm.utils.misc import ParseKwargs

from partialnas.runs.export.timm_files import nearest_preset, train_script
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.plan import Plan
from partialnas.space.arch.presets import DROP_PATH_RATES, preset

# Published: arXiv 2502.01303, and the parent family's settings where it gives ranges only.
PUBLISHED: dict[str, dict[str, Any]] = {
    "partialnet_t0": {"lr_base": 0.004, "lr_base_size": 4096, "mixup": 0.05, "weight_decay": 0.005},
    "partialnet_s": {"lr_base": 0.004, "lr_base_size": 4096, "mixup": 0.3, "weight_decay": 0.03},
    "partialnet_m": {"lr_base": 0.002, "lr_base_size": 2048, "mixup": 0.5, "weight_decay": 0.05},
    "partialnet_l": {"lr_base": 0.002, "lr_base_size": 2048, "mixup": 0.7, "weight_decay": 0.05},
}
NUMBERS = ("lr_base", "lr_base_size", "mixup", "weight_decay", "drop_path", "cutmix", "smoothing")
WHOLE = ("epochs", "warmup_epochs", "batch_size", "grad_accum_steps", "num_classes", "img_size")
TEXTS = (
    "model",
    "opt",
    "sched",
    "lr_base_scale",
    "data_dir",
    "output",
    "train_interpolation",
    "aa",
)
OTHERS = ("warmup_lr", "min_lr", "crop_pct", "color_jitter")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse arguments as timm's train.py does."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in (*NUMBERS, *OTHERS):
        parser.add_argument("--" + name.replace("_", "-"), type=float)
    for name in WHOLE:
        parser.add_argument("--" + name.replace("_", "-"), type=int)
    for name in TEXTS:
        parser.add_argument("--" + name.replace("_", "-"))
    parser.add_argument("--model-kwargs", nargs="*", default={}, action=ParseKwargs)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    return parser.parse_args(arguments)


def torchrun_arguments(
    folder: Path, architecture: Architecture, *more: str, **settings: str
) -> list[str]:
    """Run the script and return the arguments of torchrun."""
    (folder / "an export").mkdir(parents=True)
    script = folder / "an export" / "train.sh"
    script.write_text(train_script(architecture))
    (folder / "bin").mkdir()
    torchrun = folder / "bin" / "torchrun"
    torchrun.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    torchrun.chmod(torchrun.stat().st_mode | stat.S_IXUSR)
    path = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    command = ["sh", str(script), "some data", *more]
    result = subprocess.run(
        command, env=os.environ | path | settings, capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_script_uses_the_published_recipe(name: str, tmp_path: Path) -> None:
    words = torchrun_arguments(
        tmp_path, preset(name), GPUS="8", BATCH="128", STEPS="4", TIMM="there"
    )
    script = words.index("there/train.py")
    assert words[:script] == [
        "--standalone",
        "--nproc_per_node",
        "8",
        "-m",
        "partialnas.space.timm",
    ]
    options = parse(words[script + 1 :])
    assert {key: getattr(options, key) for key in PUBLISHED[name]} == PUBLISHED[name]
    assert (options.opt, options.sched, options.lr_base_scale) == ("adamw", "cosine", "linear")
    assert (options.epochs, options.warmup_epochs) == (300, 20)
    assert (options.smoothing, options.cutmix, options.crop_pct) == (0.1, 1.0, 0.9)
    assert options.drop_path == DROP_PATH_RATES[name]
    assert (options.batch_size, options.grad_accum_steps) == (128, 4)
    assert (options.num_classes, options.img_size, options.data_dir) == (1000, 224, "some data")
    export = tmp_path / "an export"
    assert options.model == "partialnet"
    assert options.model_kwargs == {"architecture": str(export / "architecture.json")}
    assert options.output == str(export / "training")


def test_further_arguments_override(tmp_path: Path) -> None:
    words = torchrun_arguments(
        tmp_path, preset("partialnet_t0"), "--epochs", "3", "--num-classes", "10"
    )
    options = parse(words[words.index("pytorch-image-models/train.py") + 1 :])
    assert (options.epochs, options.num_classes) == (3, 10)


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
    (tmp_path / "bin").mkdir()
    torchrun = tmp_path / "bin" / "torchrun"
    torchrun.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    torchrun.chmod(torchrun.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "train.sh").write_text(script)
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = ["sh", str(tmp_path / "train.sh"), "data"]
    result = subprocess.run(
        command, env=os.environ | path, capture_output=True, text=True, check=True
    )
    words = result.stdout.splitlines()
    assert words[words.index("--nproc_per_node") + 1] == "4"
    options = parse(words[words.index("pytorch-image-models/train.py") + 1 :])
    assert (options.batch_size, options.lr_base, options.lr_base_size) == (96, 0.002, 2048)


@pytest.mark.parametrize("name", DROP_PATH_RATES)
def test_a_published_network_is_nearest_to_itself(name: str) -> None:
    assert nearest_preset(preset(name)) == name


def test_networks_outside_the_published_range_use_the_nearest_end() -> None:
    tiny = Plan(width=8, depths=(1, 1, 1, 1), head_width=16).architecture()
    huge = Plan(width=256, depths=(2, 3, 20, 4)).architecture()
    assert [nearest_preset(a) for a in (tiny, huge)] == ["partialnet_t0", "partialnet_l"]


@pytest.mark.slow
def test_torchrun_builds_the_network(tmp_path: Path) -> None:
    folder = tmp_path / "an export"
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
