"""`partialnas.run`, `partialnas.check` and `partialnas.load`: the verbs as functions."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import partialnas
from partialnas.search import Study

STUDY: dict[str, Any] = {
    "study": "tiny",
    "task": {"data": "digits"},
    "base": {"stem_stride": 1, "width": 8, "depths": [1, 1, 1, 1], "head_width": 16},
    "space": {"axes": {"width": [8, 12, 16], "mlp_ratio": [1, 2]}},
    "search": {"sampler": "random"},
    "budget": {"trials": 3},
    "executor": {"kind": "in-process"},
    "quick": {"budget.trials": 2},
}


def test_a_file_its_content_and_a_study_run_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    folder = partialnas.run(path, rehearse=True)
    assert folder == Path("results/tiny-rehearsal")
    expected = partialnas.load(folder)
    assert len(expected) == 3
    for study in (str(path), STUDY, Study.model_validate(STUDY)):
        out = partialnas.run(study, tmp_path / "out" / type(study).__name__, rehearse=True)
        assert partialnas.load(out)["key"].tolist() == expected["key"].tolist()


def test_quick_settings_and_overrides_apply_to_every_kind_of_study(tmp_path: Path) -> None:
    quick = partialnas.run(STUDY, tmp_path / "quick", quick=True, rehearse=True)
    assert len(partialnas.load(quick)) == 2
    study = Study.model_validate(STUDY)
    override = ["budget.trials=1"]
    single = partialnas.run(study, tmp_path / "one", overrides=override, rehearse=True)
    assert len(partialnas.load(single)) == 1


def test_check_reports_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    partialnas.check(STUDY, quick=True, show=lines.append)
    assert any(line.startswith("trials: 2") for line in lines)
    assert capsys.readouterr().out == ""


def test_an_invalid_study_lists_its_mistakes() -> None:
    with pytest.raises(partialnas.space.UserError, match=r"invalid study[\s\S]*budgett"):
        partialnas.check({**STUDY, "budgett": {}})


def test_check_returns_the_numbers_that_it_prints() -> None:
    lines: list[str] = []
    ablation = {
        "design": "one-factor",
        "match": "none",
        "baseline": {"ratio": "1/4"},
        "factors": {"ratio": ["1/4", "1/2"]},
        "deviation": {"val_nll": 0.1},
    }
    settings = {"search": None, "space": None, "budget": {}, "ablation": ablation, "seeds": 3}
    result = partialnas.check(STUDY | settings, quick=False, show=lines.append)
    assert list(result.lines) == lines == str(result).splitlines()
    assert f"trials: {result.trials} (3 seeds for each network)" in lines
    assert result.trials == 6
    assert result.design is not None
    assert [arm.levels["ratio"] for arm in result.design.arms] == ["1/4", "1/2"]
    assert result.detectable is not None
    assert result.deviation == 0.1
    power = next(line for line in lines if line.startswith("power: 3 seeds"))
    assert f"{result.detectable * result.deviation:.4g} in val_nll" in power
    assert result.trial_seconds is not None
    assert any(f"{result.trial_seconds.mean:.1f} s per trial on cpu" in line for line in lines)
    assert result.compute is not None
    assert 0 < result.compute.device[0] <= result.compute.device[1]
    notes = [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]
    assert [note for note in result.notes if note not in notes] == []


def test_check_of_a_search_states_the_size_of_its_space() -> None:
    result = partialnas.check({**STUDY, "trial": "operator:itemgetter"}, show=lambda _: None)
    assert result.space_size is not None
    assert result.space_size.points == 6
    assert (result.trial_seconds, result.compute, result.detectable) == (None, None, None)
