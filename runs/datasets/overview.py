"""What would be read of a data set: classes, splits, sizes, what is left out, memory."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
from numpy.typing import NDArray

from partialnas.runs.datasets.carving import SPLITS, LabeledImages, ListedImages
from partialnas.runs.datasets.cifar import published_name
from partialnas.runs.datasets.image_files import decode_images
from partialnas.runs.datasets.loaders import check_labels, load_parts, resize
from partialnas.runs.datasets.memory import check_free_memory, check_size, image_bytes
from partialnas.runs.datasets.registry import DATA_SETS, DataSetFacts, find_dataset
from partialnas.runs.datasets.task import Task, describe_data, make_task
from partialnas.space.errors import MachineError, UserError

_LARGEST_SUGGESTED = 224

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class DataOverview:
    """What would be read of a data set.

    Attributes:
        task: the task that a study with this data set has.
        facts: facts of the data set; their notes say what is left out or converted.
        class_names: names of the classes in the order of their labels.
        labels: labels of the images by split: `train`, `val` and `test`.
        files: image files by split; empty unless the data are image files.
        modes: number of images of each mode of Pillow; empty unless the data are image files.
        sizes: number of images of each width and height in pixels before they are resized.
        resolution_is_missing: whether a study has to state `task.resolution`; that of the task is
            a suggestion then.
        problems: why a study could not read the data, one sentence each.
    """

    task: Task
    facts: DataSetFacts
    class_names: tuple[str, ...]
    labels: dict[str, NDArray[np.int64]]
    files: dict[str, tuple[Path, ...]]
    modes: Counter[str]
    sizes: Counter[tuple[int, int]]
    resolution_is_missing: bool
    problems: tuple[str, ...]
    _read: Callable[[NDArray[np.int64]], Images] = field(repr=False)

    @property
    def bytes(self) -> int:
        """Memory that all decoded images take, in bytes."""
        return image_bytes(self.task, sum(map(len, self.labels.values())))

    def class_counts(self) -> NDArray[np.int64]:
        """Return the number of images of each class and split, classes x 3."""
        classes = len(self.class_names)
        counts = [np.bincount(self.labels[name], minlength=classes) for name in SPLITS]
        return np.stack(counts, axis=1)

    def size_quantiles(self) -> NDArray[np.int64]:
        """Return the least, the median and the greatest width and height in pixels, 3 x 2.

        The median is that of widths and heights by themselves, the lower one of two.
        """
        sizes, counts = np.array([*self.sizes]), np.array([*self.sizes.values()])
        rows = []
        for side in sizes.T:
            order = np.argsort(side)
            middle = np.searchsorted(np.cumsum(counts[order]), (counts.sum() + 1) // 2)
            rows.append((side.min(), side[order][middle], side.max()))
        return np.array(rows).T

    def samples(self, count: int, classes: int | None = None) -> list[Images]:
        """Return training images of each class, N x C x H x W, as a network sees them.

        They are the first ones of each class, so the same at every call.

        Args:
            count: largest number of images of a class.
            classes: number of classes, the first ones; None for all.

        Raises:
            UserError: An image cannot be decoded.
        """
        labels, shown = self.labels["train"], range(len(self.class_names[:classes]))
        positions = [np.flatnonzero(labels == label)[:count] for label in shown]
        images = self._read(np.concatenate(positions))
        return np.split(images, np.cumsum([len(part) for part in positions])[:-1])


def inspect_data(data: str | Path, resolution: int | None = None) -> DataOverview:
    """Return what a study would read of a data set.

    The images of a folder are not decoded: their headers have all that is reported. Other data
    sets are loaded, but not resized.

    Args:
        data: a data set as a study names it (`mnist5k`, `cifar10:PATH`, `folder:PATH`, a registered
            one), or the path of an image folder or of a published archive.
        resolution: side of the square images in pixels; by default that of the data set.

    Raises:
        UserError: There is no such data set, or it cannot be read.
    """
    name = data_name(data)
    facts, path = describe_data(name)
    dataset = find_dataset(name)
    listed: ListedImages | None = (
        resolve_name(dataset.list_images)(path) if dataset.list_images else None
    )
    side = facts.resolution if resolution is None else resolution
    is_missing = side is None
    if side is None:
        side = _suggested_resolution(listed)
    task = make_task(name, path, facts, side)
    problems = _problems(task, facts)
    if listed is None:
        parts = load_parts(task)
        labels = {name: parts[name].y.astype(np.int64) for name in SPLITS}
        shapes = [part.x.shape for part in parts.values()]
        modes: Counter[str] = Counter()
        sizes = Counter({(width, height): 0 for _, _, height, width in shapes})
        for count, _, height, width in shapes:
            sizes[width, height] += count
    else:
        labels, modes, sizes = listed.labels, listed.modes, listed.sizes
        problems += _label_problems(task, labels)
    names = facts.class_names or tuple(map(str, range(facts.classes)))

    def read(positions: NDArray[np.int64]) -> Images:
        if listed is None:
            train = parts["train"]
            chosen = LabeledImages(train.x[positions], train.y[positions])
            return resize(chosen, task.resolution).x
        files = [listed.files["train"][position] for position in positions]
        settings = task.resolution, task.channels
        return decode_images(files, len(files), *settings, check_levels=False)

    files = listed.files if listed else {}
    return DataOverview(
        task, facts, names, labels, files, modes, sizes, is_missing, tuple(problems), read
    )


def data_name(data: str | Path) -> str:
    """Return the name that a study uses for a data set: `flowers/` becomes `folder:flowers`.

    A name of the table stands for that data set, even if a folder has the same name.
    """
    text = str(data)
    is_name = not text or text.partition(":")[0] in DATA_SETS
    if is_name or not Path(text).expanduser().exists():
        return text
    path = Path(text).expanduser()
    return f"{published_name(path.resolve()) or 'folder'}:{text}"


def split_sizes(sizes: Mapping[str, int]) -> str:
    """Return the numbers of images of the splits in words."""
    return "{train} training, {val} validation and {test} test images".format(**sizes)


def _suggested_resolution(listed: ListedImages | None) -> int:
    """Return the median of the shorter sides, at most 224 pixels, as a multiple of 8 from 16 on."""
    if listed is None:
        return _LARGEST_SUGGESTED
    sides = sorted(min(size) for size in listed.sizes.elements())
    side = min(sides[len(sides) // 2], _LARGEST_SUGGESTED)
    return side if side < 16 else side - side % 8


def _problems(task: Task, facts: DataSetFacts) -> list[str]:
    """Return why the images do not fit into memory, if they do not."""
    try:
        check_size(task, facts.images)
        check_free_memory([task])
    except (UserError, MachineError) as error:
        return [str(error)]
    return []


def _label_problems(task: Task, labels: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """Return what is wrong with the first split that cannot be used."""
    try:
        for name, y in labels.items():
            check_labels(task, name, y)
    except UserError as error:
        return [str(error)]
    return []
