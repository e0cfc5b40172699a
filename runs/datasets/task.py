"""Tasks: a data set at a resolution, described without loading it."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from partialnas.runs.datasets.registry import DataSetFacts, find_dataset
from partialnas.space.arch.input_spec import InputSpec
from partialnas.space.errors import UserError
from partialnas.space.validation import validation_messages
from partialnas.space.values import Value


class Task(Value):
    """A data set at one resolution.

    Attributes:
        data: `mnist5k`, `digits`, `cifar10:PATH`, `cifar100:PATH`, `folder:PATH` or a registered
            data set.
        resolution: side of the square images in pixels.
        channels: 1 (gray) or 3 (RGB).
        classes: number of classes.
        content: digest of an image folder's file names and sizes, with the version of the reader
            if an earlier one read the files differently; empty for published data sets.
    """

    identity_fields: ClassVar[frozenset[str]] = frozenset(
        ("data", "resolution", "channels", "classes", "content")
    )

    data: str
    resolution: int = Field(ge=1, le=4096)
    channels: int = Field(ge=1, le=3)
    classes: int = Field(ge=2)
    content: str = ""

    @property
    def kind(self) -> str:
        """Name of the data set without its path: `mnist5k`, `folder`."""
        return self.data.partition(":")[0]

    @property
    def path(self) -> Path:
        """Path of the data set on disk; meaningless for a data set without a path."""
        return Path(self.data.partition(":")[2])

    @property
    def input_spec(self) -> InputSpec:
        """Shape of the images and number of classes, as cost formulas take them."""
        return InputSpec.square(self.resolution, self.channels, self.classes)

    def identity(self) -> dict[str, Any]:
        """Return the plain data that results depend on; the path is not part of it."""
        return {**self.identity_data(exclude=("data",)), "data": self.kind}


def resolve_task(data: str, resolution: int | None = None) -> Task:
    """Return the task of learning `data` at `resolution` (by default that of the data set).

    Raises:
        UserError: There is no such data set, its path is missing or wrong, or the resolution is
            invalid or must be stated.
    """
    facts, path = describe_data(data)
    side = facts.resolution if resolution is None else resolution
    if side is None:
        raise UserError(
            f"task.resolution: missing; the images under {path} differ in size or are not square: "
            "state the resolution in pixels to resize them to (`partialnas data PATH` shows their "
            "sizes)"
        )
    return make_task(data, path, facts, side)


def describe_data(data: str) -> tuple[DataSetFacts, Path]:
    """Return the facts of the data set that `NAME` or `NAME:PATH` names, and its absolute path.

    Raises:
        UserError: There is no such data set, or its path is missing or wrong.
    """
    dataset = find_dataset(data)
    # Absolute, so that workers started in another folder find it.
    path = Path(data.partition(":")[2]).expanduser().resolve()
    try:
        return dataset.find_facts(path), path
    except OSError as error:
        place = error.filename or path
        raise UserError(f"task.data: cannot read {place}: {error.strerror}") from None


def make_task(data: str, path: Path, facts: DataSetFacts, resolution: int) -> Task:
    """Return the task of learning a data set with these facts at a resolution.

    Raises:
        UserError: The resolution is invalid.
    """
    name = data.partition(":")[0]
    data = f"{name}:{path}" if find_dataset(data).on_disk else name
    try:
        return Task(
            data=data,
            resolution=resolution,
            channels=facts.channels,
            classes=facts.classes,
            content=facts.content,
        )
    except ValidationError as error:
        raise UserError("\n".join(validation_messages(error, "task"))) from None


def task_facts(task: Task) -> DataSetFacts:
    """Return the facts of a task's data set as it is now.

    Raises:
        UserError: The data set is missing or damaged.
    """
    return find_dataset(task.data).find_facts(task.path)


def check_content(task: Task, facts: DataSetFacts) -> None:
    """Check that the files of a data set are those of a task, and read in the same way.

    Raises:
        UserError: They differ.
    """
    if task.content in ("", facts.content):
        return
    reason = explain_content(task.content, facts)
    raise UserError(
        f"task.data: the files under {task.path} are not those that the study was started with"
        + (f"; {reason}" if reason else "")
    )


def explain_content(recorded: str, facts: DataSetFacts) -> str:
    """Return why unchanged files may differ from their recorded content; empty if they cannot."""
    if not facts.reader_changes or _reader_version(recorded) == _reader_version(facts.content):
        return ""
    return (
        f"partialnas now reads them differently ({'; '.join(facts.reader_changes)}), so trials of "
        "an earlier version cannot be continued"
    )


def _reader_version(content: str) -> str:
    return content.rpartition("-")[0]
