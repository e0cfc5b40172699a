"""Jobs: a network, a task, a recipe and the seeds to train it with; and the keys of its trials."""

from typing import Annotated

from pydantic import Field

from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task
from partialnas.runs.records.subject import Subject, subject_digest
from partialnas.space.arch.architecture import Architecture
from partialnas.space.values import Value, digest


class Job(Value):
    """One network to be trained on one task, once for each seed.

    Attributes:
        subject: what is trained.
        task: what it learns.
        recipe: how; its own `epochs` give way to the fidelity.
        fidelity: epochs, with a complete schedule of that length.
        seeds: one trial each.
        rung: of a search in several fidelities, what its record says of the rung below the last
            that it is on; empty where what it reaches is final.
        branches: whether it takes up the trunk that a shorter training has left, and below the
            last rung leaves its own; what it reaches is the same.
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
        """The key of each seed's trial."""
        return {
            seed: trial_key(self.subject, self.task, self.recipe, self.fidelity, seed)
            for seed in self.seeds
        }

    @property
    def trunk_epochs(self) -> int:
        """Epochs at its start that it shares with longer trainings; 0 where it does not branch.

        When learned ratios are fixed depends on the length of the training from the start.
        """
        learns = isinstance(self.subject, Architecture) and self.subject.learned is not None
        return self.recipe.trunk_epochs(self.fidelity) if self.branches and not learns else 0

    def trunk_key(self, seed: int) -> str:
        """What is equal for trainings of different lengths that share their trunk."""
        return trial_key(self.subject, self.task, self.recipe, 0, seed)


def trial_key(subject: Subject, task: Task, recipe: Recipe, fidelity: int, seed: int) -> str:
    """Identity of a trial: 16 hex digits of all that its result depends on, and nothing else."""
    learns = isinstance(subject, Architecture) and subject.learned is not None
    return digest(
        {
            "subject": subject_digest(subject),
            "task": task.identity(),
            "recipe": recipe.identity(has_learned_ratios=learns),
            "fidelity": fidelity,
            "seed": seed,
        }
    )
