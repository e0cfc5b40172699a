from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from partialnas.analysis import ParetoOptions, pareto_figure
from partialnas.analysis.pareto.attainment import attainment_surfaces
from partialnas.space.errors import UserError

Frames = Callable[..., pd.DataFrame]


def repeats(frames: Frames, number: int) -> pd.DataFrame:
    parts = [frames(15, 1, random=i, failed=0, folder=f"results/r{i}") for i in range(number)]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_surfaces_bound_what_a_share_of_searches_attains(frames: Frames, number: int) -> None:
    frame = repeats(frames, number)
    surfaces = attainment_surfaces(frame, {"macs": "min", "val_accuracy": "max"})
    rng = np.random.default_rng(0)
    spots = np.column_stack(
        [rng.uniform(*frame["macs"].quantile([0, 1]), 300),
         rng.uniform(*frame["val_accuracy"].quantile([0, 1]), 300)]
    )  # fmt: skip

    def attained(points: pd.DataFrame) -> np.ndarray:
        pairs = points[["macs", "val_accuracy"]].to_numpy(float)
        better = (pairs[:, 0] <= spots[:, None, 0]) & (pairs[:, 1] >= spots[:, None, 1])
        return np.asarray(better.any(axis=1))

    share = np.mean([attained(rows) for _, rows in frame.groupby("folder")], axis=0)
    for percent, rows in surfaces.groupby("share"):
        assert (attained(rows) == (share >= percent / 100 - 1e-9)).all()


def test_attainment_needs_repeats(frames: Frames) -> None:
    with pytest.raises(UserError, match="needs repeated searches"):
        attainment_surfaces(repeats(frames, 1), {"macs": "min", "val_nll": "min"})
    frame = repeats(frames, 2)
    frame.loc[frame["folder"].eq("results/r1"), "val_nll"] = np.nan
    with pytest.raises(UserError, match="one of the 2 searches has no feasible network"):
        attainment_surfaces(frame, {"macs": "min", "val_nll": "min"})


def test_pareto_figure_shows_attainment(tmp_path: Path, frames: Frames) -> None:
    options = ParetoOptions(attainment=True)
    drawn = pareto_figure(repeats(frames, 3), tmp_path / "f.svg", x="macs", options=options)
    assert "median attainment of 3 repeated searches" in drawn.caption
    assert "| 75 " in (tmp_path / "f.md").read_text()
