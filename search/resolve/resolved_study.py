"""A resolved study: the objects that the names in a study file refer to."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from partialnas.runs.config.design import Design, StudyStage
from partialnas.runs.config.overrides import PlainData
from partialnas.runs.config.recipe import Recipe
from partialnas.runs.datasets.task import Task, task_facts
from partialnas.runs.records.subject import Subject, subject_digest
from partialnas.search.ablation.compile import override_recipe
from partialnas.search.ablation.control_arms import ControlArm
from partialnas.search.study.fidelity import Condition
from partialnas.search.study.study import Study
from partialnas.space.arch.architecture import Architecture
from partialnas.space.search_space.space import Space


@dataclass(frozen=True)
class ResolvedStudy:
    """A study with all names resolved.

    Attributes:
        study: the study.
        conditions: conditions under which every arm is trained and timed; at least one.
        space: the search space, or None for a study of arms only.
        arms: subjects by name, in the study's order; those of an ablation come first.
        controls: arms with the ratios that another arm learns, by name.
        reference: the network that throughput is relative to.
        design: the compiled ablation, or None for a study without one.
        stage: the later stage to run instead of the study itself, if any.
        rungs: reduced fidelities of a search, cheapest first, without the last rung.
    """

    study: Study
    conditions: tuple[Condition, ...]
    space: Space | None
    arms: dict[str, Subject]
    controls: dict[str, ControlArm]
    reference: Subject
    design: Design | None = None
    stage: StudyStage | None = None
    rungs: tuple[Condition, ...] = ()

    @property
    def all_rungs(self) -> tuple[Condition, ...]:
        """All rungs of a search, including the last; a single one without `search.rungs`."""
        return (*self.rungs, self.conditions[0])

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of all rungs and conditions, each once; each is loaded once."""
        return tuple(dict.fromkeys(c.task for c in (*self.rungs, *self.conditions)))

    @property
    def data_sets(self) -> tuple[Task, ...]:
        """One task of each data set of the study."""
        return tuple({c.task.data: c.task for c in self.conditions}.values())

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """Pairs that are compared: arms with their baselines, or all arms with the first one."""
        if self.design is not None:
            return self.design.contrasts
        names = [*self.arms, *self.controls]  # empty in a search without arms
        return tuple((arm, names[0]) for arm in names[1:])

    def recipe_overrides(self, arm: str) -> PlainData:
        """Return the recipe settings of an arm that differ from the study's.

        A control arm has the settings of the arm that it is derived from.
        """
        origin = self.controls[arm].origin if arm in self.controls else arm
        design_arm = self.design.arm(origin) if self.design else None
        return design_arm.recipe if design_arm else {}

    def arm_condition(self, arm: str, condition: Condition) -> Condition:
        """Return a condition with the recipe settings of an arm applied."""
        recipe = override_recipe(condition.recipe, self.recipe_overrides(arm))
        return replace(condition, recipe=recipe)

    def recipes(self, condition: Condition) -> dict[str, Recipe]:
        """Return the recipes of trials under a condition by arm; `""` for proposed networks."""
        proposed = {"": condition.recipe} if self.space else {}
        arms = {name: self.arm_condition(name, condition).recipe for name in self.arms}
        return proposed | arms


def expected_trials(resolved: ResolvedStudy) -> int | None:
    """Return the number of trials of a study, or None if only hours limit it.

    A searched network is trained with all its seeds or not at all. With a seed rule, only the
    first seeds count. A training on any rung counts as a trial.
    """
    study = resolved.study
    arms, seeds = count_arm_trials(resolved), study.first_seeds
    if study.search is None:
        return arms
    budget = study.budget.trials
    if budget is None or resolved.rungs:
        return budget
    return arms + (budget - arms) // seeds * seeds


def count_arm_trials(resolved: ResolvedStudy) -> int:
    """Return the number of trials of the arms with their first seeds, duplicates counted once."""
    trained = {
        (subject_digest(subject), resolved.arm_condition(name, condition))
        for name, subject in resolved.arms.items()
        for condition in resolved.conditions
    }
    controls = len(resolved.controls) * len(resolved.conditions)
    return (len(trained) + controls) * resolved.study.first_seeds


def arm_notes(resolved: ResolvedStudy) -> Iterator[str]:
    """Yield notes on arms with the network of an earlier arm or without a cost-matched twin."""
    first: dict[tuple[str, Condition], str] = {}
    for name, arm in resolved.arms.items():
        condition = resolved.arm_condition(name, resolved.conditions[0])
        other = first.setdefault((subject_digest(arm), condition), name)
        if other != name:
            yield f"arms.{name} builds the same network as arms.{other}; trained only once"
    for design_arm in resolved.design.arms if resolved.design else ():
        if design_arm.matched and design_arm.matched.problem:
            problem = design_arm.matched.problem
            yield f"arm {design_arm.name} has no cost-matched twin: {problem}"


def data_notes(resolved: ResolvedStudy) -> Iterator[str]:
    """Yield what the readers of the study's data sets leave out or convert.

    A function in place of training reads its own data.
    """
    for task in resolved.data_sets if resolved.study.trial is None else ():
        yield from (f"data: {note}" for note in task_facts(task).notes)


def sample_space(space: Space | None, count: int) -> list[Architecture]:
    """Return random networks of a space, the same at every call; none without a space."""
    rng = random.Random(0)
    return [space.architecture(space.sample(rng)) for _ in range(count)] if space else []
