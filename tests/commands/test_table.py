"""The verbs `table`, `effects` and `verify`: files, output and error messages."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from command_line import run_cli

from partialnas.runs.config.design import Design, DesignArm, Factor
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.records.record import Record

COST = ("params", "macs", "macs_core", "activations")
NAMES = ("base", "parts=3", "parts=4")


def ledger_of(folder: Path, name: str, kind: str = "one-factor", seeds: int = 3) -> Path:
    levels = [{"parts": str(2 + i % 2), "ratio": str(i // 2)} for i in range(4)]
    names = NAMES if kind == "one-factor" else [" ".join(of.values()) for of in levels]
    arms = [
        DesignArm(name=n, levels=of, against=None if n == names[0] else names[0])
        for n, of in zip(names, levels, strict=False)
    ]
    factors = tuple(
        Factor(name=n, levels=of, baseline=of[0])
        for n, of in (("parts", ("2", "3")), ("ratio", ("0", "1")))
    )
    design = Design.model_validate({"kind": kind, "arms": arms, "factors": factors})
    frozen = {"search": None, "arms": {}, "objectives": {"val_nll": "min"}, "seeds": seeds}
    settings = {"recipe": {"epochs": 1}, "task": {"data": "digits"}}
    meta = {"study": name, "frozen": json.dumps(frozen | settings)}
    with Ledger.create(folder, meta | {"design": design.model_dump_json()}) as ledger:
        for index, arm in enumerate(names):
            digest = f"{index:016x}"
            proposal = ledger.add_proposal(arm, digest, {}, {})
            keys = {seed: f"{index:08x}{seed:08x}" for seed in range(seeds)}
            ledger.plan(proposal, digest=digest, name=arm, fidelity=1, keys=keys)
            for seed, key in keys.items():
                ledger.start(key)
                metrics = {"val_nll": 0.5 - 0.1 * index + 0.01 * (seed * (index + 1) % 3)}
                ledger.finish(_record(key, digest, arm, seed, metrics))
    return folder


def _record(key: str, digest: str, arm: str, seed: int, metrics: dict[str, float]) -> Record:
    return Record(
        key=key, digest=digest, name=arm, seed=seed, fidelity=1, state="done", reason=None,
        metrics=metrics, curve=(), cost=dict.fromkeys(COST, 1000), seconds=1.0, device="cpu",
        environment={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ledger_of(tmp_path_factory.mktemp("table") / "study", "parts")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ledger_of(tmp_path_factory.mktemp("grid") / "study", "grid", "factorial")


def test_table_is_printed_as_markdown_or_in_the_requested_format(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("table", folder) == 0
    output = capsys.readouterr().out
    assert output.startswith("<!-- partialnas {")
    assert "| parts=4 | " in output
    assert run_cli("table", folder, "--format", "csv") == 0
    read = pd.read_csv(io.StringIO(capsys.readouterr().out), comment="#")
    assert read["arm"].tolist() == [*NAMES]


@pytest.mark.parametrize(
    "suffix", ["tex", *(pytest.param(s, marks=pytest.mark.slow) for s in ("md", "csv", "html"))]
)
def test_a_written_table_is_verified_until_a_digit_is_changed(
    folder: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"t.{suffix}"
    assert run_cli("table", folder, "-o", path, "--margin", 0.02, "--columns", "arm, n,metric") == 0
    assert f"wrote {path}" in capsys.readouterr().out
    assert run_cli("verify", path, "--against", folder) == 0
    output = capsys.readouterr().out
    assert "numbers agree with the ledger (table columns=" in output
    path.write_text(path.read_text().replace("0.41", "0.42", 1))
    assert run_cli("verify", path, "--against", folder) == 1
    output = capsys.readouterr().out
    assert "1 difference (" in output
    assert "row parts=3" in output
    assert "in the file" in output


def test_effects_are_drawn_printed_and_verified(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "e.svg"
    assert run_cli("effects", folder, "-o", figure, "--against", "parts=3") == 0
    output = capsys.readouterr().out
    assert "parts=4" in output
    assert "Dunnett" in output
    for name in ("e.svg", "e.csv", "e.md"):
        assert f"wrote {tmp_path / name}" in output
        assert run_cli("verify", tmp_path / name, "--against", folder) == 0
    assert "against=parts=3" in capsys.readouterr().out
    figure.write_text(figure.read_text().replace("#0072b2", "#0072b3"))
    assert run_cli("verify", figure, "--against", folder) == 1
    assert "the drawing: changed after it was written" in capsys.readouterr().out


def test_a_factorial_study_prints_main_effects_and_draws_interactions(
    grid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("effects", grid, "--kind", "interaction", "--factors", "ratio,parts") == 0
    output = capsys.readouterr().out
    assert "main effects and two-factor interactions" in output
    assert "parts × ratio" in output
    assert (grid / "interaction.pdf").exists()
    assert run_cli("verify", grid / "interaction.md", "--against", grid) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["table", "DIR", "--format", "word"],
            "'word' is not one of 'latex', 'markdown', 'csv', 'html'",
        ),
        (
            ["table", "DIR", "-o", "t.docx"],
            "t.docx: the file of a table ends in .tex, .md, .csv, .html",
        ),
        (["table", "DIR", "--columns", "speed"], "unknown columns: speed: choose arm"),
        (["table", "DIR", "--metric", "val_nl"], "did you mean val_nll"),
        (["table", "DIR", "--against", "nobody"], "unknown arm 'nobody'; choose base, parts=3"),
        (["table", "nowhere"], "no ledger here"),
        (
            ["effects", "DIR", "--kind", "pie"],
            "'pie' is not one of 'effect', 'interaction', 'ladder'",
        ),
        (["effects", "DIR", "--kind", "ladder"], "not a ladder"),
        (
            ["effects", "DIR", "-o", "e.docx"],
            "e.docx: unknown figure format; use a name that ends in",
        ),
        (["effects", "nowhere"], "no ledger here"),
        (["verify", "nowhere.tex", "--against", "DIR"], "nowhere.tex: cannot be read"),
        (["verify", __file__, "--against", "DIR"], "carries no stamp"),
        (["verify", "t.tex"], "Missing option"),
    ],
)
def test_a_user_error_is_one_message_and_exit_code_2(
    folder: Path, arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(*(str(folder) if word == "DIR" else word for word in arguments)) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error


def test_the_ledger_of_another_study_is_rejected(
    folder: Path, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("table", folder, "-o", tmp_path / "t.md") == 0
    assert run_cli("verify", tmp_path / "t.md", "--against", grid) == 2
    assert "was made from study parts" in capsys.readouterr().err


def test_a_front_and_its_table_are_verified(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("pareto", folder, "-x", "seconds", "-o", tmp_path / "f.png") == 0
    for name in ("f.png", "f.csv", "f.md"):
        assert run_cli("verify", tmp_path / name, "--against", folder) == 0
    assert "(pareto style=cvpr x=seconds)" in capsys.readouterr().out


def test_help_of_each_verb_is_a_page_and_takes_no_heavy_import() -> None:
    for verb in ("table", "effects", "verify"):
        code = (
            "import sys\nfrom partialnas.cli import main\n"
            f"try: main(['{verb}', '--help'])\n"
            "finally: print(*({'torch', 'ray', 'pandas', 'scipy'} & sys.modules.keys()), "
            "file=sys.stderr)"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"COLUMNS": "100"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0
        assert ended.stderr.strip() == ""
        assert len(ended.stdout.splitlines()) > 20
        assert f"partialnas {verb} " in ended.stdout
