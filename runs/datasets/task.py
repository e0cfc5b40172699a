"""Tasks: what is learned. The facts of a data set, known without loading it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from partialnas.runs.datasets.cifar import check_archive
from partialnas.runs.datasets.image_folder import fingerprint, infer_image_shape, list_folder
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.errors import UserError
from partialnas.space.validation import validation_messages
from partialnas.space.values import Value

_KINDS = "mnist5k, digits, cifar10:PATH, cifar100:PATH or folder:PATH"


class Task(Value):
    """A data set at one resolution.

    Attributes:
        data: `mnist5k`, `digits`, `cifar10:PATH`, `cifar100:PATH` or `folder:PATH`.
        resolution: side of the square images in pixels.
        channels: 1 (grey) or 3 (RGB).
        classes: number of classes.
        content: digest of an image folder's file names and sizes; empty for published sets.
    """

    data: str
    resolution: int = Field(ge=1, le=4096)
    channels: int = Field(ge=1, le=3)
    classes: int = Field(ge=2)
    content: str = ""

    @property
    def kind(self) -> str:
        """The data set without its path: `mnist5k`, `folder`."""
        return self.data.partition(":")[0]

    @property
    def path(self) -> Path:
        """Where the data set lies on disk; meaningless for those that wheels ship."""
        return Path(self.data.partition(":")[2])

    @property
    def input_spec(self) -> InputSpec:
        """Shape of the images and number of classes, as cost formulas take them."""
        return InputSpec.square(self.resolution, self.channels, self.classes)

    def identity(self) -> dict[str, Any]:
        """Plain data of all that a result depends on: what is learned, not where it lies."""
        return {**self.model_dump(mode="json", exclude={"data"}), "data": self.kind}


class Facts(NamedTuple):
    """What a data set is by itself; no resolution where its images differ in size."""

    resolution: int | None
    channels: int
    classes: int
    content: str = ""


def resolve_task(data: str, resolution: int | None = None) -> Task:
    """The task of learning `data` at `resolution` (by default the data set's own).

    Raises:
        UserError: no such data set, nothing or something else at its path, or a resolution that
            cannot be used or must be stated.
    """
    kind, colon, path = data.partition(":")
    on_disk = kind not in ("mnist5k", "digits")
    if kind not in _FACTS or not bool(colon) == bool(path) == on_disk:
        raise UserError(f"task.data: there is no data set {data!r}; expected {_KINDS}")
    # Absolute, so that workers started in another folder find it.
    place = Path(path).expanduser().resolve()
    try:
        facts = _FACTS[kind](place)
    except OSError as error:
        raise UserError(f"task.data: cannot read {place}: {error.strerror}") from None
    side = facts.resolution if resolution is None else resolution
    if side is None:
        raise UserError(
            f"task.resolution: missing; the images under {place} differ in size or are not "
            "square: state the resolution in pixels that they are brought to"
        )
    name = f"{kind}:{place}" if on_disk else kind
    try:
        return Task(data=name, **facts._replace(resolution=side)._asdict())
    except ValidationError as error:
        raise UserError("\n".join(validation_messages(error, "task"))) from None


def _cifar_facts(kind: str, path: Path, classes: int) -> Facts:
    check_archive(kind, path)
    return Facts(32, 3, classes)


def _folder_facts(path: Path) -> Facts:
    listings = list_folder(path)
    resolution, channels = infer_image_shape(listings["train"])
    content = fingerprint(path, listings.values())
    return Facts(resolution, channels, len(listings["train"].classes), content)


_FACTS: dict[str, Callable[[Path], Facts]] = {
    "mnist5k": lambda _: Facts(28, 1, 10),
    "digits": lambda _: Facts(8, 1, 10),
    "cifar10": lambda path: _cifar_facts("cifar10", path, 10),
    "cifar100": lambda path: _cifar_facts("cifar100", path, 100),
    "folder": _folder_facts,
}
