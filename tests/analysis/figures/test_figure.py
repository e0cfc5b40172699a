import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from partialnas.analysis.figures.edf import empirical_cdf
from partialnas.analysis.figures.importance import permutation_importance
from partialnas.analysis.figures.kinds import FIGURE_KINDS, study_figure
from partialnas.analysis.plotting.clipping import clip_outliers
from partialnas.analysis.plotting.style import DEFAULT_STYLES, WIDTHS, StyleName, Width, find_style
from partialnas.analysis.verification import verify
from partialnas.runs.ledger.ledger import Ledger
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.arch.plan import Plan
from partialnas.space.cost.cost import compute_cost
from partialnas.space.errors import UserError

Ledgers = Callable[..., Path]
OBJECTIVES = {"objectives": {"macs": "min", "val_nll": "min"}}
TASK = {"task": json.dumps({"data": "mnist5k", "resolution": 28, "channels": 1, "classes": 10})}
SETTINGS = {"stem_stride": 2, "depths": (1, 1, 1, 1), "head_width": 16}


def records(number: int, random: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """Return trials with curves; wider networks are better and more expensive."""
    rng = np.random.default_rng(random)
    rows = []
    for i in range(number):
        width = int(rng.choice([8, 12, 16, 24]))
        network = Plan.model_validate({**SETTINGS, "width": width}).architecture()
        counted = compute_cost(network, InputSpec.square(28, 1, 10))
        nll = float(8 / width + rng.uniform(0, 0.2))
        keys = ("params", "macs", "macs_core", "activations")
        rows.append(
            {
                "digest": f"{random:08x}{i:08x}", "subject": network.model_dump(mode="json"),
                "state": "done", "seconds": 36.0,
                "metrics": {"val_nll": nll, "val_accuracy": 100 - 10 * nll},
                "cost": {key: getattr(counted, key) for key in keys},
                "curve": tuple(
                    {"epoch": float(e), "val_nll": nll * 4 / e, "val_accuracy": 50.0 + e}
                    for e in range(1, 5)
                ),
            } | changes
        )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def make(ledgers: Ledgers, sampler_notes: None) -> Callable[..., Path]:
    del sampler_notes

    def study(folder: Path, trials: Sequence[dict[str, Any]]) -> Path:
        return ledgers(folder, trials, study=OBJECTIVES, meta=TASK)

    return study


@pytest.fixture(scope="module")
def sampler_notes() -> Any:
    """Store with each proposal the point that a sampler would have noted."""
    plain = Ledger.add_proposal

    def add_with_note(self: Ledger, arm: Any, digest: str, subject: Any, _proposal: Any) -> int:
        width = subject["stages"][0]["width"] if subject else 8
        note = {"params": {"width": width, "noise": int(digest[-2:], 16) % 3}}
        return plain(self, arm, digest, subject, note)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "add_proposal", add_with_note)
        yield


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, make: Callable[..., Path]) -> list[Path]:
    root = tmp_path_factory.mktemp("studies")
    return [make(root / f"r{i}", records(24, i)) for i in range(3)]


@pytest.mark.parametrize(
    "kind",
    [
        "curves",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in FIGURE_KINDS if kind != "curves"),
    ],
)
def test_every_kind_is_drawn_verified_and_the_same_again(
    tmp_path: Path, studies: list[Path], kind: str
) -> None:
    folders = studies if kind in ("attainment", "convergence", "edf") else studies[:1]
    first, second = (study_figure(kind, folders, tmp_path / n / "f.svg") for n in "ab")
    for one, other in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
        verdict = verify(one, folders)
        assert (verdict.differences, verdict.note) == ((), "")
        assert verdict.numbers > 4
    assert first.caption in first.files[2].read_text()


def test_unknown_kinds_and_requests_are_errors(tmp_path: Path, studies: list[Path]) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("choose convergence", "x", {}),
        ("unknown width 'x'", "edf", {"width": "x"}),
        ("expected numbers, such as 1,7", "cost", {"trials": ["a"]}),
        ("there is no trial 99", "curves", {"trials": [99]}),
        ("no learning curves", "curves", {"metric": "macs"}),
    ]
    for message, kind, options in calls:
        with pytest.raises(UserError, match=message):
            study_figure(kind, studies, tmp_path / "f.pdf", **options)
    assert not list(tmp_path.iterdir())


