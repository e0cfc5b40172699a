"""The files around the code agree with it: citation, workflow, issue forms, image, changelog."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
FORMS = sorted(
    path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"
)
FORM_ELEMENTS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
"""Types of the elements of GitHub's issue forms."""


def load_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_citation_has_what_its_format_requires_and_names_this_release() -> None:
    citation = load_yaml(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == VERSION
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {VERSION} - {citation['date-released']}" in changelog


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one_that_github_accepts(path: Path) -> None:
    form = load_yaml(path)
    assert {"name", "description", "body"} <= form.keys()
    elements = form["body"]
    assert {element["type"] for element in elements} <= FORM_ELEMENTS
    questions = [element for element in elements if element["type"] != "markdown"]
    assert questions
    assert all(element["attributes"]["label"] for element in questions)
    ids = [element["id"] for element in questions]
    assert len(ids) == len(set(ids))
    for element in questions:
        if element["type"] in ("checkboxes", "dropdown"):
            assert element["attributes"]["options"]


def test_the_workflow_runs_the_script_of_the_repository() -> None:
    jobs = load_yaml(ROOT / ".github/workflows/ci.yml")["jobs"]
    commands = {name: [s["run"] for s in job["steps"] if "run" in s] for name, job in jobs.items()}
    assert commands["linux"] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [c.split()[1] for c in commands["macos"] if c.startswith("make ")]
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)
    assert all(step["uses"].count("@") == 1 for job in jobs.values() for step in job["steps"]
               if "uses" in step)  # fmt: skip


def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines()]


def test_the_image_has_build_arguments_and_does_not_run_as_root() -> None:
    instructions = dockerfile()
    assert [word for word, _ in instructions if word == "ADD"] == []
    defaults = dict(rest.split("=") for word, rest in instructions if word == "ARG")
    assert defaults["TORCH"] == "cpu"
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert float(defaults["PYTHON"]) >= float(lowest.removeprefix(">="))
    *_, last = (i for i, (word, _) in enumerate(instructions) if word == "FROM")
    final = dict(instructions[last:])
    assert final["USER"] not in ("root", "0")
    assert final["ENTRYPOINT"] == '["partialnas"]'
    extras = re.findall(r"--extra (\w+)", " ".join(rest for _, rest in instructions))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras) <= project["optional-dependencies"].keys()


def test_the_image_gets_the_sources_and_nothing_else() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert rules[0] == "*"
    included = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = project["tool"]["setuptools"]["package-dir"].values()
    assert {*folders, "pyproject.toml", project["project"]["readme"], "LICENSE"} <= included
    assert all((ROOT / name).exists() for name in included)
