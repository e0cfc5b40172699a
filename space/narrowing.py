"""Narrowing: an architecture with a share of its widths, as a cheap stand-in for itself."""

from fractions import Fraction

from partialnas.space.architecture import Architecture
from partialnas.space.resizing import Builder


def narrowed(architecture: Architecture, share: Fraction) -> Architecture:
    """The architecture with this share of every stage's width, the nearest that can be built.

    The blocks keep their ratios, so the parts become narrower with them. Learned ratios are found
    for the widths that they are learned at: an architecture that has any stays as it is.
    """
    if share == 1 or architecture.learned is not None:
        return architecture
    builder = Builder(architecture)
    stages = tuple(
        stage.model_copy(update={"width": builder.nearest(index, float(stage.width * share))})
        for index, stage in enumerate(architecture.stages)
    )
    return architecture.model_copy(update={"stages": stages})
