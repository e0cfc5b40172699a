"""Looks of figures: fonts, style files of matplotlib, venues, lengths of captions."""

import re
import warnings
from pathlib import Path

import pytest

from partialnas.analysis import effects_figure, verify
from partialnas.analysis.formats.caption import Caption, CaptionLength
from partialnas.analysis.formats.look import find_look, read_style_file
from partialnas.analysis.frames.provenance import Query
from partialnas.analysis.plotting.style import WIDTHS
from partialnas.analysis.registry import build_artefact
from partialnas.space.errors import UserError

PARTITIONS = Path(__file__).parents[3] / "analysis" / "notebooks" / "ledgers" / "partitions"
STYLE = """
# of a laboratory
font.size: 7
figure.figsize: 4, 3
axes.prop_cycle: cycler('color', ['aa0011', '00bb22'])
text.usetex: True
savefig.bbox: tight
"""


def drawn(path: Path, **look: str) -> bytes:
    effects_figure(PARTITIONS, path, **look)
    return path.read_bytes()


def test_a_style_file_is_honored_and_its_settings_travel_with_the_figure(tmp_path: Path) -> None:
    style = tmp_path / "lab.mplstyle"
    style.write_text(STYLE, encoding="utf-8")
    content = drawn(tmp_path / "f.svg", style=str(style)).decode()
    assert "#aa0011" in content
    assert "#0072b2" not in content
    assert 'width="288pt"' in content  # 4 inches: the file's bounding box is not tight
    style.unlink()
    verdict = verify(tmp_path / "f.svg", [PARTITIONS])
    assert (verdict.differences, verdict.note) == ((), "")
    wide = find_look(style="ieee", width="page").arguments()
    assert wide == {"style": "ieee", "width": "page"}


def test_a_venue_and_a_style_file_are_combined(tmp_path: Path) -> None:
    style = tmp_path / "lab.mplstyle"
    style.write_text("lines.linewidth: 3\n", encoding="utf-8")
    look = find_look(f"neurips,{style}")
    assert (look.style, dict(look.settings)) == ("neurips", {"lines.linewidth": 3.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("font.sise: 7", r"line 1: matplotlib has no setting 'font.sise'; did you mean font.size"),
        ("\nfont.size 7", "line 2: matplotlib has no setting 'font.size 7'; expected KEY: VALUE"),
        ("font.size: large", "no valid style file of matplotlib: .*font.size"),
        ("\udcff", "no valid style file of matplotlib"),
    ],
)
def test_invalid_style_files_are_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.mplstyle"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message):
        read_style_file(path)
    with pytest.raises(UserError, match="unknown style 'cvrp'; did you mean cvpr"):
        find_look("cvrp")
    with pytest.raises(UserError, match="cannot be read"):
        find_look(str(tmp_path / "absent.mplstyle"))


def test_fonts_are_embedded_as_true_type(tmp_path: Path) -> None:
    sans, serif = (drawn(tmp_path / f"{font}.pdf", font=font) for font in ("sans", "serif"))
    assert b"DejaVuSans" in sans
    assert b"STIXGeneral" in serif
    assert b"DejaVuSans" not in serif
    for content in (sans, serif):
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
    assert sans == drawn(tmp_path / "again.pdf", font="sans")


def test_a_font_that_is_not_installed_is_replaced_with_a_word(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"font No Such Font is not installed; DejaVu Sans is use"):
        content = drawn(tmp_path / "f.pdf", font="No Such Font")
    assert b"DejaVuSans" in content
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(tmp_path / "g.pdf", font="STIXGeneral")


def test_widths_are_those_of_the_templates() -> None:
    points = {
        "cvpr": {"column": 237.13, "page": 496.85},  # \columnwidth and \textwidth in TeX points
        "ieee": {"column": 252.0, "page": 516.0},
        "eccv": {"page": 347.12},
        "neurips": {"page": 397.48},
    }
    for style, widths in points.items():
        for width, expected in widths.items():
            inches = WIDTHS[style][width].width  # type: ignore[index]
            assert inches * 72.27 == pytest.approx(expected, abs=2.5)
            assert inches * 72.27 <= expected + 0.3 or style in ("ieee", "cvpr")


def test_lengths_of_captions() -> None:
    caption = Caption(["A.", ""], ["B."]).plus("M.")
    lengths: tuple[CaptionLength, ...] = ("full", "short", "none")
    assert [*map(caption.text, lengths)] == ["A. M. B.", "A. M.", ""]
    with pytest.raises(UserError, match="unknown caption 'long'; "):
        find_look(caption="long")


REQUESTS: list[tuple[str, str, dict[str, object]]] = [
    ("pareto", "quickstart", {}),
    ("table", "partitions", {}),
    ("effects", "partitions", {}),
    ("figure", "quickstart", {"kind": "curves"}),
    ("ratios", "static-vs-dynamic", {}),
    ("audit", "quickstart", {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "study", "arguments"), REQUESTS)
def test_every_verb_has_captions_in_every_length(
    tmp_path: Path, verb: str, study: str, arguments: dict[str, object]
) -> None:
    folder, texts = PARTITIONS.parent / study, {}
    for length in ("full", "short", "none"):
        query = Query(verb=verb, arguments={**arguments, "caption": length})
        artefact = build_artefact([folder], query)
        (path,) = artefact.write(tmp_path / f"{length}.md")
        texts[length] = re.sub(r"^(<!--|\|).*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
        assert not verify(path, [folder]).differences
    full, short, none = (len(text.split()) for text in texts.values())
    assert none <= 10 < short < 0.9 * full
    assert "Compute:" in texts["full"]
    assert "Compute:" not in texts["short"]
