"""Tables of studies in LaTeX: they compile in the layouts of conferences, with distinct labels."""

import io
import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from partialnas.analysis import table_artefact, verify
from partialnas.cli import main
from partialnas.runs.config.design import Design, DesignArm, Factor
from partialnas.space.errors import UserError

Ablations = Callable[..., Path]

LEDGERS = Path(__file__).parents[3] / "analysis" / "notebooks" / "ledgers"
BOTH = ["val_nll", "val_accuracy"]
LAYOUTS = {
    "cvpr": r"\documentclass[10pt,twocolumn]{article}"
    r"\setlength\textwidth{6.875in}\setlength\columnsep{0.3125in}",
    "neurips": r"\documentclass[10pt]{article}\setlength\textwidth{5.5in}",
}
TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "ablation": ("partitions", {}),
    "short": ("partitions", {"caption": "short", "against": "none"}),
    "two metrics": ("partitions", {"metric": BOTH}),
    "two metrics, columns": ("partitions", {"metric": BOTH, "columns": ["arm", "metric", "delta"]}),
    "margin": ("partitions", {"margin": 0.1}),
    "arms": ("static-vs-dynamic", {}),
    "search": ("quickstart", {}),
    "search with a metric": ("quickstart", {"metric": ["val_accuracy"]}),
}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_kinds_of_tables_compile_with_booktabs_alone(
    tmp_path: Path, ablations: Ablations, layout: str
) -> None:
    names = []
    grid = _grid(ablations, tmp_path / "grid")
    tables = {name: (LEDGERS / study, of) for name, (study, of) in TABLES.items()}
    for index, (folder, arguments) in enumerate([*tables.values(), (grid, {})]):
        names.append(f"t{index}")
        table_artefact([folder], **arguments).write(tmp_path / f"t{index}.tex")
    table_artefact([grid], caption="none").write(tmp_path / "bare.tex")
    inputs = "".join(rf"\input{{{name}}}" for name in names)
    own = r"\begin{table}\caption{Mine}\label{tab:mine}\small\input{bare}\end{table}"
    document = (
        rf"{LAYOUTS[layout]}\usepackage{{booktabs}}\begin{{document}}{inputs}{own}"
        r"See \ref{tab:mine}.\end{document}"
    )
    (tmp_path / "d.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "d.tex"]
    for _ in range(2):  # the second run resolves labels
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert ended.returncode == 0, ended.stdout[-2000:]
    log = (tmp_path / "d.log").read_text("latin-1")
    assert "multiply defined" not in log
    assert "undefined" not in log.lower()


def _grid(ablations: Ablations, folder: Path) -> Path:
    factors = (
        Factor(name="attention & more", levels=("none", "channel"), baseline="none"),
        Factor(name="ratio", levels=("1/8", "1/4"), baseline="1/8"),
    )
    cells = [*itertools.product(*(factor.levels for factor in factors))]
    names = [" ".join(cell) for cell in cells]
    arms = tuple(
        DesignArm(
            name=name,
            levels=dict(zip([factor.name for factor in factors], cell, strict=True)),
            against=None if name == names[0] else names[0],
        )
        for name, cell in zip(names, cells, strict=True)
    )
    design = Design(kind="factorial", factors=factors, arms=arms)
    values = {name: {0: 90.0 + i, 1: 90.4 + 2 * i} for i, name in enumerate(names)}
    study = {"study": "a grid", "objectives": {"val_accuracy": "max"}}
    return ablations(folder, values, design, study=study)


def _options(printed: str) -> list[str]:
    command = printed.partition("A narrower table:")[2]
    return shlex.split(command)[1:]


def test_a_wide_table_is_announced_with_a_command_for_a_narrower_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ablations: Ablations
) -> None:
    grid, output = _grid(ablations, tmp_path / "a grid"), str(tmp_path / "t.tex")
    for options in (["--against", "none 1/4"], ["--metric", "val_accuracy"]):
        _run(["table", str(grid), "-o", output, *options])
        printed = capsys.readouterr().out
        assert "a page of NeurIPS has 397 pt" in printed
        words = _options(printed)
        assert words[-2:] == ["--caption", "short"]
        assert options == words[words.index(options[0]) :][:2]
        assert {"metric", "delta"} <= {*words[words.index("--columns") + 1].split(",")}
        _run(words)
        assert "397 pt" not in capsys.readouterr().out
        assert not verify(output, [grid]).differences
    both = [word for key in BOTH for word in ("--metric", key)]
    _run(["table", str(LEDGERS / "partitions"), "-o", output, *both])
    assert "Write a table for each --metric" in capsys.readouterr().out
    _run(["table", str(grid), "-o", str(tmp_path / "t.md")])
    assert "397 pt" not in capsys.readouterr().out


