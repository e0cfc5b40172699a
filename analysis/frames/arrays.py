"""Types of the arrays that analysis passes around."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from partialnas.runs.config.quantities import Direction

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Objectives = Mapping[str, Direction]
