"""The gallery shows every kind of figure, and its figures agree with the shipped ledgers."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from partialnas.analysis import effects, verify
from partialnas.analysis.figures.kinds import FIGURE_KINDS
from partialnas.analysis.stats.multiple_comparisons import detectable

ROOT = Path(__file__).parents[1]


def load_gallery() -> ModuleType:
    """Import the script of the gallery."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    gallery = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = gallery
    spec.loader.exec_module(gallery)
    return gallery


GALLERY = load_gallery()
EXAMPLES: dict[str, str] = {e.file: e.command for part in GALLERY.SECTIONS.values() for e in part}
LEDGERS = {
    file: [word for word in shlex.split(command) if word.startswith("analysis/notebooks/ledgers/")]
    for file, command in EXAMPLES.items()
}


def test_the_page_is_that_of_the_script() -> None:
    assert GALLERY.PAGE.read_text(encoding="utf-8") == GALLERY.page(), "run `make gallery`"


def test_every_kind_of_figure_is_shown_and_every_file_is_one_of_the_page() -> None:
    commands = "\n".join(EXAMPLES.values())
    drawn = set(re.findall(r"^partialnas (\w+)", commands, re.MULTILINE))
    assert drawn == {"pareto", "figure", "effects", "ratios", "audit"}
    assert set(re.findall(r"^partialnas figure (\w+)", commands, re.MULTILINE)) == set(FIGURE_KINDS)
    assert {path.name for path in (ROOT / "docs" / "gallery").iterdir()} == set(EXAMPLES)


@pytest.mark.parametrize(
    "file",
    [
        file if file == "effects.svg" else pytest.param(file, marks=pytest.mark.slow)
        for file, ledgers in LEDGERS.items()
        if ledgers
    ],
)
def test_a_figure_agrees_with_its_ledger(file: str) -> None:
    verdict = verify(ROOT / "docs" / "gallery" / file, [ROOT / name for name in LEDGERS[file]])
    assert verdict.differences == ()
    assert verdict.numbers > 0


def test_the_first_figure_of_the_readme_is_of_the_gallery() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", readme)
    assert images == ["docs/gallery/effects.svg"]
    assert "effects.svg" in LEDGERS


def test_the_readme_states_what_the_study_of_its_figure_shows() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    table = effects(ROOT / "analysis/notebooks/ledgers/placement").table.set_index("arm")
    assert table["n"].eq(10).all()
    spatial = table[table.index.str.startswith("PAT_sp")]
    least, most = -spatial["difference"].max(), -spatial["difference"].min()
    assert f"in all four placements, by {least:.3f} to {most:.3f} nats" in readme
    assert spatial["high"].max() < 0
    others = table.drop(spatial.index).drop("baseline")
    assert len(others) == 6
    assert (others["low"] * others["high"]).max() < 0
    assert others["equivalence"].eq("equivalent").all()
    deviation = (table["difference"] / table["effect"]).median()  # with Hedges' correction: 0.99
    power = detectable(1.0, pairs=10, arms=11, seeds=10)
    assert f"{power:.1f} standard deviations between seeds ({power * deviation:.3f} nats)" in readme
