"""The README: its study is the shipped one, and each of its commands runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def settings(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


BRIEF = settings("recipe.epochs=1", "recipe.data_share=1/10", "measure.max_seconds=0.2")
SMALLER = {
    "quickstart": ["--quick", "--out", "results/quickstart", *BRIEF],
    "static-vs-dynamic": [
        *BRIEF,
        *settings("base.depths=[1,1,1,1]", "base.width=8", "executor.kind=in-process"),
    ],
    "partitions": [
        *BRIEF,
        *settings("ablation.factors.parts=[1,2]", "executor.kind=in-process"),
    ],
}
"""What makes the studies of the README end in seconds."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def test_the_studies_shown_are_those_shipped() -> None:
    studies = ROOT / "search" / "studies"
    assert blocks("yaml") == [(studies / "quickstart.yaml").read_text(encoding="utf-8")]
    ablations = (ROOT / "docs" / "ablations.md").read_text(encoding="utf-8")
    assert (studies / "partitions.yaml").read_text(encoding="utf-8") in ablations
    listed = re.split(r"^## .*studies.*$", ablations, flags=re.MULTILINE | re.IGNORECASE)[1]
    for name in re.findall(r"^\| `([a-z-]+)` \| .*\|$", listed, re.MULTILINE):
        assert (studies / f"{name}.yaml").exists(), name


def test_every_make_target_named_is_there_and_run_by_ci() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = [command.split()[1] for command in commands() if command.startswith("make")]
    assert targets == ["quickstart", "test"]
    for target in targets:
        assert f"\n{target}: $(STAMP)" in makefile
        assert f"\nmake {target}\n" in run


def test_files_and_folders_named_are_there() -> None:
    for name in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / name.partition("#")[0]).exists(), name


@pytest.mark.slow
def test_every_other_command_runs_in_order(tmp_path: Path) -> None:
    (tmp_path / "search").symlink_to(ROOT / "search")
    lines = [command for command in commands() if not command.startswith("make")]
    assert len(lines) > 5
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "partialnas"
        if arguments[0] == "run" and "--rehearse" not in arguments:
            arguments += SMALLER[Path(arguments[1]).stem]
        if arguments[0] == "measure":
            arguments += ["--seconds", "2", "--resolution", "64"]
        if arguments[0] in ("remeasure", "export-model"):
            arguments += ["--seconds", "0.5"]
        command = [sys.executable, "-m", program, *arguments]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{line}\n{ended.stderr}"
    for code in blocks("python"):
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
