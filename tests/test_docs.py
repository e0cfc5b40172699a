"""The documentation describes every key and verb, and the site builds."""

import importlib.util
import random
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import yaml
from forked import BRIEF, run_code, run_verb

from partialnas.analysis import load
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import load_study
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.operation_registry import listed_operation_names
from partialnas.space.arch.parts import MAX_PARTS
from partialnas.space.arch.plan import Plan
from partialnas.space.axes.descriptions import AXIS_DESCRIPTIONS
from partialnas.space.axes.levels import AXES
from partialnas.space.axes.spec import SpaceSpec
from partialnas.space.search_space.space import Space
from partialnas.space.values import Value

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
STUDIES = sorted((ROOT / "search" / "studies").glob("*.yaml"))


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def values_in(kind: Any) -> set[type[Value]]:
    if isinstance(kind, type) and issubclass(kind, Value):
        fields = [field.annotation for field in kind.model_fields.values()]
        return {kind}.union(*map(values_in, fields))
    return set().union(*map(values_in, get_args(kind)))


def test_every_model_of_a_study_has_a_section(reference: ModuleType) -> None:
    assert values_in(Study) <= set(reference.SECTIONS.values())


def test_every_key_is_described(reference: ModuleType) -> None:
    for model in reference.SECTIONS.values():
        descriptions = reference.described(model)
        assert not [key for key in model.model_fields if not descriptions.get(key)], model
        assert bool(model.shorthands) == (model in reference.SHORTHANDS), model


def test_every_verb_and_option_is_described(reference: ModuleType) -> None:
    for name, verb in reference.commands().items():
        assert "Example: " in verb.help or name == "dashboard", name
        assert [o.name for o in reference.options(verb) if not o.help] == [], name


def test_keys_of_shipped_studies_are_in_the_reference(reference: ModuleType) -> None:
    page = reference.yaml_page()
    assert len(STUDIES) > 10
    for path in STUDIES:
        for key in yaml.safe_load(path.read_text(encoding="utf-8")):
            assert f"\n| `{key}` |" in page, f"{path.name}: {key}"


def test_defaults_in_the_reference_are_those_of_a_minimal_study(
    reference: ModuleType, tmp_path: Path
) -> None:
    minimal = tmp_path / "minimal.yaml"
    minimal.write_text("study: minimal\narms: {one: partialnet_t0}\n", encoding="utf-8")
    frozen = load_study(minimal).frozen()
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| `?([^|`]*)`? \| ", reference.yaml_page(), re.M))
    for key in ("optimizer", "ratio_freeze", "keep_weights", "schedule"):
        assert rows[key] == str(frozen["recipe"][key])
    for key in ("max_seconds", "target_half_width", "runtime"):
        assert rows[key] == str(frozen["measure"][key])


def test_the_navigation_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"([\w/-]+\.md)$", text, re.MULTILINE))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert listed == pages


PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def prose(page: Path) -> str:
    """Return the text of a page without its blocks of code."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^(```|~~~).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def github_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    anchors: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        anchors[slug] += 1
        if anchors[slug] > 1:
            anchors[f"{slug}-{anchors[slug] - 1}"] += 1
    return set(anchors)


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and images that are not on other servers."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    targets = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_works_on_github(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in github_anchors(target), link


def test_the_reference_pages_are_those_of_the_code(reference: ModuleType) -> None:
    files = {path.stem for path in (DOCS / "reference").glob("*.md")}
    assert files == set(reference.PAGES)
    for name, page in reference.PAGES.items():
        committed = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
        assert committed == page(), f"docs/reference/{name}.md is not current: run `make reference`"


def shares_before(axis: str) -> list[str]:
    """Return a `base.ratio` with the shares that an axis such as `ratio_4` requires."""
    part = int(axis[-1]) if axis.startswith("ratio_") else 2
    return ["1/32"] * (part - 1)