def _run(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_a_narrower_table_fits_a_page_of_neurips(tmp_path: Path, ablations: Ablations) -> None:
    grid = _grid(ablations, tmp_path / "grid")
    wide = table_artefact([grid])
    wide.write(tmp_path / "wide.tex")
    table_artefact([grid], columns=wide.narrower).write(tmp_path / "narrow.tex")
    overfull = []
    for name in ("wide", "narrow"):
        text = rf"{LAYOUTS['neurips']}\usepackage{{booktabs}}\begin{{document}}\input{{{name}}}"
        (tmp_path / "d.tex").write_text(rf"{text}\end{{document}}", encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "d.tex"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        overfull.append(b"Overfull" in ended.stdout)
    assert overfull == [True, False]


def test_tables_of_one_study_have_distinct_labels() -> None:
    options: list[dict[str, Any]] = [
        {}, {"metric": "val_accuracy"}, {"metric": BOTH}, {"against": "none"},
        {"columns": ["arm", "metric"]}, {"margin": 0.3},
    ]  # fmt: skip
    folder = LEDGERS / "partitions"
    texts = [table_artefact([folder], **of).content(".tex").decode() for of in options]
    labels = [re.findall(r"\\label\{(tab:[A-Za-z0-9-]+)\}", text) for text in texts]
    assert labels[0] == ["tab:partitions"]
    assert len({label for (label,) in labels}) == len(options)


@pytest.mark.parametrize("suffix", [".tex", ".csv"])
def test_several_metrics_have_a_group_of_columns_each_and_are_verified(
    tmp_path: Path, suffix: str
) -> None:
    folder = LEDGERS / "partitions"
    artefact = table_artefact([folder], metric=BOTH)
    (path,) = artefact.write(tmp_path / f"t{suffix}")
    assert not verify(path, [folder]).differences
    text = path.read_text("utf-8")
    if suffix == ".csv":
        table = pd.read_csv(path, comment="#")
        alone = [table_artefact([folder], metric=key).content(".csv").decode() for key in BOTH]
        for key, other in zip(BOTH, alone, strict=True):
            single = pd.read_csv(io.StringIO(other), comment="#")
            for column, stated in (("low", f"{key}.low"), (key, key), ("seed.0", f"{key}.seed.0")):
                pd.testing.assert_series_equal(table[stated], single[column], check_names=False)
        return
    assert r"\multicolumn{5}{c}{Validation NLL (nats)}" in text
    assert r"\cmidrule(lr)" in text
    assert text.count(r"$\Delta$ [95\%]") == len(BOTH)
    changed = text.replace(r"0.5037 \pm", r"0.5038 \pm")
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    (difference,) = verify(path, [folder]).differences
    assert "Validation NLL (nats) Mean" in str(difference)


def test_a_margin_is_for_one_metric() -> None:
    with pytest.raises(UserError, match="margin: a difference in one quantity"):
        table_artefact([LEDGERS / "partitions"], metric=BOTH, margin=0.1)


def test_captions_explain_only_the_columns_that_are_shown() -> None:
    folder = LEDGERS / "partitions"
    full = table_artefact([folder]).texts[".md"]
    few = table_artefact([folder], columns=["arm", "n", "metric"]).texts[".md"]
    for words in ("Δ:", "Hedges", "with p adjusted", "Throughput:", "Equivalent:", "Dunnett"):
        assert words in full
        assert words not in few
    assert "Bold" not in full  # no arm is best
