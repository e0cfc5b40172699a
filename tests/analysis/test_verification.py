import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from partialnas.analysis import effects_figure, load, pareto_figure, ratio_figure, table_artefact
from partialnas.analysis.frames.provenance import (
    Query,
    Stamp,
    StudyId,
    add_stamp,
    read_stamp,
    stamp_metadata,
    table_excerpt,
)
from partialnas.analysis.plotting import style
from partialnas.analysis.verification import verify
from partialnas.space.errors import UserError

DATA = Path(__file__).parent / "data"
LEDGERS = Path(__file__).parents[2] / "analysis" / "notebooks" / "ledgers"
Ablations = Callable[..., Path]
Ledgers = Callable[..., Path]

ACCURACY = {"objectives": {"val_accuracy": "max"}}
VALUES = {
    "base": {0: 90.0, 1: 91.0, 2: 92.0},
    "#1 | two": {0: 90.1, 1: 90.9, 2: 92.0},
    "good": {0: 95.0, 1: 96.2, 2: 97.1},
}
TEXTS = (".tex", ".md", ".csv", ".html")
SOME = [".tex", ".csv", *(pytest.param(s, marks=pytest.mark.slow) for s in (".md", ".html"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, ablations: Ablations) -> Path:
    return ablations(tmp_path_factory.mktemp("v") / "s", VALUES, study=ACCURACY)


@pytest.fixture
def search(tmp_path: Path, ledgers: Ledgers) -> Path:
    records = [
        {"state": "done", "metrics": {"val_nll": 0.5 - 0.1 * i}, "arm": arm,
         "cost": {"params": 10 + i, "macs": 10 + i, "macs_core": 1, "activations": 1}}
        for i, arm in enumerate([None, None, "base"])
    ]  # fmt: skip
    objectives = {"val_nll": "min", "macs": "min"}
    return ledgers(tmp_path / "search", records, study={"objectives": objectives})


@pytest.mark.parametrize("suffix", TEXTS)
def test_exported_table_agrees_with_its_ledger(tmp_path: Path, folder: Path, suffix: str) -> None:
    artefact = table_artefact([folder], margin=0.5, columns=["arm", "n", "metric", "delta"])
    (path,) = artefact.write(tmp_path / f"t{suffix}")
    found = verify(path, [folder])
    assert (found.differences, found.note) == ((), "")
    assert found.numbers > 8
    assert found.stamp.query.arguments["margin"] == 0.5


@pytest.mark.parametrize(
    ("suffix", "number"),
    [(".tex", 2), (".csv", 2), *(pytest.param(s, 60, marks=pytest.mark.slow) for s in TEXTS)],
)
def test_every_changed_digit_is_found(
    tmp_path: Path, folder: Path, suffix: str, number: int
) -> None:
    (path,) = table_artefact([folder]).write(tmp_path / f"t{suffix}")
    text = path.read_text()
    start = text.index("base")
    places = [m.start() for m in re.finditer(r"\d", text) if m.start() > start]
    for at in places[:: max(1, len(places) // number)]:
        changed = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
        path.write_text(changed)
        assert verify(path, [folder]).differences, text[at - 20 : at + 5]


def test_a_difference_names_row_column_and_both_values(tmp_path: Path, folder: Path) -> None:
    (path,) = table_artefact([folder]).write(tmp_path / "t.tex")
    path.write_text(path.read_text().replace(r"91.00 \pm", r"91.50 \pm", 1))
    (found,) = verify(path, [folder]).differences
    assert (found.row, found.column) == ("base", r"Validation accuracy (\%)")
    assert str(found).endswith(r"$91.50 \pm 1.00$ in the file, $91.00 \pm 1.00$ in the ledger")


def test_a_difference_in_the_second_table_of_a_file_names_its_row_and_column(
    tmp_path: Path,
) -> None:
    study = LEDGERS / "ingredients"
    effects_figure(study, tmp_path / "e.svg")
    path = tmp_path / "e.md"
    lines = path.read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("| Term "))
    heads, cells = lines[at].split("|"), lines[at + 2].split("|")
    place = [head.strip() for head in heads].index("F")
    cells[place] = " 99.99 "
    path.write_text("\n".join([*lines[: at + 2], "|".join(cells), *lines[at + 3 :]]))
    (difference,) = verify(path, study).differences
    assert difference.column == "F"
    term = cells[1].strip()
    assert difference.row in (term, f"1 ({term}) of table 2")


@pytest.mark.parametrize("suffix", SOME)
def test_missing_rows_and_changed_words_are_found(
    tmp_path: Path, folder: Path, suffix: str
) -> None:
    (path,) = table_artefact([folder]).write(tmp_path / f"t{suffix}")
    text = path.read_text()
    path.write_text("".join(line for line in text.splitlines(True) if "good" not in line))
    assert any("good" in str(each) for each in verify(path, [folder]).differences)
    if suffix != ".csv":
        path.write_text(text.replace("none failed", "all failed"))
        (found,) = verify(path, [folder]).differences
        assert "none failed" in found.ledger
        assert "all failed" in found.file


def test_line_breaks_and_spaces_do_not_count(tmp_path: Path, folder: Path) -> None:
    (path,) = table_artefact([folder]).write(tmp_path / "t.md")
    path.write_text(re.sub(" +", " ", path.read_text()), newline="\r\n")
    found = verify(path, [folder])
    assert not found.differences
    assert "Spaces or line breaks differ" in found.note


@pytest.mark.parametrize(
    "suffix", ["svg", *(pytest.param(s, marks=pytest.mark.slow) for s in ("pdf", "png"))]
)
def test_figure_table_and_caption_agree_with_the_ledger(
    tmp_path: Path, folder: Path, search: Path, suffix: str
) -> None:
    drawn = (
        (folder, effects_figure(folder, tmp_path / f"e.{suffix}", margin=0.1).files),
        (search, pareto_figure(load(search), tmp_path / f"p.{suffix}", x="macs").files),
    )
    for study, files in drawn:
        assert_verified(study, files)


def assert_verified(study: Path, files: Sequence[Path]) -> None:
    for path in files:
        found = verify(path, [study])
        assert (found.differences, found.note) == ((), ""), path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_figure_of_learned_ratios_agrees_with_its_ledger(
    tmp_path: Path, learned: Callable[..., Any], ledgers: Ledgers, suffix: str
) -> None:
    study = ledgers(tmp_path / "r", learned(), study={"recipe": {"epochs": 10}})
    for trial in (None, 2):
        path = tmp_path / f"{trial}.{suffix}"
        assert_verified(study, ratio_figure(study, path, trial=trial).files)


def test_table_beside_a_figure_is_plain_csv_and_is_verified(tmp_path: Path, search: Path) -> None:
    path = pareto_figure(load(search), tmp_path / "p.svg", x="macs").files[1]
    table = pd.read_csv(path, comment="#")
    assert table["label"].tolist() == ["#1", "#2", "base"]
    elsewhere = search.parent / "." / search.name  # another path of the same folder
    assert not verify(path, [elsewhere]).differences
    path.write_text(path.read_text().replace(",0.4,", ",0.41,"))
    found = verify(path, [search]).differences
    assert {each.row for each in found} == {"#2"}
    assert {each.column for each in found} >= {"val_nll"}


def test_timing_settings_of_a_plain_frame_are_part_of_the_query(
    tmp_path: Path, ledgers: Ledgers, measure: Callable[..., Any]
) -> None:
    records = [{"state": "done", "metrics": {"val_nll": 0.5 - 0.1 * i}} for i in range(2)]
    timed = [
        measure(f"{i:016x}", 1.0 + i, speed, batch_size=batch)
        for i in range(2)
        for batch, speed in ((32, 3000.0), (1, 100.0))
    ]
    folder = ledgers(tmp_path / "s", records, timed)
    assert load(folder)["throughput_img_s"].iloc[0] == pytest.approx(3000)
    files = pareto_figure(load(folder, timing="batch_size=1"), tmp_path / "f.svg").files
    speeds = pd.read_csv(files[1], comment="#").set_index("label")["throughput_img_s"]
    assert speeds["#1"] == pytest.approx(100)
    assert_verified(folder, files[1:])


@pytest.mark.parametrize(
    "suffix", ["pdf", *(pytest.param(s, marks=pytest.mark.slow) for s in ("svg", "png"))]
)
def test_numbers_of_a_figure_are_compared_with_a_later_ledger(
    tmp_path: Path, ablations: Ablations, suffix: str
) -> None:
    path = effects_figure(
        ablations(tmp_path / "a", VALUES, study=ACCURACY), tmp_path / f"e.{suffix}"
    ).files[0]
    later = {**VALUES, "good": {0: 95.0, 1: 96.2, 2: 97.0}}
    found = verify(path, [ablations(tmp_path / "b", later, study=ACCURACY)]).differences
    assert {(each.row.split()[-1], each.column) for each in found} >= {("(good)", "value")}
    assert any(each.file == "5.1" and each.ledger.startswith("5.0") for each in found)


def test_changed_drawing_is_found(tmp_path: Path, folder: Path) -> None:
    path = effects_figure(folder, tmp_path / "e.svg").files[0]
    text = path.read_text()
    path.write_text(text.replace("#0072b2", "#0072b3"))
    (found,) = verify(path, [folder]).differences
    assert "the drawing: changed after it was written" in str(found)
    image = effects_figure(folder, tmp_path / "e.png").files[0]
    with Image.open(image) as opened:
        metadata = PngImagePlugin.PngInfo()
        metadata.add_text("Description", opened.info["Description"])
        opened.rotate(90).save(image, pnginfo=metadata)
    assert len(verify(image, [folder]).differences) == 1


def test_drawing_with_other_settings_is_a_note_and_no_difference(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = style._settings
    monkeypatch.setattr(style, "_settings", lambda look: usual(look) | {"axes.linewidth": 2})
    path = effects_figure(folder, tmp_path / "e.pdf").files[0]
    monkeypatch.undo()
    found = verify(path, [folder])
    assert not found.differences
    assert "other fonts, or other versions" in found.note


def test_stamps_are_in_standard_metadata_fields(tmp_path: Path, folder: Path) -> None:
    pdf = effects_figure(folder, tmp_path / "e.pdf").files[0].read_bytes()
    assert b"/Keywords (partialnas {" in pdf
    with Image.open(effects_figure(folder, tmp_path / "e.png").files[0]) as image:
        image.load()  # raises if a checksum is wrong
        assert image.info["Description"].startswith('partialnas {"partialnas":3')
    assert mpl.rcParams["pdf.fonttype"] == 3  # the settings are restored


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"arm,n\nbase,3\n", "carries no stamp"),
        (b"\x00\xff\xfe", "carries no stamp"),
        (b'% partialnas {"partialnas":1,"studies":', "its stamp is damaged"),
        (b'% partialnas {"partialnas":2}', "its stamp is damaged"),
        (b'% partialnas {"partialnas":4,"studies":[]}', "its stamp is damaged"),
    ],
)
def test_file_without_a_valid_stamp_is_an_error(
    tmp_path: Path, folder: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "t.tex"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        verify(path, [folder])


def test_other_studies_and_unreadable_files_are_errors(
    tmp_path: Path, folder: Path, search: Path
) -> None:
    (path,) = table_artefact([folder]).write(tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"was made from study parts .* study quickstart"):
        verify(path, [search])
    with pytest.raises(UserError, match="no ledger here"):
        verify(path, [tmp_path / "nowhere"])
    for absent in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            verify(absent, [folder])


def test_two_studies_are_verified_in_any_order(tmp_path: Path, ablations: Ablations) -> None:
    folders = [
        ablations(tmp_path / name, VALUES, study={**ACCURACY, "study": name}) for name in "ab"
    ]
    (path,) = table_artefact(folders).write(tmp_path / "t.md")
    assert not verify(path, folders[::-1]).differences
    with pytest.raises(UserError, match=r"was made from study a .* and study b"):
        verify(path, folders[:1])


OLD_FILES = {
    "partitions-table.csv": ("partitions", ",0.5036505534,", ",0.5036505535,"),
    "partitions-table.tex": ("partitions", r"$0.5037 \pm", r"$0.5038 \pm"),
    "partitions-effects.svg": ("partitions", "#0072b2", "#0072b3"),
    "quickstart-pareto.md": ("quickstart", "14,388", "14,389"),
    "ratios.csv": ("static-vs-dynamic", ",True,", ",False,"),
    "table.html": ("static-vs-dynamic", None, None),
    "form-2-table.tex": ("partitions", r"$0.5037 \pm", r"$0.5038 \pm"),
    "form-2-effects.md": ("partitions", "0.5037 ±", "0.5038 ±"),
}
"""Files that older versions wrote, of form 1 unless named: the study, a number, and another one."""


@pytest.mark.parametrize("name", OLD_FILES)
def test_numbers_of_files_from_an_older_version_are_compared(tmp_path: Path, name: str) -> None:
    study, number, other = OLD_FILES[name]
    folder = LEDGERS / study
    verdict = verify(DATA / name, [folder])
    assert verdict.stamp.form == (2 if name.startswith("form-2") else 1)
    assert not verdict.differences
    assert verdict.numbers > 20
    assert "words were not" in verdict.note
    if number is not None:
        text = (DATA / name).read_text()
        assert number in text
        (tmp_path / name).write_text(text.replace(number, other, 1))
        assert len(verify(tmp_path / name, [folder]).differences) == 1


def test_words_of_files_from_an_older_version_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    text = (DATA / "quickstart-pareto.md").read_text()
    path.write_text(text.replace("Validation NLL", "NLL").replace("Front:", "A front:"))
    assert not verify(path, [LEDGERS / "quickstart"]).differences
    path.write_text(text.replace("| #15 ", "| #16 "))
    assert verify(path, [LEDGERS / "quickstart"]).differences


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3), st.text())
@settings(max_examples=50)
def test_any_query_round_trips_through_every_comment_style(
    tmp_path_factory: pytest.TempPathFactory, arguments: dict[str, str], text: str
) -> None:
    query = Query(verb="table", arguments=arguments)
    for suffix in TEXTS:
        stamp = Stamp(studies=[StudyId("s", "d" * 16)], query=query, format=suffix)
        path = tmp_path_factory.getbasetemp() / f"any{suffix}"
        body = f"<!doctype html>\n{text}" if suffix == ".html" else text
        path.write_bytes(add_stamp(body, stamp).encode("utf-8", "surrogatepass"))
        assert read_stamp(path)[0] == stamp
        assert "-->" not in stamp.line()
        assert stamp.line().isascii()


def test_stamps_hold_the_first_rows_and_a_digest_of_all() -> None:
    table = pd.DataFrame({"a": range(1000), "b": 1 / 3})
    excerpt = table_excerpt(table)
    assert (len(excerpt["rows"]), excerpt["count"]) == (500, 1000)
    assert excerpt["rows"][3] == [3, 0.3333333333]
    table.loc[999, "b"] = 0.0
    assert table_excerpt(table)["rows"] == excerpt["rows"]
    assert table_excerpt(table)["digest"] != excerpt["digest"]
    stamp = Stamp(studies=[], query=Query(verb="x", arguments={}), format=".pdf", shown=excerpt)
    assert [*stamp_metadata(stamp)] == ["Keywords"]