def test_hypervolume_over_trials_ends_at_that_of_the_front(
    tmp_path: Path, studies: list[Path]
) -> None:
    table = study_figure("convergence", studies[0], tmp_path / "f.svg").table
    assert table["hypervolume"].is_monotonic_increasing
    assert table["trials"].tolist() == list(range(1, 25))
    assert table["hours"].iloc[-1] == pytest.approx(24 * 36 / 3600)


def test_distribution_counts_and_its_band_covers_that_of_the_binomial() -> None:
    errors = np.random.default_rng(1).normal(size=200)
    table = empirical_cdf(errors)
    assert table["share"].tolist() == [(errors <= value).mean() for value in table["error"]]
    middle = table.iloc[(table["share"] - 0.5).abs().argmin()]
    half = 1.96 * np.sqrt(0.25 / 200)
    assert middle["high"] - middle["low"] == pytest.approx(2 * half, rel=0.15)
    assert empirical_cdf(errors).equals(table)
    ties = empirical_cdf(np.array([1.0, 1.0, 2.0, 3.0]))
    assert ties[["error", "share"]].to_numpy().tolist() == [[1, 0.5], [2, 0.75], [3, 1.0]]


@pytest.mark.slow
def test_axis_with_an_effect_is_important() -> None:
    rng = np.random.default_rng(0)
    levels = pd.DataFrame(rng.integers(0, 4, (80, 3)), columns=["much", "little", "nothing"])
    values = 3.0 * levels["much"] + 1.0 * levels["little"] + rng.normal(0, 0.1, 80)
    table, explained = permutation_importance(levels, values.to_numpy(float))
    assert table["axis"].tolist() == ["much", "little", "nothing"]
    assert (table["low"] <= table["importance"]).all()
    assert table["importance"].iloc[2] == pytest.approx(0, abs=0.05)
    assert explained > 0.8
    with pytest.raises(UserError, match="at least 12"):
        permutation_importance(levels[:5], values[:5].to_numpy(float))
    with pytest.raises(UserError, match="same value"):
        permutation_importance(levels, np.ones(80))


def test_costs_of_blocks_add_up_to_that_of_the_network(tmp_path: Path, studies: list[Path]) -> None:
    table = study_figure("cost", studies[0], tmp_path / "f.svg", trials=["#1", "3"]).table
    with Ledger.open(studies[0]) as ledger:
        for number, blocks in table.groupby("trial"):
            recorded = ledger.trial(int(number)).cost
            assert {key: blocks[key].sum() for key in recorded} == recorded


def test_only_distant_dominated_points_are_clipped() -> None:
    values = np.r_[np.linspace(0, 1, 50), 30.0, -30.0, np.nan, 31.0]
    movable = np.r_[np.ones(53, dtype=bool), False]
    shown, side = clip_outliers(values, movable)
    # the axis includes 31, the largest value of the front
    assert side.nonzero()[0].tolist() == [51]
    assert side[51] == -1
    assert np.isnan(shown[[51, 52]]).all()
    assert shown[53] == 31


def single(_: int) -> list[dict[str, Any]]:
    return records(1)


def failures(_: int) -> list[dict[str, Any]]:
    lost = {"state": "failed", "reason": "the loss is NaN in epoch 2", "metrics": {}, "curve": ()}
    return records(6, **lost)


def constant(_: int) -> list[dict[str, Any]]:
    return records(20, metrics={"val_nll": 0.5, "val_accuracy": 90.0})


@pytest.mark.slow
@pytest.mark.parametrize("kind", FIGURE_KINDS)
@pytest.mark.parametrize("of", [single, failures, constant])
def test_odd_ledgers_give_a_figure_or_a_message(
    tmp_path: Path, make: Callable[..., Path], kind: str, of: Callable[[int], Any]
) -> None:
    folders = [make(tmp_path / f"s{i}", of(i)) for i in range(2)]
    drawn, message = None, ""
    try:
        drawn = study_figure(kind, folders, tmp_path / "f.svg")
    except UserError as error:
        message = str(error)
    assert len(message) > 20 if drawn is None else len(drawn.table)


@pytest.mark.parametrize("style", WIDTHS)
def test_styles_have_widths(style: StyleName) -> None:
    widths: tuple[Width, ...] = ("column", "page")
    sizes = [find_style(style, width).width for width in widths]
    assert sizes == sorted(sizes)
    assert find_style(style) == DEFAULT_STYLES[style]
