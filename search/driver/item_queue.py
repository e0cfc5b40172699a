"""The queue of a scheduler: jobs of one network that a worker trains side by side."""

from collections import deque
from itertools import islice

from partialnas.runs.records.job import Job
from partialnas.search.executors.tasks import Item


def next_item(queue: deque[Item], lanes: int) -> Item:
    """Remove the first item of a queue and return it.

    A job also gets the seeds of later jobs that differ from it in nothing else.

    Args:
        queue: items; at least one.
        lanes: largest number of seeds of a job.
    """
    first = queue.popleft()
    if not isinstance(first, Job) or lanes == 1:
        return first
    same = (item for item in queue if isinstance(item, Job) and _differ_in_seeds(first, item))
    others = [*islice(same, lanes - 1)]
    for other in others:
        _remove(queue, other)
    seeds = [seed for job in (first, *others) for seed in job.seeds]
    return first.model_copy(update={"seeds": tuple(seeds)})


def trial_count(item: Item) -> int:
    """Return how many trials or measurements an item is."""
    return len(item.seeds) if isinstance(item, Job) else 1


def _differ_in_seeds(job: Job, other: Job) -> bool:
    """Return whether two jobs of a study differ in nothing but their seeds.

    All jobs of a network hold the same object, so that most jobs differ without a comparison of
    architectures.
    """
    return (
        job.subject is other.subject
        and (job.task, job.recipe, job.fidelity) == (other.task, other.recipe, other.fidelity)
        and (job.rung, job.branches) == (other.rung, other.branches)
    )


def _remove(queue: deque[Item], item: Item) -> None:
    """Remove an item by its identity: comparing its contents with all others takes long."""
    index = next(number for number, other in enumerate(queue) if other is item)
    del queue[index]
