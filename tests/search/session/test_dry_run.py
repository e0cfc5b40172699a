"""Dry runs: whole studies in seconds, kept apart from real ones."""

from pathlib import Path

import pytest

from partialnas.analysis import load
from partialnas.runs.ledger.ledger import Ledger
from partialnas.runs.ledger.study_meta import dry_run_name, is_dry_run
from partialnas.search.resolve.resolve import resolve_study
from partialnas.search.resolve.resolved_study import expected_trials
from partialnas.search.session.run_study import rehearse_study, run_study
from partialnas.search.study.study import Study
from partialnas.search.study.study_file import load_study
from partialnas.space.errors import UserError

STUDIES = Path(__file__).parents[3] / "search" / "studies"
FEW = ("quickstart", "ladder", "dpconv-overhead", "static-vs-dynamic")
ALL = sorted(path.stem for path in STUDIES.glob("*.yaml"))
EACH = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in ALL]


@pytest.mark.parametrize("name", EACH)
def test_dry_runs_of_all_shipped_studies_complete(tmp_path: Path, name: str) -> None:
    study = load_study(STUDIES / f"{name}.yaml")
    rehearse_study(study, tmp_path / name, base_dir=STUDIES)
    with Ledger.open(tmp_path / name) as ledger:
        counts, meta = ledger.state_counts(), ledger.meta
    ended = counts["done"] + counts["early"]
    assert ended >= (expected_trials(resolve_study(study, STUDIES)) or 1)
    assert sum(counts.values()) == ended
    assert counts["done"] > 0
    assert (counts["early"] > 0) == bool(study.search and study.search.rungs)
    assert meta["rehearsal"] == "yes"
    frame = load(tmp_path / name)
    assert set(frame["study"]) == {dry_run_name(study.study)}
    if study.trial is None:
        assert frame["throughput_img_s"].notna().all()


def test_the_dry_run_of_a_study_is_reproducible(tmp_path: Path) -> None:
    study = load_study(STUDIES / "ladder.yaml", quick=True)
    runs = []
    for place in ("one", "other"):
        rehearse_study(study, tmp_path / place, base_dir=STUDIES)
        with Ledger.open(tmp_path / place) as ledger:
            runs.append([(row.key, row.metrics, row.cost) for row in ledger.trials()])
    assert runs[0] == runs[1]


def test_simulated_seeds_differ_and_training_improves(tmp_path: Path) -> None:
    study = load_study(STUDIES / "ladder.yaml", quick=True)
    rehearse_study(study, tmp_path, base_dir=STUDIES)
    with Ledger.open(tmp_path) as ledger:
        rows = ledger.trials()
        curves = [ledger.curve(row.key) for row in rows]
    assert len({row.metrics["val_nll"] for row in rows}) == len(rows)
    for curve in curves:
        losses = [point["val_nll"] for point in curve]
        assert losses == sorted(losses, reverse=True)


def test_dry_runs_and_real_studies_refuse_each_others_folders(tmp_path: Path) -> None:
    study = load_study(STUDIES / "quickstart.yaml", quick=True)
    rehearse_study(study, tmp_path / "played", base_dir=STUDIES)
    with pytest.raises(UserError, match="holds a dry run"):
        run_study(study, tmp_path / "played", base_dir=STUDIES)
    with Ledger.create(tmp_path / "real", {"study": study.study}):
        pass
    with pytest.raises(UserError, match="holds a real study"):
        rehearse_study(study, tmp_path / "real", base_dir=STUDIES)


def test_a_real_study_cannot_have_the_name_of_a_dry_run(tmp_path: Path) -> None:
    study = load_study(STUDIES / "quickstart.yaml", overrides=["study=mine-rehearsal"])
    with pytest.raises(UserError, match="reserved for dry runs"):
        run_study(study, tmp_path, base_dir=STUDIES)


@pytest.mark.parametrize("length", [1, 54, 55, 64])
def test_the_name_of_a_dry_run_is_a_valid_study_name(length: int) -> None:
    named = dry_run_name("a" * length)
    assert is_dry_run(named)
    assert len(named) <= 64
    assert Study.model_validate({"study": named, "arms": {"a": {"width": 8}}}).study == named
