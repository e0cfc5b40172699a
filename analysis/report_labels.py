"""Labels of points that cover neither a point nor one another."""

from collections.abc import Sequence
from typing import NamedTuple

from partialnas.analysis.axes import Floats

_HEIGHT = 12.0
_RADIUS = 5.0
_DISTANCES = (8.0, 14.0, 22.0)

MOST_LABELS = 12
"""Labels of one figure."""


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether the two share more than an edge."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: "Box") -> bool:
        """Whether the other lies wholly inside."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


class Label(NamedTuple):
    """A text: where its baseline begins, ends or has its middle (`anchor`)."""

    x: float
    y: float
    anchor: str
    text: str


def place_labels(
    spots: Floats,
    texts: Sequence[str],
    crowd: Floats,
    area: Box,
    better: tuple[int, int],
    letter: float,
) -> list[Label]:
    """Labels for points, the first ones first; a label for which there is no room is left out.

    Args:
        spots: the points (x, y) that are named.
        texts: their names.
        crowd: all points, which no label covers.
        area: that labels stay in.
        better: towards which side (-1, 1) both quantities improve: no point is beyond there.
        letter: how wide a letter is.
    """
    taken = [Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in crowd.tolist()]
    labels: list[Label] = []
    for (x, y), text in zip(spots.tolist(), texts, strict=True):
        if len(labels) == MOST_LABELS:
            break
        for label, box in _candidates(x, y, text, better, letter):
            if area.holds(box) and not any(box.meets(other) for other in taken):
                labels.append(label)
                taken.append(box)
                break
    return labels


def _candidates(
    x: float, y: float, text: str, better: tuple[int, int], letter: float
) -> list[tuple[Label, Box]]:
    """Where a label may stand: towards the better side first, then elsewhere, then farther off."""
    right, down = better
    ways = [(right, down), (0, down), (right, 0), (-right, down), (right, -down), (0, -down)]
    found = []
    for distance in _DISTANCES:
        for across, along in ways:
            far = distance * (0.75 if across and along else 1.0)
            found.append(_label(x + across * far, y + along * far, (across, along), text, letter))
    return found


def _label(x: float, y: float, way: tuple[int, int], text: str, letter: float) -> tuple[Label, Box]:
    across, along = way
    wide = letter * len(text)
    left = x if across > 0 else x - wide if across < 0 else x - wide / 2
    top = y if along > 0 else y - _HEIGHT if along < 0 else y - _HEIGHT / 2
    anchor = {1: "start", 0: "middle", -1: "end"}[across]
    label = Label(round(x, 1), round(top + _HEIGHT - 3, 1), anchor, text)
    return label, Box(left, top, left + wide, top + _HEIGHT)
