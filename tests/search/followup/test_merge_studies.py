"""Ledgers of one study that ran in several places: merged, loaded and continued."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from partialnas.analysis import load
from partialnas.cli import app
from partialnas.runs.ledger.ledger import Ledger
from partialnas.search.followup.merge_studies import merge_studies
from partialnas.search.session.run_study import run_study
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import load_study
from partialnas.space.errors import UserError

HERE = Path(__file__).parents[1]

SEARCH: dict[str, Any] = {
    "study": "joined",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16, 20, 24], "mlp_ratio": [1, 2], "pat_sp": [False, True]}},
    "search": {"sampler": "nsga2", "population": 4, "seed": 0},
    "trial": "simulated:plain",
    "budget": {"trials": 8},
    "executor": {"kind": "in-process"},
}
ARMS: dict[str, Any] = {
    **{key: SEARCH[key] for key in ("task", "base", "trial", "executor")},
    "study": "joined",
    "objectives": {"val_nll": "min"},
    "arms": {"narrow": {"width": 8}, "wide": {"width": 16}},
    "seeds": 2,
}
FACTORS: dict[str, Any] = {
    **{key: ARMS[key] for key in ("study", "task", "base", "trial", "executor", "objectives")},
    "seeds": 1,
    "ablation": {
        "design": "factorial",
        "match": "none",
        "baseline": {"width": 8},
        "factors": {"width": [8, 12]},
    },
}


def run_plain(folder: Path, plain: dict[str, Any], **changes: Any) -> Path:
    run_study(Study.model_validate({**plain, **changes}), folder, base_dir=HERE)
    return folder


def keys(folder: Path) -> set[str]:
    with Ledger.open(folder) as ledger:
        return {row.key for row in ledger.trials() if row.state == "done"}


@pytest.mark.parametrize(
    "sampler",
    [
        "nsga2",
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("quasi-random", "front-evolution")),
    ],
)
def test_searches_with_two_sampler_seeds_are_merged_and_continue(
    tmp_path: Path, sampler: str
) -> None:
    folders = [
        run_plain(
            tmp_path / f"seed{seed}",
            SEARCH,
            search={"sampler": sampler, "population": 4, "seed": seed},
        )
        for seed in (0, 1)
    ]
    both = keys(folders[0]) | keys(folders[1])
    out = tmp_path / "out"
    join = merge_studies(folders, out)
    assert join.remarks == []
    assert keys(out) == both
    assert len(load(out)) == len(both)
    with Ledger.open(out) as ledger:
        before = {row.key: row for row in ledger.trials()}
    grown = load_study(out / "study.yaml", overrides=["budget.trials=18"])
    run_study(grown, out, base_dir=HERE)
    with Ledger.open(out) as ledger:
        after = {row.key: row for row in ledger.trials()}
        assert "merged the trials" in ledger.meta["growth"]
    assert len(after) == 18
    assert before.items() <= after.items()
    assert len({(row.digest, row.seed) for row in after.values()}) == 18


def test_a_merged_ablation_trains_only_missing_arms_and_seeds(tmp_path: Path) -> None:
    more = {"wide": {"width": 16}, "widest": {"width": 32}}
    one = run_plain(tmp_path / "one", ARMS)
    two = run_plain(tmp_path / "two", ARMS, arms=more, seeds=3)
    out = tmp_path / "out"
    merge_studies([one, two], out)
    joined = load_study(out / "study.yaml")
    assert list(joined.arms) == ["narrow", "wide", "widest"]
    assert joined.seeds == 3
    before = keys(out)
    assert before == keys(one) | keys(two)
    run_study(joined, out, base_dir=HERE)
    assert len(keys(out)) == 3 * 3
    with Ledger.open(out) as ledger:
        fresh = {(row.name, row.seed) for row in ledger.trials() if row.key not in before}
        assert len(fresh) == 1
        assert len(ledger.proposals()) == 3


@pytest.mark.parametrize("turned", [False, True])
def test_the_larger_of_two_designs_is_kept(tmp_path: Path, turned: bool) -> None:
    larger = {**FACTORS["ablation"], "factors": {"width": [8, 12, 16]}}
    folders = [
        run_plain(tmp_path / "one", FACTORS),
        run_plain(tmp_path / "two", FACTORS, ablation=larger),
    ]
    merge_studies(folders[::-1] if turned else folders, tmp_path / "out")
    assert keys(tmp_path / "out") == keys(tmp_path / "two")
    joined = load_study(tmp_path / "out" / "study.yaml")
    assert joined.ablation is not None
    assert len(joined.ablation.factors["width"].values) == 3
    with Ledger.open(tmp_path / "out") as ledger, Ledger.open(tmp_path / "two") as two:
        assert ledger.meta["design"] == two.meta["design"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": "other"}, "study: 'joined' -> 'other'"),
        ({"base": {**ARMS["base"], "head_width": 32}}, "base.head_width: 16 -> 32"),
        ({"recipe": {"epochs": 9}}, "recipe.epochs: 4 -> 9"),
        ({"task": {"data": "digits", "resolution": 16}}, "task.resolution: 8 -> 16"),
        ({"arms": {"wide": {"width": 12}}}, "arms.wide"),
        ({"search": SEARCH["search"], "space": SEARCH["space"]}, "search"),
    ],
)
def test_different_studies_are_rejected_with_their_differences(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    one = run_plain(tmp_path / "one", ARMS)
    two = run_plain(tmp_path / "two", ARMS, budget={"trials": 4}, **changes)
    with pytest.raises(UserError, match="have different studies") as error:
        merge_studies([one, two], tmp_path / "out")
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_different_designs_are_rejected_with_their_differences(tmp_path: Path) -> None:
    apart = {**FACTORS["ablation"], "factors": {"width": [8, 16]}}
    one, two = (
        run_plain(tmp_path / "one", FACTORS),
        run_plain(tmp_path / "two", FACTORS, ablation=apart),
    )
    with pytest.raises(UserError, match=r"ablation\.factors\.width"):
        merge_studies([one, two], tmp_path / "out")


def test_the_merge_command_reports_the_result(tmp_path: Path) -> None:
    one, two = run_plain(tmp_path / "one", ARMS), run_plain(tmp_path / "two", ARMS, seeds=3)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["merge", str(one), str(two), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert f"{out}: 6 trials (6 finished), 2 proposals" in result.output


@pytest.mark.parametrize("names", [["one"], ["one", "one"], ["one", "nowhere"]])
def test_invalid_folders_are_rejected(tmp_path: Path, names: list[str]) -> None:
    run_plain(tmp_path / "one", ARMS)
    with pytest.raises(UserError, match=r"at least two|duplicate folder|no ledger here"):
        merge_studies([tmp_path / name for name in names], tmp_path / "out")