def test_the_axes_page_describes_every_axis_by_an_example_that_is_valid(
    reference: ModuleType,
) -> None:
    page = reference.axes_page()
    blocks = re.findall(r"^## `(\w+)`$.*?^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in blocks] == list(AXES)
    for name, text in blocks:
        axes = {"parts": [2, MAX_PARTS], **yaml.safe_load(text)}
        base = Plan.model_validate({"ratio": shares_before(name)})
        space = Space(base, SpaceSpec.model_validate({"axes": axes}), InputSpec.square(32))
        labels = [level.label for level in space.decoder.axes[name].levels]
        assert len(labels) > 1, name
        assert name in page.split("| axis |")[1].split("\n## ")[0]
    intro = re.search(r"```yaml\n(space:.*?)```", page, re.DOTALL)
    assert intro is not None
    SpaceSpec.model_validate(yaml.safe_load(intro[1])["space"])


def test_the_parts_of_the_axes_page_are_those_that_are_built(reference: ModuleType) -> None:
    """The example is built as its table says; every operation of a list is described."""
    page = reference.axes_page()
    section = page.split("## Parts and operations")[1].split("\n## ")[0]
    settings = yaml.safe_load(re.findall(r"`(base: .*?)` ", section)[0])["base"]
    architecture = Plan.model_validate({"width": 32, **settings}).architecture()
    rows = re.findall(r"^\| \d \| (\d+) to (\d+) \| .*`(\w+)`.* \|$", section, re.MULTILINE)
    stated = [(name, int(last) - int(first) + 1) for first, last, name in rows]
    built = [(part.op, part.channels) for part in architecture.realized[0][0].parts]
    assert built == stated
    described = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert described == list(listed_operation_names())


def test_axes_have_no_effect_where_their_page_says_so() -> None:
    """Compare the stated number of parts with networks that differ in the axis only."""
    stated = re.compile(r"blocks with (\w+) or more parts")
    numbers = {"two": 2, **{str(n): n for n in range(2, MAX_PARTS + 1)}}
    tested = 0
    for name, axis in AXIS_DESCRIPTIONS.items():
        if (match := stated.match(axis.effect)) is None:
            continue
        least, tested = numbers[match[1]], tested + 1
        for parts in (least - 1, least):
            ratio = shares_before(name)
            base = Plan.model_validate({"parts": parts, "ratio": ratio, "width": 64})
            axes = {name: yaml.safe_load(axis.example)}
            space = Space(base, SpaceSpec.model_validate({"axes": axes}), InputSpec.square(32))
            assert any(name == choice.axis.name for choice in space.choices)
            sizes = {len(space.sample(random.Random(seed))) for seed in range(5)}
            assert sizes == {int(parts == least)}, (name, parts)
    assert tested == 2 * (MAX_PARTS - 1)


def test_the_site_needs_no_network() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in text
    assert "http" not in text


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert len(pages) > 15
    for page in pages:
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link)\b[^>]*?(?:src|href)=\"(https?:[^\"]+)", html)
        assert not loaded, page
    assert 'id="recipe"' in (tmp_path / "site" / "reference" / "yaml.html").read_text("utf-8")


def blocks(language: str, page: str = TUTORIAL) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_plugin_of_its_page_trains(tmp_path: Path) -> None:
    page = (DOCS / "plugins.md").read_text(encoding="utf-8")
    (tmp_path / "shift_plugin.py").write_text(blocks("python", page)[0], encoding="utf-8")
    (tmp_path / "shift.yaml").write_text(blocks("yaml", page)[0], encoding="utf-8")
    settings = "seeds=1 recipe.epochs=1 recipe.data_share=1/20 measure=none"
    settings += " executor.kind=in-process"
    pairs = [word for pair in settings.split() for word in ("--set", pair)]
    result = run_verb(["run", "shift.yaml", *pairs], tmp_path)
    assert result.returncode == 0, result.stderr
    trials = load(tmp_path / "results" / "shift")
    assert trials["state"].tolist() == ["done", "done"]
    assert trials["digest"].nunique() == 2


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs_in_order(tmp_path: Path) -> None:
    (tmp_path / "search").symlink_to(ROOT / "search")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) > 7
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "partialnas"
        if arguments[0] == "run":
            arguments += BRIEF
        result = run_verb(arguments, tmp_path)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
    for code in blocks("python"):
        run_code(code, tmp_path).check_returncode()
