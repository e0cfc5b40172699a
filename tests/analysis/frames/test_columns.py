from collections.abc import Callable

import pandas as pd
import pytest

from partialnas.analysis.frames.columns import find_quantity, known_quantities
from partialnas.analysis.frames.trials import Trials
from partialnas.space.errors import UserError

Frames = Callable[..., pd.DataFrame]


def test_user_metric_needs_a_direction(frames: Frames) -> None:
    frame = frames(3).assign(score=1.0)
    assert "score" in known_quantities(frame)
    with pytest.raises(UserError, match="score:min or score:max"):
        find_quantity("score", frame)
    assert find_quantity("score:max", frame).better == "max"
    assert find_quantity("score", frame, {"score": "min"}).better == "min"


def test_an_axis_of_a_registered_quantity_has_its_direction(frames: Frames) -> None:
    trials = Trials(frame=frames(3))
    assert trials.quantity("val_nll:min").better == "min"
    with pytest.raises(UserError, match="val_nll:max: expected min, got max: a smaller val_nll"):
        trials.quantity("val_nll:max")
    old = Trials(frame=frames(3), objectives={"val_nll": "max"})  # an old ledger is readable
    assert old.quantity("val_nll:max").better == "max"


def test_unknown_quantity_error_suggests_similar_ones(frames: Frames) -> None:
    with pytest.raises(UserError, match=r"did you mean throughput_img_s or relative_throughput"):
        find_quantity("throughput", frames(3))
    with pytest.raises(UserError, match="no such quantity"):
        find_quantity("seed", frames(3))
