import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from partialnas.analysis import effects, table_artefact
from partialnas.analysis.ablation.table import format_p_value, format_signed, full_table
from partialnas.runs.config.design import CostMatch, Design, DesignArm, Factor
from partialnas.space.errors import UserError

Ablations = Callable[..., Path]

ACCURACY = {"objectives": {"val_accuracy": "max"}}
VALUES: dict[str, dict[int, float | None]] = {
    "base & co": {0: 90.0, 1: 91.0, 2: 92.0},
    "50%_a": {0: 90.1, 1: None, 2: 92.01},
    "#3 [x]*": {0: 95.0, 1: 96.2, 2: 97.1},
    "lost": {0: None, 1: None, 2: None},
}


@pytest.fixture
def folder(tmp_path: Path, ablations: Ablations) -> Path:
    return ablations(tmp_path / "s", VALUES, study=ACCURACY)


def lines(folder: Path, **arguments: object) -> list[str]:
    text = table_artefact([folder], **arguments).texts[".md"]  # type: ignore[arg-type]
    return [line for line in text.splitlines() if line.startswith("|")]


def test_markdown_has_a_row_per_arm_with_marks_and_intervals(folder: Path) -> None:
    head, _, base, percent, best, lost = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines(folder)
    )
    assert head[:3] == ["Arm", "n", "Validation accuracy (%)"]
    assert base[:4] == ["base & co", "3", "91.00 ± 1.00", ""]
    assert percent[:2] == ["50%\\_a", "2 (1 failed)"]
    assert percent[3].startswith(f"{_adjusted():+.2f} [")
    assert best[2] == "**96.10** ± 1.05"
    assert best[3].startswith("+5.10 [+4.")
    assert lost[:3] == ["lost", "0 (3 failed)", "failed"]
    assert set(lost[3:6]) == {""}


def _adjusted() -> float:
    """Return the difference of the arm without one seed, from a least-squares fit."""
    cells = [
        (row, seed, value)
        for row, of in enumerate([*VALUES.values()][:3])
        for seed, value in of.items()
        if value is not None
    ]
    columns = [[1, r == 1, r == 2, s == 1, s == 2] for r, s, _ in cells]
    fitted = np.linalg.lstsq(np.array(columns, float), [v for *_, v in cells], rcond=None)
    return float(fitted[0][1])


def test_the_csv_has_all_statistics_and_the_value_of_every_seed(folder: Path) -> None:
    text = table_artefact([folder]).content(".csv").decode()
    table = pd.read_csv(io.StringIO(text), comment="#").set_index("arm")
    assert table.loc["#3 [x]*", ["seed.0", "seed.1", "seed.2"]].tolist() == [95.0, 96.2, 97.1]
    assert table["n"].tolist() == [3, 2, 3, 0]
    assert table["failed"].tolist() == [0, 1, 0, 3]
    assert table["macs"].dtype == "int64"
    assert table.loc["#3 [x]*", "difference"] == pytest.approx(5.1)
    assert table["best"].tolist() == [False, False, True, False]
    with_nothing_lost = full_table(effects(folder))
    assert with_nothing_lost["val_accuracy"].tolist()[0] == 91.0


def test_selected_columns_keep_their_order(folder: Path) -> None:
    head = lines(folder, columns=["macs", "metric", "arm"])[0]
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "MACs (M)", "Validation accuracy (%)", "Arm",
    ]  # fmt: skip
    with pytest.raises(UserError, match="unknown columns: speed: choose arm, levels, n"):
        table_artefact([folder], columns=["speed"])


def test_rows_of_a_factorial_design_are_named_by_levels(
    tmp_path: Path, ablations: Ablations
) -> None:
    factors = tuple(Factor(name=n, levels=("0", "1"), baseline="0") for n in ("a", "b"))
    names = ["00", "01", "10", "11"]
    off = CostMatch(
        quantity="macs", target=1.0, before=2.0, reached=1.5, width=((8,), (8,)),
        mlp_ratio=("2", "2"), problem="no width fits",
    )  # fmt: skip
    arms = tuple(
        DesignArm(
            name=n, levels={"a": n[0], "b": n[1]}, against=None if n == "00" else "00",
            matched=off if n == "11" else None,
        )
        for n in names
    )  # fmt: skip
    design = Design(kind="factorial", factors=factors, arms=arms, match="macs")
    values = {n: {0: float(i), 1: i + 1.1} for i, n in enumerate(names)}
    shown = lines(ablations(tmp_path / "s", values, design, study=ACCURACY))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown]
    assert [row[:2] for row in cells[2:]] == [["0", "0"], ["0", "1"], ["1", "0"], ["1 †", "1"]]


def test_a_search_gives_a_table_of_its_front(tmp_path: Path, ledgers: Callable[..., Path]) -> None:
    records = [
        {"state": "done", "digest": d * 16, "seed": seed, "metrics": {"val_nll": nll + seed / 10},
         "cost": {"params": p, "macs": p, "macs_core": p, "activations": p}}
        for d, nll, p in (("a", 0.5, 10), ("b", 0.3, 20), ("c", 0.9, 30))
        for seed in (0, 1)
    ]  # fmt: skip
    objectives = {"val_nll": "min", "macs": "min"}
    folder = ledgers(tmp_path / "s", records, study={"objectives": objectives})
    shown = lines(folder)
    assert [line.split("|")[1].strip() for line in shown[2:]] == ["#1", "#3"]
    assert "0.5500 ± 0.0707" in shown[2]
    caption = table_artefact([folder]).content(".md").decode()
    assert "Each row is a mean over 2 seeds. ±: one standard deviation (n − 1)" in caption
    assert "bars" not in caption
    assert "Δ" not in shown[0]
    with pytest.raises(UserError, match="a search has no arms to compare"):
        table_artefact([folder], against="a")
    with pytest.raises(UserError, match="the front of a search has no delta"):
        table_artefact([folder], columns=["delta"])
    best = ledgers(tmp_path / "best", records, study={"objectives": {"val_nll": "min"}})
    assert [line.split("|")[1].strip() for line in lines(best)[2:]] == ["#3"]


def test_the_same_ledger_gives_the_same_bytes(folder: Path) -> None:
    one, other = (table_artefact([folder]) for _ in range(2))
    for suffix in (".md", ".tex", ".csv", ".html"):
        assert one.content(suffix) == other.content(suffix)


@pytest.mark.parametrize(
    ("value", "text"), [(0.004, "+0.00"), (-0.004, "+0.00"), (-1.5, "−1.50"), (float("nan"), "")]
)
def test_signs_are_true_minuses_and_zero_is_positive(value: float, text: str) -> None:
    assert format_signed(value, ".2f") == text


def test_small_p_values_are_bounded() -> None:
    assert [format_p_value(p) for p in (0.0, 0.00099, 0.001, 0.25, float("nan"))] == [
        "<0.001", "<0.001", "0.001", "0.250", "",
    ]  # fmt: skip
