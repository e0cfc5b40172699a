from collections.abc import Callable

import pandas as pd
import pytest

from partialnas.analysis.frames.columns import find_quantity, known_quantities
from partialnas.space.errors import UserError

Frames = Callable[..., pd.DataFrame]


def test_user_metric_needs_a_direction(frames: Frames) -> None:
    frame = frames(3).assign(score=1.0)
    assert "score" in known_quantities(frame)
    with pytest.raises(UserError, match="score:min or score:max"):
        find_quantity("score", frame)
    assert find_quantity("score:max", frame).better == "max"
    assert find_quantity("score", frame, {"score": "min"}).better == "min"


def test_unknown_quantity_error_suggests_similar_ones(frames: Frames) -> None:
    with pytest.raises(UserError, match=r"did you mean throughput_img_s.*one of val_accuracy"):
        find_quantity("throughput", frames(3))
    with pytest.raises(UserError, match="no such quantity"):
        find_quantity("seed", frames(3))
