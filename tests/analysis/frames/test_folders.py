"""Tests of the folders and frames that functions of the analysis accept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from partialnas import analysis
from partialnas.analysis import effects, front, hypervolume, load, pareto_figure, pareto_table
from partialnas.space.errors import UserError

OBJECTIVES = {"val_nll": "min", "macs": "min"}

FOLDERS_ONLY: dict[str, Callable[[Any], object]] = {
    "load": load,
    "load_curves": analysis.load_curves,
    "load_failures": analysis.load_failures,
    "load_measurements": analysis.load_measurements,
    "load_ratios": analysis.load_ratios,
    "load_distribution": analysis.load_distribution,
    "study_figure": lambda study: analysis.study_figure("curves", study),
    "effects": effects,
    "effects_figure": analysis.effects_figure,
    "audit_figure": analysis.audit_figure,
    "ratio_figure": analysis.ratio_figure,
    "table_artefact": analysis.table_artefact,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, ledgers: Callable[..., Path]) -> Path:
    records = [
        {
            "digest": f"{i:016x}", "state": "done", "metrics": {"val_nll": 1.0 / (1 + i)},
            "cost": {"params": 1, "macs": 100 + i, "macs_core": 1, "activations": 1},
        }
        for i in range(3)
    ]  # fmt: skip
    settings = {"objectives": OBJECTIVES, "search": {"sampler": "random"}, "arms": {}}
    return ledgers(tmp_path_factory.mktemp("folders") / "s", records, study=settings)


def test_functions_of_trials_accept_folders_and_frames(study: Path) -> None:
    expected = front(load(study))
    assert expected["on_front"].all()
    for trials in (study, str(study), [study]):
        assert front(trials).equals(expected)
        assert hypervolume(trials, OBJECTIVES) == hypervolume(load(study), OBJECTIVES)
        assert pareto_table(trials).equals(pareto_table(load(study)))
        assert pareto_figure(trials).caption == pareto_figure(load(study)).caption


@pytest.mark.parametrize("name", FOLDERS_ONLY)
def test_a_frame_in_place_of_a_folder_is_refused_with_the_folder_to_pass(
    study: Path, name: str
) -> None:
    for frame in (load(study), [load(study)]):
        with pytest.raises(UserError, match="expected a folder, got a DataFrame") as error:
            FOLDERS_ONLY[name](frame)
        assert repr(str(study)) in str(error.value)


@pytest.mark.parametrize("name", FOLDERS_ONLY)
def test_something_else_in_place_of_a_folder_is_refused(name: str) -> None:
    for wrong in (7, None, [3.5]):
        with pytest.raises(UserError, match="expected a folder, got"):
            FOLDERS_ONLY[name](wrong)


def test_a_table_of_one_folder_needs_no_list(study: Path) -> None:
    table = analysis.table_artefact(str(study))
    assert table.texts == analysis.table_artefact([study]).texts


@pytest.mark.parametrize("arms", [{}, {"reference": {}}])
def test_effects_of_a_search_say_that_it_is_a_search(
    tmp_path: Path, ledgers: Callable[..., Path], arms: dict[str, Any]
) -> None:
    settings = {"objectives": OBJECTIVES, "search": {"sampler": "random"}, "arms": arms}
    search = ledgers(
        tmp_path / "s", [{"state": "done", "arm": a, "proposal": a} for a in arms], study=settings
    )
    with pytest.raises(UserError, match="is a search, not an ablation") as error:
        analysis.effects_figure(search)
    assert "--" not in str(error.value)
