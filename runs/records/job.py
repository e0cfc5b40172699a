"""Jobs: what a worker trains, and the keys of its trials."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import Field

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.registry import DATA_SETS
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.subject import Subject, subject_digest
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.operation_registry import OPERATIONS
from partialnas.space.plugins import plugins_of
from partialnas.space.values import Value, digest


class Job(Value):
    """One network to train on one task with one or more seeds.

    Attributes:
        subject: network to train.
        task: task to learn.
        recipe: recipe; `fidelity` replaces its `epochs`.
        fidelity: epochs, with a complete schedule of this length.
        seeds: seeds, one trial each.
        rung: label of a lower rung of a search, for the record's reason; empty on the last rung.
        branches: whether the training resumes from the checkpoint that a shorter one left before
            its cool-down, and leaves one itself below the last rung. The result is the same.
    """

    subject: Subject
    task: Task
    recipe: Recipe
    fidelity: int = Field(ge=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    rung: str = ""
    branches: bool = False

    @property
    def trial_keys(self) -> dict[int, str]:
        """Key of the trial by seed."""
        settings = self.subject, self.task, self.recipe, self.fidelity
        return {seed: trial_key(*settings, seed) for seed in self.seeds}

    @property
    def trunk_epochs(self) -> int:
        """Epochs that it shares with longer training runs; 0 if it does not branch.

        A run with learned ratios never branches: the step at which the ratios freeze depends
        on its length.
        """
        learns = isinstance(self.subject, Architecture) and self.subject.learned is not None
        return self.recipe.trunk_epochs(self.fidelity) if self.branches and not learns else 0

    def trunk_key(self, seed: int) -> str:
        """Return the key of the epochs that runs of different lengths share."""
        return trial_key(self.subject, self.task, self.recipe, 0, seed)


def trial_key(subject: Subject, task: Task, recipe: Recipe, fidelity: int, seed: int) -> str:
    """Return the identity of a trial, 16 hex digits of everything that its result depends on."""
    learns = isinstance(subject, Architecture) and subject.learned is not None
    identity = {
        "subject": subject_digest(subject),
        "task": task.identity(),
        "recipe": recipe.identity(has_learned_ratios=learns),
        "fidelity": fidelity,
        "seed": seed,
    }
    plugins = plugins_of(_definitions(subject, task))
    return digest({**identity, "plugins": plugins} if plugins else identity)


def _definitions(subject: Subject, task: Task) -> Iterator[Callable[..., Any] | str]:
    """Yield what defines the operations of a subject and the data set of a task."""
    dataset = DATA_SETS.get(task.kind)
    if dataset is not None:
        yield dataset.load
    if isinstance(subject, Architecture):
        blocks = (block for stage in subject.realized for block in stage)
        for name in {part.op for block in blocks for part in block.parts}:
            yield OPERATIONS[name].module
