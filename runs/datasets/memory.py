"""The memory that the images of a data set take, checked before any of them is decoded."""

from collections.abc import Iterable

from partialnas.runs.datasets.task import Task, task_facts
from partialnas.runs.system.memory import available_memory
from partialnas.space.errors import MachineError, UserError

MAX_DATASET_BYTES = 4 * 2**30
"""Largest size of the decoded images of a data set in bytes; they all stay in memory."""


def image_bytes(task: Task, images: int) -> int:
    """Return the bytes of images at the resolution of a task: one per pixel and channel."""
    return images * task.channels * task.resolution**2


def check_size(task: Task, images: int | None) -> None:
    """Check that the images of a task are few and small enough to be kept in memory.

    Args:
        task: the task.
        images: number of images, or None if it is unknown before they are loaded.

    Raises:
        UserError: They take more than `MAX_DATASET_BYTES`.
    """
    needed = image_bytes(task, images or 0)
    if needed > MAX_DATASET_BYTES:
        raise UserError(
            f"task.data: {_sizes(task, images or 0)}, but all images are kept in memory and at "
            f"most {format_bytes(MAX_DATASET_BYTES)} are allowed; choose a task.resolution of at "
            f"most {largest_resolution(task, images or 0)}, or fewer images"
        )


def largest_resolution(task: Task, images: int) -> int:
    """Return the largest resolution at which images are allowed, in pixels; 0 if there is none."""
    side = int((MAX_DATASET_BYTES / (images * task.channels)) ** 0.5)
    return side if side < 32 else side - side % 16


def check_free_memory(tasks: Iterable[Task]) -> None:
    """Check that the images of all tasks together fit into the free memory.

    Tasks of the same data set at several resolutions are loaded once for each of them.

    Raises:
        MachineError: The machine, its container or its job has less free memory.
    """
    counts = {task: task_facts(task).images or 0 for task in tasks}
    needed = sum(image_bytes(task, images) for task, images in counts.items())
    free = available_memory()
    if needed > free:
        raise MachineError(
            f"task.data: {' and '.join(_sizes(task, images) for task, images in counts.items())}, "
            f"but only {format_bytes(free)} of memory are free here; choose a smaller "
            "task.resolution or fewer images, or end other programs"
        )


def _sizes(task: Task, images: int) -> str:
    size = format_bytes(image_bytes(task, images))
    return f"{images:,} images at {task.resolution} x {task.resolution} pixels take {size}"


def format_bytes(size: int) -> str:
    """Return a size in the largest of KiB, MiB and GiB that it reaches: `4 GiB`, `3.7 MiB`."""
    units = (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")
    unit, name = next((unit for unit in units if size >= unit[0]), units[-1])
    return f"{size / unit:,.1f}".removesuffix(".0") + f" {name}"
