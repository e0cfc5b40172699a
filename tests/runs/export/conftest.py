"""A study whose trials can be exported, and its exports."""

import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

import partialnas.space.timm  # noqa: F401
from partialnas.runs.datasets.augment import DeviceSplit
from partialnas.runs.datasets.loaders import Splits, load_splits
from partialnas.runs.export import export_model as exporting
from partialnas.runs.export.export_model import ExportResult
from partialnas.runs.trials.context import Context
from partialnas.runs.trials.trial import run_job
from partialnas.space.nn.network import Network

sys.path.append(str(Path(__file__).parent))

from trained_studies import (
    NUMBERS,
    QUICK,
    TASK,
    TRAINED,
    add_trial,
    create_ledger,
    create_trained_study,
    export_model,
    job_of,
    randomize,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, few_digits: Splits) -> Iterator[Path]:
    """Return the folder of a study with a trained trial of each kind that can be exported."""
    folder = tmp_path_factory.mktemp("exports")
    (folder / "locks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder / "locks"))
        patch.setattr(exporting, "load_splits", cache(load_splits))
        context = Context(splits=few_digits, folder=folder / "study")
        with create_ledger(folder / "study") as ledger:
            for subject in TRAINED.values():
                (record,) = run_job(job_of(subject), context)
                assert record.state == "done", record.reason
                add_trial(ledger, subject, record)
        yield folder / "study"


@pytest.fixture(scope="module")
def exports(study: Path) -> dict[str, ExportResult]:
    return {
        name: export_model(study, number, study.parent / name, max_seconds=QUICK)
        for name, number in NUMBERS.items()
    }


@pytest.fixture(scope="module")
def images() -> Tensor:
    splits = load_splits(TASK)
    pool = DeviceSplit(splits.val_x, splits.val_y, splits, 0, torch.device("cpu"))
    return next(iter(pool.sequential_batches(len(pool))))[0]


@pytest.fixture
def trained_study(tmp_path: Path, study: Path) -> tuple[Path, Network]:
    """Return a folder with one trial of random weights and learned ratios, and its network."""
    assert study  # its lock folder is used
    subject = TRAINED["threshold"]
    network = randomize(subject, 0)
    create_trained_study(tmp_path / "study", subject, network)
    return tmp_path / "study", network
