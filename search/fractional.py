from collections.abc import Sequence
from typing import Any


def fractional(factors: Sequence[str], resolution: int) -> Any:
    raise NotImplementedError
