"""Shape of a network's input and number of its classes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class InputSpec:
    """Shape of the images and number of classes, which the cost of a network depends on.

    Attributes:
        channels: channels of an image.
        height: height of an image in pixels.
        width: width of an image in pixels.
        classes: outputs of the classifier.
    """

    channels: int
    height: int
    width: int
    classes: int

    @classmethod
    def square(cls, resolution: int, channels: int = 3, classes: int = 1000) -> "InputSpec":
        """Return the spec of square images of `resolution` pixels a side."""
        return cls(channels, resolution, resolution, classes)

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.image_shape))
        return f"{shape}, {self.classes} classes"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: channels, height, width."""
        return self.channels, self.height, self.width
