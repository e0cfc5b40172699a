"""The README: short, its study is the shipped one, and each of its commands runs."""

import re
import shlex
from pathlib import Path

import pytest
from forked import BRIEF, run_code, run_verb

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 250


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
        assert f"\nstep {target}\n" in run


@pytest.mark.slow
def test_every_other_command_runs_in_order(tmp_path: Path) -> None:
    for name in ("search", "analysis", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    lines = [shlex.split(command) for command in commands() if not command.startswith("make")]
    assert {program for program, *_ in lines} == {"partialnas"}
    assert len(lines) > 5
    for _, *call in lines:
        result = run_verb([*call, *BRIEF] if call[0] == "run" else call, tmp_path)
        assert result.returncode == 0, f"{shlex.join(call)}\n{result.stderr}"
    for code in blocks("python"):
        run_code(code, tmp_path).check_returncode()
