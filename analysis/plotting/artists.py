"""Types of matplotlib for annotations; the library itself is imported when a figure is drawn."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist as Artist
    from matplotlib.axes import Axes as Axes
    from matplotlib.axis import Axis as Axis
    from matplotlib.figure import Figure as Figure
    from matplotlib.figure import SubFigure as SubFigure
    from matplotlib.text import Text as Text
    from matplotlib.transforms import Bbox as Bbox
    from matplotlib.transforms import Transform as Transform

    AnyFigure = Figure | SubFigure
else:
    Artist = Axes = Axis = Figure = SubFigure = AnyFigure = Text = Bbox = Transform = Any
